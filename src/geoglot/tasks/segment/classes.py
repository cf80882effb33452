"""The classes that a map shall have: their names, their words, and what speaks against them, as vectors.

A class is asked for as `building,roof`: synonyms, of which the first is its name. The vector of a word is the mean of
its templates' unit vectors, made a unit vector again (Radford et al. 2021, section 3.1.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.models.encoder import DualEncoder, Vectors

MAX_CLASSES = 254
"""A pixel is one byte: 0 is background and 255 nodata."""

TEMPLATES = ("{c}", "a satellite photo of {c}.", "an aerial image of {c}.")

AUTO = "auto"
"""As a background: the words of `others` that mean none of the classes."""

OTHERS = (
    "water", "sea", "river", "lake", "beach", "forest", "tree", "grassland", "farmland", "orchard", "bare land", "sand",
    "rock", "mountain", "snow", "cloud", "shadow", "building", "house", "residential area", "industrial area", "road",
    "parking lot", "car", "railway", "airplane", "runway", "ship", "harbor", "bridge", "swimming pool", "sports field",
    "playground", "storage tank", "solar panel", "greenhouse", "wetland", "garden", "square", "construction site",
)  # fmt: skip
"""What may be there instead, for a model whose card names no background prompts."""


@dataclass(frozen=True, slots=True)
class AskedClass:
    """One class.

    Attributes:
        name: For people and for legends.
        words: Synonyms, at least one.
    """

    name: str
    words: tuple[str, ...]


def read_classes(asked: Sequence[str]) -> tuple[AskedClass, ...]:
    """Classes from texts such as `building,roof`.

    Raises:
        UsageError: None or too many, an empty word, or a word that is given twice.
    """
    if not asked:
        raise UsageError("no class is given", hint='Name what to map: --class "building,roof" --class water')
    if len(asked) > MAX_CLASSES:
        raise UsageError(f"{len(asked)} classes are given; a map holds at most {MAX_CLASSES}", hint="Ask for fewer.")
    classes = tuple(_read_class(text) for text in asked)
    seen: dict[str, str] = {}
    for one in classes:
        for word in one.words:
            if (known := word.casefold()) in seen:
                raise UsageError(f"the word {word!r} is given twice, for {seen[known]!r} and {one.name!r}", hint=_ONCE)
            seen[known] = one.name
    return classes


_ONCE = "A word can stand for one class only, and once."


def _read_class(text: str) -> AskedClass:
    words = tuple(part.strip() for part in text.split(","))
    if not all(words):
        raise UsageError(f"the class {text!r} has an empty word", hint='Write it like this: --class "building,roof"')
    return AskedClass(words[0], words)


@dataclass(frozen=True, slots=True)
class Prompts:
    """What patches are compared with. K classes, Q words of theirs, M other words, D dimensions.

    Attributes:
        words: float32 [Q, D], unit.
        owners: [Q], the class of each word, ascending.
        background: float32 [B, D], unit: the words of the background; B = 0 for a map without one.
        others: float32 [M, D], unit: what may be there instead of a class; for presence.
        counts: bool [K, M], whether another word counts against a class: not where it means nearly the same.
    """

    words: Vectors
    owners: NDArray[np.int64]
    background: Vectors
    others: Vectors
    counts: NDArray[np.bool_]

    @property
    def classes(self) -> int:
        """K."""
        return len(self.counts)


def make_prompts(
    encoder: DualEncoder,
    classes: Sequence[AskedClass],
    background: Sequence[str] | None,
    templates: Sequence[str] = TEMPLATES,
) -> Prompts:
    """Encode all words.

    Args:
        encoder: The model.
        classes: At least one.
        background: Words, (AUTO,) for whatever the model knows besides the classes, or None.
        templates: `{c}` is the word.

    Raises:
        UsageError: A template without `{c}`, or none.
        UnknownWordsError: A word that the model does not know.
    """
    if not templates or any("{c}" not in template for template in templates):
        raise UsageError(f"templates {tuple(templates)} must hold {{c}}, the place of the word, and be at least one")
    texts = [word for one in classes for word in one.words]
    owners = np.repeat(np.arange(len(classes)), [len(one.words) for one in classes])
    words = word_vectors(encoder, texts, templates)
    others = word_vectors(encoder, encoder.card.background or OTHERS, templates)
    alike = words @ others.T >= encoder.card.calibration.alike  # [Q, M]
    counts = np.stack([~alike[owners == number].any(axis=0) for number in range(len(classes))])
    if background is None:
        chosen = others[:0]
    elif tuple(background) == (AUTO,):
        chosen = others[counts.all(axis=0)]
    else:
        chosen = word_vectors(encoder, background, templates)
    return Prompts(words, owners, chosen, others, counts)


def word_vectors(encoder: DualEncoder, words: Sequence[str], templates: Sequence[str]) -> Vectors:
    """float32 [N, D], unit. A word is asked for bare, too, so that an unknown one does not hide behind a template."""
    if tuple(templates) != ("{c}",):
        encoder.encode_texts(list(words))
    prompts = [template.replace("{c}", word) for word in words for template in templates]
    means = encoder.encode_texts(prompts).reshape(len(words), len(templates), -1).mean(axis=1)
    unit: Vectors = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return unit


def best_of(scores: NDArray[np.float32], owners: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores of words [..., Q] to those of classes [..., K]: the best synonym speaks for its class."""
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    return np.maximum.reduceat(scores, firsts, axis=-1)
