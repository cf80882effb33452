"""Sentences about drawn places in ten languages, from the templates and phrases of `captions.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

LANGUAGES = ("en", "es", "fr", "de", "pt", "it", "nl", "ru", "zh", "ko")
PER_LANGUAGE = 3


@cache
def phrases() -> dict[str, Any]:
    """The parsed `captions.toml`: tables `languages` and `concepts`."""
    return tomllib.loads(files("geoglot_sandbox").joinpath("captions.toml").read_text("utf-8"))


def named(concept: str, language: str, plural: bool = False) -> str:
    """The noun phrase of a concept: with its article, or the bare plural."""
    forms = phrases()["concepts"][concept][language]
    return str(forms[1] if plural else forms[0])


def describe(labels: Sequence[str], counts: Mapping[str, int], rng: Random) -> dict[str, tuple[str, ...]]:
    """Captions of a place.

    Args:
        labels: Concepts shown, the most prominent first.
        counts: How many objects of each class are visible.
        rng: Chooses templates.
    """
    return {language: _sentences(language, labels, counts, rng) for language in LANGUAGES}


def _sentences(language: str, labels: Sequence[str], counts: Mapping[str, int], rng: Random) -> tuple[str, ...]:
    words = phrases()["languages"][language]
    first = _subject(language, labels[0], counts.get(labels[0], 1))
    out = [str(rng.choice(words["one"])).format(a=first)]
    others = [name for name in labels[1:] if name != labels[0]]
    if others:
        second = _subject(language, rng.choice(others[:3]), 1)
        out.append(str(rng.choice(words["two"])).format(a=first, b=second))
    counted = [name for name, n in counts.items() if n >= 3]
    if counted:
        name = labels[0] if labels[0] in counted else rng.choice(counted)
        out.append(_capital(str(rng.choice(words["one"])).format(a=_subject(language, name, counts[name]))))
    while len(out) < PER_LANGUAGE:
        out.append(str(rng.choice(words["one"])).format(a=first))
    return tuple(_capital(text) for text in out)


def _subject(language: str, concept: str, count: int) -> str:
    """The phrase for one, three to nine (a numeral where the language allows it simply), or many."""
    words = phrases()["languages"][language]
    if count < 3:
        return named(concept, language)
    plural = named(concept, language, plural=True)
    numbers = words.get("numbers", [])
    if count - 3 < len(numbers):
        return f"{numbers[count - 3]} {plural}"
    return str(words["many"]).format(plural=plural)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def refer(concept: str, column: int, row: int) -> dict[str, str]:
    """A referring expression per language: the thing in one ninth of the picture; column and row in 0..2."""
    languages = phrases()["languages"]
    return {
        language: str(languages[language]["where"][row * 3 + column]).format(a=named(concept, language))
        for language in LANGUAGES
    }
