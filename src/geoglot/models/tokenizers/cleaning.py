"""Texts are cleaned before they are split into tokens, as the model's training texts were.

Facts: open_clip 3.3, tokenizer.py (`lower`, `whitespace`, `canonicalize`).

Every kind first mends encoding accidents (ftfy) and decodes HTML entities twice. ASCII that is printable and holds no
`&` cannot have either, so it skips both: importing ftfy takes longer than a short query.
"""

from __future__ import annotations

import html
import string
from collections.abc import Callable
from typing import Literal

from geoglot.errors import UsageError

Cleaning = Literal["lower", "whitespace", "canonicalize"]

_NO_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


def cleaner(kind: Cleaning) -> Callable[[str], str]:
    """The function that cleans texts: `lower` for CLIP's BPE, `whitespace` for XLM-R, `canonicalize` for SigLIP 2."""
    return {"lower": _lower, "whitespace": _whitespace, "canonicalize": _canonicalize}[kind]


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _whitespace(text: str) -> str:
    return " ".join(_mended(text).split())


def _canonicalize(text: str) -> str:
    """Lower case, without ASCII punctuation; an underscore is a space."""
    return " ".join(_mended(text).translate(_NO_PUNCTUATION).lower().split())


def _mended(text: str) -> str:
    if not isinstance(text, str):
        raise UsageError(f"a text must be a string, not {type(text).__name__}")
    return text if _is_plain(text) else _mended_slowly(text)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and "&" not in text


def _mended_slowly(text: str) -> str:
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()
