"""Where the next page begins, as a text that clients pass back unread."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from geoglot.errors import UsageError

DEEPEST = 10_000
"""Ranked matches that can be paged through, of each archive."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far an answer was given.

    Attributes:
        after: Without a question: archive's name -> the last chip that was given of it.
        offsets: With a question: archive's name -> how many matches were given of it.
        states: With a question: archive's name -> the state that was asked.
    """

    after: dict[str, str] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)


def write_token(place: Place) -> str:
    """As a text."""
    raw = json.dumps([place.after, place.offsets, place.states], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode("ascii").rstrip("=")


def read_token(text: str | None) -> Place:
    """Inverse of write_token; without a text the beginning.

    Raises:
        UsageError: Not a token of ours.
    """
    if not text:
        return Place()
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        after, offsets, states = json.loads(raw)
        place = Place(_checked(after, str), _checked(offsets, int), _checked(states, str))
        if not all(0 <= offset <= DEEPEST for offset in place.offsets.values()):
            raise ValueError("an offset is out of range")
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError("the token cannot be read", hint="Follow the `next` link as it is, or start anew.") from error
    return place


def _checked(raw: Any, kind: type) -> dict[str, Any]:
    if not isinstance(raw, dict) or not all(type(value) is kind for value in raw.values()):
        raise ValueError("a table of the token has the wrong type")
    return raw
