"""Text in ten languages -> the concepts of the glossary, as token ids.

A sentence is read as data/glossary/reading.py tells. What the glossary knows becomes a concept token, the same in every
language; English words that training saw often keep a token of their own; all else is dropped. So "planes at an
airport" and "aviones en un aeropuerto" become the same tokens, and a model that learned one understands the other.

Everything is frozen into one JSON file beside the model's weights: a later glossary cannot change an archive's meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.data.glossary import concepts
from geoglot.data.glossary.reading import END, Reading, Trie, glossary_tries, read_words
from geoglot.errors import EmptyQueryError, ModelFileError, UnknownWordsError
from geoglot.models.tokenizers.protocol import TokenRows

PAD = 0


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
        readings = [read_words(text, code, self.tries[code]) for code in ([language] if language else self.tries)]
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
        tries = glossary_tries({key: token for token, key in enumerate(concepts(), start=1)})
        words = [w for w in dict.fromkeys(english_words) if not read_words(w, "en", tries["en"]).covered]
        return cls(_with_words(tries, words, len(concepts()) + 1), ("", *concepts(), *words), len(concepts()))

    def respelled(self) -> ConceptTokenizer:
        """The same token ids with today's spellings of the glossary; concepts added since are left out."""
        tries = glossary_tries({key: token for token, key in enumerate(self.names[: self.concepts + 1]) if token})
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


def _with_words(tries: dict[str, Trie], words: Sequence[str], first: int) -> dict[str, Trie]:
    """Give English words outside the glossary their tokens, counted from `first`; the glossary's own forms win."""
    for token, word in enumerate(words, start=first):
        tries["en"].setdefault(word, {}).setdefault(END, token)
    return tries
