"""What an English caption says about left and right: may its picture be mirrored or turned, and what is true then?

A caption that says "a lake on the left" is false of the mirrored picture; swapped to "on the right" it is true. "Left"
and "right" have other senses, which must not be swapped ("what is left", "right now"), and some words cannot be:
"southern Spain" stays in the south. A caption is swapped only where a direction is surely meant; where that is in
doubt, or where no word would be true, the picture is not to be mirrored. Words and patterns: left_right.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

import regex

Span = tuple[int, int]


def mirrored(caption: str) -> str | None:
    """The caption that is true once its picture is mirrored left to right; None where that is not sure.

    Captions without such words come back as they are.
    """
    if _pattern("fixed").search(caption):
        return None
    if not _sides().search(caption):
        return caption  # nearly all captions, in a hundredth of the time
    meant, innocent = set(_meant(caption)), list(_innocent(caption))
    out, at = [], 0
    for match in _sides().finditer(caption):
        span = match.span()
        if span in meant or match[0].lower() not in ("left", "right"):
            out += [caption[at : span[0]], _opposite(match[0])]
            at = span[1]
        elif not _within(span, innocent):
            return None
    return "".join([*out, caption[at:]])


def says_direction(caption: str) -> bool:
    """Whether the caption may name a place in the picture or a direction: such a picture must not be turned."""
    if _pattern("fixed").search(caption) or any(_meant(caption)):
        return True
    innocent = list(_innocent(caption))
    words = (match.span() for pattern in (_sides(), _pattern("vertical")) for match in pattern.finditer(caption))
    return any(not _within(span, innocent) for span in words)


def _meant(caption: str) -> Iterator[Span]:
    """Where a left or right is surely a direction."""
    for pattern in _directions():
        for match in pattern.finditer(caption, overlapped=True):
            yield from match.spans("side")


def _innocent(caption: str) -> Iterator[Span]:
    return (match.span() for match in _pattern("innocent").finditer(caption))


def _within(span: Span, wholes: list[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in wholes)


@cache
def _words() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("left_right.toml").read_text("utf-8"))


@cache
def _opposites() -> dict[str, str]:
    """Of several opposites the first of the table."""
    out: dict[str, str] = {}
    for one, other in _words()["mirror"]:
        out.setdefault(one, other)
        out.setdefault(other, one)
    return out


@cache
def _sides() -> regex.Pattern[str]:
    return _whole_words(sorted(map(regex.escape, _opposites()), key=len, reverse=True))


@cache
def _pattern(name: str) -> regex.Pattern[str]:
    return _whole_words([_filled(words) for words in _words()[name]])


@cache
def _directions() -> list[regex.Pattern[str]]:
    return [regex.compile(rf"(?<!\w)(?:{_filled(pattern)})", regex.IGNORECASE) for pattern in _words()["meant"]]


def _whole_words(alternatives: list[str]) -> regex.Pattern[str]:
    return regex.compile(rf"\b(?:{'|'.join(alternatives)})(?!\w)", regex.IGNORECASE)


def _filled(pattern: str) -> str:
    """A pattern of the table with the lists that it names."""
    words = _words()
    pattern = pattern.replace("{close}", words["close"]).replace("{side}", r"\b(?P<side>left|right)\b")
    for name in ("degree", "place", "thing", "turning", "manner"):
        pattern = pattern.replace(f"{{{name}}}", f"(?:{'|'.join(words[name])})")
    return pattern


def _opposite(word: str) -> str:
    other = _opposites()[word.lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
