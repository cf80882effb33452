"""What a caption says about left and right: may its picture be mirrored or turned, and what is true of it then?

A caption that says "a lake on the left" is false of the mirrored picture; swapped to "on the right" it is true. Compass
words speak of the world and cannot be swapped: "southern Spain" stays in the south. Words: directions.toml.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any


def mirrored(caption: str) -> str | None:
    """What the caption must say once its picture is mirrored left to right; None where no wording is true.

    Captions without such words come back as they are.
    """
    told = [match for match in _pattern().finditer(caption) if match["innocent"] is None]
    if any(match["compass"] for match in told):
        return None
    return _pattern().sub(_swap, caption)


def says_direction(caption: str) -> bool:
    """Whether the caption names a place in the picture or a direction: such a picture must not be turned."""
    return any(match["innocent"] is None for match in _pattern().finditer(caption))


@cache
def _words() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("left_right.toml").read_text("utf-8"))


@cache
def _swaps() -> dict[str, str]:
    out: dict[str, str] = {}
    for one, other in _words()["mirror"]:
        out.setdefault(one, other)
        out.setdefault(other, one)
    return out


@cache
def _pattern() -> re.Pattern[str]:
    """The longest phrase wins, and innocent ones come first."""
    groups = []
    for name in ("innocent", "compass", "mirror", "vertical"):
        phrases = sorted(_swaps() if name == "mirror" else _words()[name], key=len, reverse=True)
        groups.append(f"(?P<{name}>{'|'.join(map(re.escape, phrases))})")
    return re.compile(rf"\b(?:{'|'.join(groups)})\b", re.IGNORECASE)


def _swap(match: re.Match[str]) -> str:
    found = match[0]
    if match["mirror"] is None:
        return found
    other = _swaps()[found.lower()]
    if found.isupper():
        return other.upper()
    return other.capitalize() if found[0].isupper() else other
