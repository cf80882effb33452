"""Texts in ten languages, read as concepts of the glossary.

A text is read word by word against one trie per language; the longest phrase wins. The language is the one whose trie
covers most letters of the text; English wins ties.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from geoglot.data.glossary import LANGUAGES, PLACES, Concept, concepts, templates

END = ""
"""The key under which a trie node keeps its token."""
NOISE = -1
"""The token of words that carry no content."""
_WORD = re.compile(r"\w+", re.UNICODE)
_HAN = re.compile(r"[\u3400-\u9fff]")
_PREFIX_LANGUAGES = frozenset({"ko"})  # particles follow the noun without a space
_PARTICLES = frozenset("은는이가을를의에서로으와과도들만")  # all that may follow a Korean noun of one syllable
_MIN_STEM = 2

Trie = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a text was understood.

    Attributes:
        language: The language whose words cover most of the text.
        tokens: Ids in reading order.
        covered: Letters that were understood, noise words included.
        unknown: Words that were not.
    """

    language: str
    tokens: tuple[int, ...]
    covered: int
    unknown: tuple[str, ...]


def concept_of(text: str) -> Concept | None:
    """The one thing that a text names, in any language: "a satellite photo of large forests" names a forest.

    None where the text names several things or none, is mostly unknown, or says "without": then no single look stands
    for it. Attributes, colours, numbers and a few unknown words may stand beside the name.
    """
    tries = _tries()
    reading = max((read_words(text, code, tries[code]) for code in LANGUAGES), key=lambda r: r.covered)
    named = [tuple(concepts().values())[token] for token in reading.tokens]
    things = {concept.id: concept for concept in named if concept.kind in PLACES}
    if len(things) != 1 or any(concept.id == "without" for concept in named):
        return None
    return next(iter(things.values())) if reading.covered >= sum(map(len, reading.unknown)) else None


@cache
def _tries() -> dict[str, Trie]:
    return glossary_tries({key: number for number, key in enumerate(concepts())})


def glossary_tries(ids: Mapping[str, int]) -> dict[str, Trie]:
    """One trie a language over the glossary's forms of these concepts, and the words that carry no content."""
    tries = {}
    for language in LANGUAGES:
        forms = [(form, ids[c.id]) for c in concepts().values() if c.id in ids for form in c.forms[language]]
        tries[language] = build_trie(forms + [(phrase, NOISE) for phrase in templates()[language].noise])
    return tries


def words_of(text: str) -> list[str]:
    """Lower-case words; a Chinese character is a word of its own."""
    words: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower().replace("_", " ")):
        words += list(word) if _HAN.search(word) else [word]
    return words


def read_words(text: str, language: str, trie: Trie) -> Reading:
    """Understand one text in one language."""
    words = words_of(text)
    tokens: list[int] = []
    unknown: list[str] = []
    covered = at = 0
    while at < len(words):
        found = _longest(words, at, trie, language in _PREFIX_LANGUAGES)
        if found is None:
            unknown.append(words[at])
            at += 1
            continue
        length, token = found
        covered += sum(len(word) for word in words[at : at + length])
        if token != NOISE:
            tokens.append(token)
        at += length
    return Reading(language, tuple(tokens), covered, tuple(unknown))


def _longest(words: list[str], at: int, node: Trie, open_end: bool) -> tuple[int, int] | None:
    """(words used, token) of the longest phrase from `at` on that continues this node; None if there is none."""
    best = (0, int(node[END])) if END in node else None
    if at < len(words):
        for child in _children(words[at], node, open_end):
            found = _longest(words, at + 1, child, open_end)
            if found and (best is None or found[0] + 1 > best[0]):
                best = (found[0] + 1, found[1])
    return best


def _children(word: str, node: Trie, open_end: bool) -> Iterable[Trie]:
    """Nodes that this word leads to, the most specific pattern first."""
    if word in node:
        yield node[word]
    for size in range(len(word), _MIN_STEM - 1, -1):
        if (key := word[:size] + "*") in node:
            yield node[key]
        if (key := "*" + word[-size:]) in node:
            yield node[key]
    if open_end:
        for size in range(len(word) - 1, 0, -1):
            if (key := word[:size]) in node and (size >= _MIN_STEM or set(word[size:]) <= _PARTICLES):
                yield node[key]


def build_trie(forms: Iterable[tuple[str, int]]) -> Trie:
    """Phrases with their tokens -> a trie; the first owner of a phrase keeps it."""
    trie: Trie = {}
    for form, token in forms:
        node = trie
        for word in _pattern_words(form):
            node = node.setdefault(word, {})
        if node is not trie:
            node.setdefault(END, token)
    return trie


def _pattern_words(form: str) -> list[str]:
    """As `words_of`, but stars stay at the ends of their words."""
    parts: list[str] = []
    for piece in unicodedata.normalize("NFKC", form).lower().split():
        words = words_of(piece.strip("*"))
        if not words:
            continue
        if piece.startswith("*"):
            words[0] = "*" + words[0]
        if piece.endswith("*"):
            words[-1] += "*"
        parts += words
    return parts
