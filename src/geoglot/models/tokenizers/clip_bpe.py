"""CLIP's byte-pair vocabulary, from whichever file a model brings.

The list of merges is the whole vocabulary: 256 bytes, the same 256 at a word's end, one token a merge, then the two
special tokens (OpenAI's numbering, 49,408 tokens with its 48,894 merges). So every file is reduced to its merges, and
one that also states ids is checked against this numbering.

Words are found by the `regex` package with CLIP's pattern, as open_clip does it, because another engine knows another
version of Unicode; the merging itself runs in Rust.
"""

from __future__ import annotations

import gzip
import json
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoglot.errors import ModelFileError
from geoglot.models.tokenizers.cleaning import cleaner
from geoglot.models.tokenizers.subword import Specials, SubwordTokenizer

if TYPE_CHECKING:
    import regex

Merges = list[tuple[str, str]]

SPECIAL = ("<start_of_text>", "<end_of_text>")
_HUB_SPECIAL = ("<|startoftext|>", "<|endoftext|>")  # the names in vocab.json and tokenizer.json of the hub
_WORD_END = "</w>"
_FIXED = 514  # 2 x 256 bytes, 2 special tokens
_RELEASED = 49_408  # tokens of every released CLIP; OpenAI's file holds five times the merges that are used
# CLIP, simple_tokenizer.py: contractions, letters, single digits, runs of anything else that is not space
_PATTERN = "|".join(SPECIAL) + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def read_clip_bpe(path: Path, context: int = 77, vocabulary: int = _RELEASED) -> SubwordTokenizer:
    """A CLIP tokenizer.

    Args:
        path: OpenAI's merges (`.txt`, `.txt.gz`), `vocab.json` with `merges.txt` beside it, or `tokenizer.json`.
        context: T, 77, or 248 for Long-CLIP.
        vocabulary: Rows of the text tower's token table.

    Raises:
        ModelFileError: The file cannot be read, or does not make this vocabulary.
    """
    merges = _read_merges(path, vocabulary - _FIXED)
    if len(merges) != vocabulary - _FIXED:
        raise ModelFileError(
            f"{path.name} makes {len(merges) + _FIXED} tokens; the text tower has {vocabulary}",
            hint="Use the tokenizer file that belongs to these weights.",
        )
    specials = Specials(start=(vocabulary - 2,), end=vocabulary - 1, pad=0)
    return SubwordTokenizer(_engine(merges, path), _words, specials, context, vocabulary, split=True)


def write_merges(source: Path, target: Path, vocabulary: int = _RELEASED) -> None:
    """Any file that `read_clip_bpe` reads -> plain merges, the quickest to open."""
    lines = ["#version: 0.2", *(" ".join(pair) for pair in _read_merges(source, vocabulary - _FIXED))]
    target.write_text("\n".join(lines) + "\n", "utf-8")


def byte_letters() -> list[str]:
    """The letter that stands for each byte, in the vocabulary's order: first the 188 bytes that print as themselves.

    Source: GPT-2's encoder.py, which CLIP took over; the other 68 bytes are U+0100 and on.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = len(set(range(256)) - set(plain))
    return [*map(chr, plain), *(chr(0x100 + n) for n in range(others))]


def vocabulary_of(merges: Merges) -> dict[str, int]:
    """Token -> id; where two merges make one token, the later id, as in open_clip."""
    letters = byte_letters()
    tokens = [*letters, *(letter + _WORD_END for letter in letters), *map("".join, merges), *SPECIAL]
    return {token: number for number, token in enumerate(tokens)}


@cache
def _pattern() -> regex.Pattern[str]:
    import regex

    return regex.compile(_PATTERN, regex.IGNORECASE)


def _words(text: str) -> list[str]:
    words: list[str] = _pattern().findall(cleaner("lower")(text))
    return words


def _engine(merges: Merges, path: Path) -> Any:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    try:
        model = models.BPE(vocab=vocabulary_of(merges), merges=merges, end_of_word_suffix=_WORD_END)
    except Exception as error:
        raise ModelFileError(f"the merges of {path} contradict each other: {error}") from error
    engine = Tokenizer(model)
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    # A word that is written like a special token is that token, as in open_clip: `_words` keeps it in one piece.
    engine.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return engine


def _read_merges(path: Path, most: int) -> Merges:
    try:
        if path.suffix == ".json":
            return _merges_of_json(path, json.loads(path.read_text("utf-8")))
        body = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return _parse(body.decode("utf-8"))[:most]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a CLIP tokenizer file: {error!r}") from error


def _parse(text: str) -> Merges:
    """Lines of two symbols; the first line is a header."""
    lines = (line.split() for line in text.split("\n")[1:] if line)
    return [(left, right) for left, right in lines]


def _merges_of_json(path: Path, body: Any) -> Merges:
    """`tokenizer.json` holds both; `vocab.json` has its merges beside it. Stated ids must be the ones that follow."""
    model = body.get("model")
    if model is None:
        vocab, merges = body, _parse((path.parent / "merges.txt").read_text("utf-8"))
    else:
        pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        vocab, merges = model["vocab"], [(left, right) for left, right in pairs]
    ours = vocabulary_of(merges)
    renamed = {dict(zip(_HUB_SPECIAL, SPECIAL, strict=True)).get(token, token): n for token, n in vocab.items()}
    if wrong := sorted(token for token, number in renamed.items() if ours.get(token) != number):
        raise ValueError(f"{len(wrong)} ids are not CLIP's, the first is that of {wrong[0]!r}")
    return merges
