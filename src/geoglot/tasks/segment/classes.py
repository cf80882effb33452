"""The classes of a map: their names, their words as vectors, and whether the picture shows them at all.

A class is asked for as `building,roof`: synonyms, of which the first is its name; or with a name of its own, as
`Siedlung: building, roof`. The vector of a word is the mean of its templates' unit vectors, made a unit vector again
(Radford et al. 2021, section 3.1.4).

**Presence** is what a class's best patches score against everything else that could be there. Of every patch p that
holds data, a class with the best synonym's cosine c(p) has the margin (geoglot.scoring.calibration)

    margin(p) = T c(p) - log sum_j exp(T p·b_j)          over the other words b_j that do not mean nearly the same

and z = (margin - mean) / std over the margins that these other words get on the scene's own patches, each against the
rest. So haze, a sensor or a drab scene move both alike. The presence of a class is its z at the scene's best patches
(the quantile 1 - TOP), through the model's logistic curve. Only a few patches of a present class need to be sure; an
absent one has to convince none. Margins are counted in bins, so memory does not depend on the scene.

How well it works, with geoglot-mini 1 and windows of 224 px: for the ten objects of 40 VHR-10 training images the area
under the curve is 0.94 (0.5 keeps nine in ten that are there and refuses four in five that are not); for the five land
covers of Dubai's tile 1 it is 0.66, and words as broad as "land" or "vegetation" stay below 0.3 where they are:
narrower words speak against them. So the settings' own threshold is low, and only leaves out what is certainly absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.models.encoder import DualEncoder, Vectors
from geoglot.scoring.calibration import SMALLEST_STD, chance, log_odds
from geoglot.types import Calibration

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
"""Words for other things that a picture may show, for a model whose card names no background prompts."""


TOP = 0.01
"""Share of the scene's patches that a class must hold to be sure of its presence."""

LOWEST, HIGHEST, BINS = -40.0, 40.0, 3200
EVERY = 4
"""The other words' own margins are measured on every so many-th patch."""


@dataclass(frozen=True, slots=True)
class AskedClass:
    """One class.

    Attributes:
        name: For people: of the map's value, in legends and polygons.
        words: Synonyms, at least one.
    """

    name: str
    words: tuple[str, ...]


def read_classes(classes: Sequence[str | AskedClass]) -> tuple[AskedClass, ...]:
    """Classes from texts such as `building,roof` or `Siedlung: building, roof`; ready-made ones stay as they are.

    Raises:
        UsageError: None or too many, an empty name or word, or a name or a word that is given twice.
    """
    if not classes:
        raise UsageError("no class is given", hint='Name what to map: --class "building,roof" --class water')
    if len(classes) > MAX_CLASSES:
        raise UsageError(f"{len(classes)} classes are given; a map holds at most {MAX_CLASSES}", hint="Ask for fewer.")
    ready = tuple(_checked(one if isinstance(one, AskedClass) else _read_class(one), one) for one in classes)
    owners: dict[str, str] = {}
    for one in ready:
        for word in one.words:
            if (key := word.casefold()) in owners:
                raise UsageError(f"the word {word!r} is given twice, for {owners[key]!r} and {one.name!r}", hint=_ONCE)
            owners[key] = one.name
    names = [one.name.casefold() for one in ready]
    if twice := next((one.name for one in ready if names.count(one.name.casefold()) > 1), None):
        raise UsageError(f"two classes are called {twice!r}", hint="Give each a name of its own.")
    return ready


_SYNTAX = 'Write it like this: "building,roof", or with a name: "Town: building,roof"'
_ONCE = "A word can stand for one class only, and once."


def _read_class(text: str) -> AskedClass:
    name, colon, words = text.partition(":") if ":" in text else ("", "", text)
    parts = tuple(part.strip() for part in words.split(","))
    return AskedClass(name.strip() if colon else parts[0], parts)


def _checked(one: AskedClass, given: str | AskedClass) -> AskedClass:
    if not one.words or not all(word.strip() for word in one.words):
        raise UsageError(f"the class {given!r} has an empty word", hint=_SYNTAX)
    if not one.name.strip():
        raise UsageError(f"the class {given!r} has an empty name", hint=_SYNTAX)
    return one


@dataclass(frozen=True, slots=True)
class Prompts:
    """Vectors of words that patches are compared with. K classes, Q words of theirs, M other words, D dimensions.

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
    """Scores of words [..., Q] to those of classes [..., K]: a class has the score of its best synonym."""
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    return np.maximum.reduceat(scores, firsts, axis=-1)


class Presence:
    """Gathers patches; ask `scores` at the end.

    Args:
        prompts: The words.
        temperature: T.
        calibration: Of the model: what means the same, and the logistic curve.
    """

    def __init__(self, prompts: Prompts, temperature: float, calibration: Calibration) -> None:
        self._counts = prompts.counts.T.astype(np.float32)  # [M, K]
        alike = prompts.others @ prompts.others.T >= calibration.alike
        self._usual = (~alike).astype(np.float32)
        self._temperature, self._calibration = temperature, calibration
        self._bins = np.zeros((prompts.classes, BINS), np.int64)
        self._moments = np.zeros(3)  # count, sum, sum of squares

    def add(self, classes: Vectors, others: Vectors) -> None:
        """Cosines of patches: [P, K] with the classes, [P, M] with the other words."""
        if not len(classes):
            return
        margins = log_odds(classes, others, self._counts, self._temperature)
        bins = ((margins - LOWEST) * (BINS / (HIGHEST - LOWEST))).clip(0, BINS - 1).astype(np.int64)
        for row, column in zip(self._bins, bins.T, strict=True):
            row += np.bincount(column, minlength=BINS)
        rest = others[::EVERY]
        usual = log_odds(rest, rest, self._usual, self._temperature).astype(np.float64)
        self._moments += usual.size, usual.sum(), np.square(usual).sum()

    def scores(self) -> NDArray[np.float64]:
        """Presence in [0, 1] of each class, [K]; 0 where no patch held data."""
        return chance(self.standard(), self._calibration)

    def standard(self) -> NDArray[np.float64]:
        """z of each class at the scene's best patches, [K]; -inf where no patch held data."""
        patches = self._bins[0].sum()
        if not patches:
            return np.full(len(self._bins), -np.inf)
        count, total, squares = self._moments
        mean = total / count
        std = max(float(np.sqrt(max(squares / count - mean**2, 0.0))), SMALLEST_STD)
        above = self._bins[:, ::-1].cumsum(axis=1)  # how many lie at or above each bin, from the highest down
        needed = max(1, round(TOP * patches))
        best = BINS - 1 - (above >= needed).argmax(axis=1)
        margin = LOWEST + (best + 0.5) * (HIGHEST - LOWEST) / BINS
        return np.asarray((margin - mean) / std)
