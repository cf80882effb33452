"""What the recipe says of images: captions, and for each concept of the glossary names, frames and what it looks like.

The text encoder is frozen, so each distinct sentence is encoded once, before the first step; a text is from then on the
number of its row in one table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoglot.data.glossary import LANGUAGES, Concept, concepts, templates
from geoglot.errors import UnknownNameError
from geoglot.models.tokenizers.concepts import ConceptTokenizer

Encode = Callable[[list[str]], NDArray[np.float32]]
"""Sentences -> float32 [M, W]."""

PLACES = ("land_cover", "land_use", "object")
"""Kinds of concepts that an image can show."""
FORMS, FRAMES = 5, 5
"""Names of a concept in a language that are used, and frames around its first two names."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How one concept can be said.

    Attributes:
        names: English: bare names.
        framed: English: names in sentences.
        looks: English: what it looks like, without its name.
        foreign: In the nine other languages, bare and framed.
    """

    names: tuple[str, ...]
    framed: tuple[str, ...]
    looks: tuple[str, ...]
    foreign: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of them."""
        return self.names + self.framed + self.looks + self.foreign

    def draw(self, rng: np.random.Generator, foreign: float) -> str:
        """One at random: a name, a frame or looks, equally often; `foreign` is the share in another language."""
        if rng.random() < foreign:
            return self.foreign[rng.integers(len(self.foreign))]
        bank = (self.names, self.framed, self.looks)[rng.integers(3)]
        return bank[rng.integers(len(bank))]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The concepts that images show, numbered.

    Attributes:
        ids: Concept ids of the glossary.
        wordings: How each is said.
    """

    ids: tuple[str, ...]
    wordings: tuple[Wording, ...]

    def number(self, concept: str) -> int:
        """Raises UnknownNameError."""
        if concept not in self.ids:
            raise UnknownNameError("concept", concept, self.ids)
        return self.ids.index(concept)

    def mentioned(self, captions: Sequence[str], tokenizer: ConceptTokenizer) -> tuple[int, ...]:
        """Numbers of the concepts that captions name."""
        tokens = {token for caption in captions for token in tokenizer.read(caption, "en").tokens}
        names = {tokenizer.names[token] for token in tokens if token <= tokenizer.concepts}
        return tuple(sorted(self.ids.index(name) for name in names if name in self.ids))


def build_vocabulary(names: Sequence[str] = ()) -> Vocabulary:
    """Concepts of the glossary by their ids; without names all that are places or things.

    Raises:
        UnknownNameError: No such concept.
    """
    for name in names:
        if name not in concepts():
            raise UnknownNameError("concept", name, concepts())
    everything = [concept for concept in concepts().values() if concept.kind in PLACES]
    chosen = [concepts()[name] for name in names] or everything
    return Vocabulary(tuple(concept.id for concept in chosen), tuple(map(_wording, chosen)))


def _wording(concept: Concept) -> Wording:
    english = _forms(concept, "en")
    looks = (*concept.looks.fine, *concept.looks.coarse) or english
    foreign = [
        text for language in LANGUAGES if language != "en" for text in _said(_forms(concept, language), language)
    ]
    return Wording((*english, concept.gloss), tuple(_framed(english, "en")), looks, tuple(foreign))


def _forms(concept: Concept, language: str) -> tuple[str, ...]:
    whole = [form for form in concept.forms[language] if "*" not in form]
    return tuple(dict.fromkeys([concept.name(language), *whole]))[:FORMS]


def _framed(names: Sequence[str], language: str) -> list[str]:
    frames = templates()[language].image[:FRAMES]
    return [frame.replace("{c}", name) for name in names[:2] for frame in frames]


def _said(names: Sequence[str], language: str) -> list[str]:
    return [*names[:3], *_framed(names[:1], language)[:3]]


class SentenceTable:
    """Distinct sentences and their vectors.

    Args:
        sentences: Any order, repeated or not.
        encode: The frozen text encoder.
        cache: File that keeps the vectors; written anew when the sentences have changed.
    """

    def __init__(self, sentences: Iterable[str], encode: Encode, cache: Path) -> None:
        self.sentences = sorted(set(sentences))
        self._rows = {sentence: row for row, sentence in enumerate(self.sentences)}
        digest = hashlib.blake2b("\n".join(self.sentences).encode("utf-8", "surrogateescape")).hexdigest()
        self.vectors = _encoded(self.sentences, encode, digest, cache)

    def ids(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Rows of the table, [M, 1]: token rows of one token."""
        return np.array([[self._rows[text]] for text in texts], np.int64)


def _encoded(sentences: list[str], encode: Encode, digest: str, cache: Path) -> NDArray[np.float32]:
    if cache.is_file():
        with np.load(cache) as stored:
            if str(stored["digest"]) == digest:
                vectors: NDArray[np.float32] = stored["vectors"]
                return vectors
    vectors = encode(sentences)
    np.savez(cache, vectors=vectors, digest=np.array(digest))
    return vectors
