"""Long captions: whole sentences, drawn at random, until the context is full.

A text tower drops what does not fit its context, so the end of every long caption would never be read. Drawing
sentences anew for each epoch lets training read all of them (FarSLIP and GAIA have captions above 77 tokens).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from geoglot.models.tokenizers.protocol import Tokenizer

_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")


def sentences(text: str) -> list[str]:
    """Split after full stops, question and exclamation marks (Chinese ones too) and at line ends."""
    return [part.strip() for part in _BREAK.split(text) if part.strip()]


def sample_sentences(texts: Sequence[str], tokenizer: Tokenizer, seed: int) -> list[str]:
    """Texts that fit stay as they are; of the others, random whole sentences in their own order.

    What is drawn depends on seed and text only, not on the texts beside it. A text of which no sentence fits stays as
    it is, and the tokenizer cuts it.
    """
    long = tokenizer.truncated(texts)
    return [_drawn(text, tokenizer, seed) if cut else text for text, cut in zip(texts, long, strict=True)]


def _drawn(text: str, tokenizer: Tokenizer, seed: int) -> str:
    parts = sentences(text)
    order = np.random.default_rng((seed, zlib.crc32(text.encode("utf-8", "replace")))).permutation(len(parts))
    kept: list[int] = []
    for index in order:
        tried = sorted([*kept, int(index)])
        if not tokenizer.truncated([" ".join(parts[i] for i in tried)])[0]:
            kept = tried
    return " ".join(parts[i] for i in kept) or text
