"""Words to a class map: open-vocabulary segmentation of a picture of any size, without training.

    picture -> windows -> patches -> cosines with words -> blended scores -> who is there -> class of each pixel

The method is that of SegEarth-OV (arXiv 2410.01768) and its relatives: patch features in the texts' space against the
classes' words. Ours are the blending, the presence of classes, and the memory, which does not follow the picture's
height. Any model that tells the places of an image apart will do (models/encoder.py, DenseEncoder).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoglot.models.encoder import DenseEncoder
from geoglot.pipeline import Stages
from geoglot.tasks.segment.classes import AUTO, AskedClass, Presence, Prompts, make_prompts, read_classes
from geoglot.tasks.segment.decision import NODATA, Decided, Refiner, Rule, decided_blocks, pixel_scores
from geoglot.tasks.segment.scores import AHEAD_BYTES, PatchScorer, ScoreMap, Upsampler, score_map, temperature
from geoglot.tasks.segment.windows import FINER, ArrayPicture, Picture, Plan, SegmentSettings, make_plan
from geoglot.types import Window

__all__ = ["SegmentSettings", "Segmented", "Segmenter", "segment_image"]

Progress = Callable[[float, str], None]
"""Called with the share done in [0, 1] and a few words; may raise to end it."""


@dataclass(frozen=True, slots=True)
class Segmented:
    """A picture in memory, segmented.

    Attributes:
        classes: uint8 [H, W]: 0 background, k the k-th class asked for (from 1), 255 nodata.
        probabilities: float32 [H, W, K + 1], of the background and each class; each pixel sums to 1, and to 0 on nodata
            and where nothing competes. An absent class has 0.
        presence: [K], in [0, 1].
        notes: What a reader must know, in sentences.
    """

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    presence: NDArray[np.float64]
    notes: tuple[str, ...]


class Segmenter:
    """A model and classes, ready for any number of pictures: words are encoded once.

    Args:
        encoder: A model that tells places apart (`geoglot.models.encoder.dense`).
        classes: Such as `building,roof`: synonyms, of which the first is the name; `Siedlung: building, roof`; or
            ready-made classes.
        settings: How.
        upsampler: Sharpens scores along the picture's edges; None interpolates.
        refiner: Corrects the class map; see geoglot.tasks.segment.decision.

    Raises:
        UsageError: No class, or an empty or repeated word.
        UnknownWordsError: A word that the model does not know.
    """

    def __init__(
        self,
        encoder: DenseEncoder,
        classes: Sequence[str | AskedClass],
        settings: SegmentSettings | None = None,
        upsampler: Upsampler | None = None,
        refiner: Refiner | None = None,
    ) -> None:
        self.encoder, self.upsampler, self.refiner = encoder, upsampler, refiner
        self.classes = read_classes(classes)
        self.settings = settings or SegmentSettings()
        self.notes: tuple[str, ...] = ()
        if len(self.classes) == 1 and self.settings.background is None:
            self.settings = replace(self.settings, background=(AUTO,))
            self.notes = ("only one class was given: the other words that the model knows became its background",)
        self.prompts: Prompts = make_prompts(encoder, self.classes, self.settings.background, self.settings.templates)

    def plan(self, picture: Picture) -> Plan:
        """Where the windows lie; nothing is read."""
        factor = self.upsampler.factor if self.upsampler else FINER
        return make_plan(picture, self.encoder, self.settings, factor)

    @contextmanager
    def scored(self, picture: Picture, plan: Plan, progress: Progress | None = None) -> Iterator[Scored]:
        """All of the model's work on a picture; its scores are deleted at the end of the block."""
        presence = Presence(self.prompts, temperature(self.encoder, self.settings), self.encoder.card.calibration)
        scorer = PatchScorer(self.encoder, self.prompts, self.settings, presence, self.upsampler)
        scores = score_map(picture, plan, scorer, progress)
        try:
            yield self._ruled(picture, plan, scores, presence)
        finally:
            scores.close()

    def _ruled(self, picture: Picture, plan: Plan, scores: ScoreMap, presence: Presence) -> Scored:
        scores_of_classes = presence.scores()
        rule = Rule.of(scores_of_classes >= self.settings.presence, scores.channels, self.settings.min_probability)
        return Scored(picture, plan, scores, rule, scores_of_classes, self.refiner)


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of a picture, and who may win a pixel.

    Attributes:
        picture, plan, scores, rule: What makes pixels.
        presence: [K], in [0, 1].
        refiner: Corrects blocks.
    """

    picture: Picture
    plan: Plan
    scores: ScoreMap
    rule: Rule
    presence: NDArray[np.float64]
    refiner: Refiner | None = None

    def blocks(self) -> Iterator[Decided]:
        """The class map, block by block, each computed while the one before is used."""
        with Stages(AHEAD_BYTES, most=2) as stages:
            blocks = decided_blocks(self.picture, self.plan, self.scores, self.rule, stages, self.refiner)
            yield from stages.ahead(blocks, lambda block: block.values.nbytes + block.percent.nbytes)


def segment_image(
    encoder: DenseEncoder,
    image: NDArray[np.uint8],
    classes: Sequence[str | AskedClass],
    settings: SegmentSettings | None = None,
    *,
    gsd_m: float | None = None,
    valid: NDArray[np.bool_] | None = None,
    upsampler: Upsampler | None = None,
) -> Segmented:
    """Segment a picture in memory.

    Args:
        encoder: A model that tells places apart.
        image: RGB uint8 [H, W, 3].
        classes: Such as `building,roof`.
        settings: How.
        gsd_m: Metres a pixel, if known.
        valid: bool [H, W], False where there is no data.
        upsampler: See Segmenter.

    Raises:
        UsageError: The image, a class or a setting is wrong.
        UnknownWordsError: A word that the model does not know.
    """
    return segment_picture(Segmenter(encoder, classes, settings, upsampler), ArrayPicture(image, gsd_m, valid))


def segment_picture(segmenter: Segmenter, picture: Picture) -> Segmented:
    """As segment_image, for many pictures with the same classes. All of it is held in memory."""
    plan = segmenter.plan(picture)
    whole = Window(0, 0, plan.width, plan.height)
    with segmenter.scored(picture, plan) as scored:
        logits = pixel_scores(whole, plan, scored.scores.read(0, scored.scores.rows))
        values, _ = scored.rule.decide(logits)
        probabilities = _probabilities(logits, scored.rule, len(segmenter.classes))
    nodata = ~picture.valid(whole)
    if segmenter.refiner is not None:
        values = segmenter.refiner.refine(picture.read(whole, nodata.shape).rgb, values)
    values[nodata], probabilities[nodata] = NODATA, 0
    return Segmented(values, probabilities, scored.presence, segmenter.notes + plan.notes)


def _probabilities(logits: NDArray[np.float32], rule: Rule, classes: int) -> NDArray[np.float32]:
    """[channels, H, W] to [H, W, classes + 1], background first."""
    out = np.zeros((*logits.shape[1:], classes + 1), np.float32)
    if rule.competing.any():
        competing = logits[rule.competing]
        odds = np.exp(competing - competing.max(axis=0))
        out[..., rule.values[rule.competing]] = np.moveaxis(odds / odds.sum(axis=0), 0, -1)
    return out
