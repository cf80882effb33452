"""Text in ten languages -> the concepts of the glossary, as token ids.

A sentence is read word by word against one trie per language; the longest phrase wins. What the glossary knows
becomes a concept token, the same in every language; English words that training saw often keep a token of their own;
all else is dropped. So "planes at an airport" and "aviones en un aeropuerto" become the same tokens, and a model that
learned one understands the other. The language is the one whose trie covers most letters of the text.

Everything is frozen into one JSON file beside the model's weights: a later glossary cannot change an archive's meaning.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.data.glossary import LANGUAGES, concepts, templates
from geoglot.errors import EmptyQueryError, ModelFileError, UnknownWordsError
from geoglot.models.tokenizers.protocol import TokenRows

PAD = 0
_END = ""  # the key under which a trie node keeps its token
_NOISE = -1  # the token of words that carry no content
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


@dataclass(frozen=True, slots=True)
class ConceptTokenizer:
    """Reads texts; immutable.

    Attributes:
        tries: Language -> trie.
        names: Token id -> concept id or word; names[0] is padding.
        concepts: How many tokens from id 1 on are concepts; the rest are English words.
        context: T, tokens of a row; further ones are cut.
        unlearned: Tokens that training never met; a query is read without them.
    """

    tries: dict[str, Trie]
    names: tuple[str, ...]
    concepts: int
    context: int = 24
    unlearned: frozenset[int] = frozenset()

    @property
    def vocabulary(self) -> int:
        """Number of token ids, padding included."""
        return len(self.names)

    def read(self, text: str, language: str | None = None) -> Reading:
        """Understand one text; English wins ties.

        Args:
            text: Any string.
            language: Skip the detection.
        """
        readings = [_read(text, code, self.tries[code]) for code in ([language] if language else self.tries)]
        return max(readings, key=lambda r: r.covered)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """M texts -> token ids [M, T], padded with 0.

        Raises:
            EmptyQueryError: A text is empty or blank.
            UnknownWordsError: Nothing in a text is known.
        """
        return self.rows(texts).ids

    ids = __call__

    def rows(self, texts: Sequence[str]) -> TokenRows:
        """As `ids`, with the length of each text."""
        ids = np.zeros((len(texts), self.context), np.int64)
        read = [self.known(text).tokens for text in texts]
        for row, tokens in zip(ids, read, strict=True):
            row[: len(tokens)] = tokens[: self.context]
        return TokenRows(ids, np.array([len(tokens) for tokens in read], np.int64))

    def truncated(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """[M], whether a text is longer than the context."""
        return self.rows(texts).truncated

    def known(self, text: str) -> Reading:
        """As `read`, but a text that says nothing is an error."""
        if not text.strip():
            raise EmptyQueryError("the text is empty", hint="Say what to look for, for example: boats in a harbour")
        reading = self.read(text)
        learned = tuple(token for token in reading.tokens if token not in self.unlearned)
        if learned:
            return replace(reading, tokens=learned)
        if reading.tokens:
            never = ", ".join(self.names[token].replace("_", " ") for token in reading.tokens)
            raise UnknownWordsError(
                f"{text!r} is understood ({never}), but this model has never seen one",
                hint="Ask for something related, or use a model with more training data.",
            )
        raise UnknownWordsError(
            f"no word of {text!r} is known to this model",
            hint=f"It reads words for places and things in: {' '.join(self.tries)}. Try a simpler noun.",
        )

    def save(self, path: Path) -> None:
        """Write as JSON."""
        sizes = {"concepts": self.concepts, "context": self.context}
        body: dict[str, Any] = {"names": self.names, **sizes, "tries": self.tries}
        body["unlearned"] = sorted(self.unlearned)
        path.write_text(json.dumps(body, ensure_ascii=False, separators=(",", ":")), "utf-8")

    @classmethod
    def from_glossary(cls, english_words: Iterable[str] = ()) -> ConceptTokenizer:
        """Freeze today's glossary; `english_words` outside it get tokens of their own.

        Args:
            english_words: Single words; those that the glossary knows already are left out.
        """
        tries = _glossary_tries({key: token for token, key in enumerate(concepts(), start=1)})
        words = [w for w in dict.fromkeys(english_words) if not _read(w, "en", tries["en"]).covered]
        return cls(_with_words(tries, words, len(concepts()) + 1), ("", *concepts(), *words), len(concepts()))

    def respelled(self) -> ConceptTokenizer:
        """The same token ids with today's spellings of the glossary; concepts added since are left out."""
        tries = _glossary_tries({key: token for token, key in enumerate(self.names[: self.concepts + 1]) if token})
        words = self.names[self.concepts + 1 :]
        return replace(self, tries=_with_words(tries, words, self.concepts + 1))

    @classmethod
    def load(cls, path: Path) -> ConceptTokenizer:
        """Read what `save` wrote.

        Raises:
            ModelFileError: Not such a file.
        """
        try:
            body = json.loads(path.read_text("utf-8"))
            sizes = int(body["concepts"]), int(body["context"])
            return cls(body["tries"], tuple(body["names"]), *sizes, frozenset(body["unlearned"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{path} is not a tokenizer file: {error!r}") from error


def _glossary_tries(ids: dict[str, int]) -> dict[str, Trie]:
    """One trie a language over the glossary's forms of these concepts, and the words that carry no content."""
    tries = {}
    for language in LANGUAGES:
        forms = [(form, ids[c.id]) for c in concepts().values() if c.id in ids for form in c.forms[language]]
        tries[language] = build_trie(forms + [(phrase, _NOISE) for phrase in templates()[language].noise])
    return tries


def _with_words(tries: dict[str, Trie], words: Sequence[str], first: int) -> dict[str, Trie]:
    """Give English words outside the glossary their tokens, counted from `first`; the glossary's own forms win."""
    for token, word in enumerate(words, start=first):
        tries["en"].setdefault(word, {}).setdefault(_END, token)
    return tries


def words_of(text: str) -> list[str]:
    """Lower-case words; a Chinese character is a word of its own."""
    words: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower().replace("_", " ")):
        words += list(word) if _HAN.search(word) else [word]
    return words


def _read(text: str, language: str, trie: Trie) -> Reading:
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
        if token != _NOISE:
            tokens.append(token)
        at += length
    return Reading(language, tuple(tokens), covered, tuple(unknown))


def _longest(words: list[str], at: int, node: Trie, open_end: bool) -> tuple[int, int] | None:
    """(words used, token) of the longest phrase from `at` on that continues this node; None if there is none."""
    best = (0, int(node[_END])) if _END in node else None
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
            node.setdefault(_END, token)
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
