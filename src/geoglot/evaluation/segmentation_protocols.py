"""How an image becomes a class map under each protocol of open-vocabulary segmentation.

| protocol | windows | words | bias | below the threshold |
|---|---|---|---|---|
| `ovss/farslip` | 448 px image, 224 px chips every 112 px, at the model's own side | 80 templates | none | nothing |
| `ovss/segearth-bilinear` | the same, shown as they are | 80 templates | -0.3 of the chip's own score | background |
| `ovss/geoglot` | as `geoglot segment` does it | 3 templates | none | classes that are not there stay away |

Facts of the first two: released code of FarSLIP's evaluation and of SegEarth-OV (arXiv 2410.01768). Both multiply
cosines by 50, take the softmax over all synonyms of all classes, and the best synonym of each class. FarSLIP's code
drops the thresholds of its own configuration, and so does its protocol here. SegEarth-OV's full pipeline sharpens
features with weights that nobody may use (no licence); without them the protocol is called `-bilinear`, and its numbers
never stand beside published ones. Its thresholds were tuned on test data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from geoglot.data.segmentation import SegmentationSet
from geoglot.errors import UsageError
from geoglot.evaluation.embeddings import encode_known
from geoglot.evaluation.segmentation import NO_ANSWER, Bytes, Predict
from geoglot.models.encoder import DenseEncoder
from geoglot.scoring.enlarge import enlarged
from geoglot.scoring.windows import Axis
from geoglot.tasks.segment.classes import AUTO, AskedClass, best_of
from geoglot.tasks.segment.scores import Upsampler
from geoglot.tasks.segment.segmenter import Segmenter, SegmentSettings, segment_picture
from geoglot.tasks.segment.windows import ArrayPicture

FIT_PX, CHIP_PX, STRIDE_PX = 448, 224, 112
SCALE = 50.0
BIAS = -0.3
MEAN_COLOUR = (123, 117, 104)
"""The colour that is zero after normalisation: CLIP's mean, 122.771 / 116.746 / 104.094."""

Floats = NDArray[np.float32]


@cache
def imagenet_templates() -> tuple[str, ...]:
    """OpenAI's 80 templates for ImageNet, `{c}` for the class."""
    return tuple(resources.files(__package__).joinpath("templates", "imagenet.txt").read_text("utf-8").splitlines())


@dataclass(frozen=True, slots=True)
class Published:
    """The settings in which the two published protocols differ.

    Attributes:
        bias: Times the chip's own score is added to its patches'.
        own_side: Show chips, filled up evenly to whole patches, at the model's own side; else as they are then.
        threshold: Least probability of a set's configuration counts.
    """

    bias: float
    own_side: bool
    threshold: bool


PUBLISHED = {
    "ovss/farslip": Published(bias=0.0, own_side=True, threshold=False),
    "ovss/segearth-bilinear": Published(bias=BIAS, own_side=False, threshold=True),
}


def published_predict(protocol: str, encoder: DenseEncoder, data: SegmentationSet) -> Predict:
    """A predictor by one of PUBLISHED."""
    rules = PUBLISHED[protocol]
    words = [word for synonyms in data.classes for word in synonyms]
    owners = np.repeat(np.arange(len(data.classes)), [len(synonyms) for synonyms in data.classes])
    table = template_means(encoder, words)
    floor = (data.threshold or 0.0) if rules.threshold else 0.0
    rest = data.background if data.background is not None else 0

    def predict(image: Bytes, gsd_m: float | None) -> Bytes:
        logits = slide(encoder, fit(image), table, rules)
        logits = enlarged(logits, image.shape[:2])
        return decide(logits, owners, floor, rest)

    return predict


def template_means(encoder: DenseEncoder, words: list[str]) -> Floats:
    """[Q, D], unit: the mean of 80 unit vectors a word; zero where the model knows no word of any."""
    templates = imagenet_templates()
    vectors = encode_known(encoder, [template.replace("{c}", word) for word in words for template in templates])
    means = vectors.reshape(len(words), len(templates), -1).mean(axis=1)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    unit: Floats = np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 0)
    return unit


def fit(image: Bytes) -> Bytes:
    """Bilinear, the longer side to 448 px, keeping ratio; sides rounded half up."""
    scale = FIT_PX / max(image.shape[:2])
    size = tuple(int(side * scale + 0.5) for side in image.shape[:2])
    if size == image.shape[:2]:
        return image
    channels = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    return np.rint(enlarged(channels, (max(size[0], 1), max(size[1], 1)))).astype(np.uint8).transpose(1, 2, 0)


def chip_starts(size: int) -> list[tuple[int, int]]:
    """(start, end) of chips on an axis: the last one is shifted inside."""
    firsts = Axis.cut(size, CHIP_PX, 1 - STRIDE_PX / CHIP_PX).firsts
    return [(first, min(first + CHIP_PX, size)) for first in firsts]


def slide(encoder: DenseEncoder, image: Bytes, table: Floats, rules: Published) -> Floats:
    """Cosines [Q, H, W] with all words: chips upsampled to pixels, summed, divided by how many cover a pixel."""
    spots = [(y, x) for y in chip_starts(image.shape[0]) for x in chip_starts(image.shape[1])]
    chips = np.stack([image[y[0] : y[1], x[0] : x[1]] for y, x in spots])
    scores = chip_scores(encoder, chips, table, rules)
    total = np.zeros((len(table), *image.shape[:2]), np.float32)
    cover = np.zeros(image.shape[:2], np.float32)
    for (y, x), values in zip(spots, scores, strict=True):
        total[:, y[0] : y[1], x[0] : x[1]] += values
        cover[y[0] : y[1], x[0] : x[1]] += 1
    return np.asarray(total / cover, np.float32)


def chip_scores(encoder: DenseEncoder, chips: Bytes, table: Floats, rules: Published) -> list[Floats]:
    """Each chip's cosines with all words, [Q, h, w] of its own size."""
    filled, inside = _filled(chips, encoder.patch_px)
    shown = _at_own_side(filled, encoder.card.image_px) if rules.own_side else filled
    patches, token = _features(encoder, shown, bool(rules.bias))
    scores = patches @ table.T  # [n, Ph, Pw, Q]
    if token is not None:
        scores = scores + np.float32(rules.bias) * (token @ table.T)[:, None, None, :]
    full = [enlarged(np.ascontiguousarray(one.transpose(2, 0, 1)), filled.shape[1:3]) for one in scores]
    return [one[:, inside[0], inside[1]] for one in full]


def _filled(chips: Bytes, patch_px: int) -> tuple[Bytes, tuple[slice, slice]]:
    """Chips with grey around them up to whole patches, evenly, and where in it they lie."""
    lacks = [-length % patch_px for length in chips.shape[1:3]]
    before = [lack // 2 for lack in lacks]
    out = np.empty((len(chips), *(s + lack for s, lack in zip(chips.shape[1:3], lacks, strict=True)), 3), np.uint8)
    out[:] = MEAN_COLOUR
    rows, columns = (slice(b, b + length) for b, length in zip(before, chips.shape[1:3], strict=True))
    out[:, rows, columns] = chips
    return out, (rows, columns)


def _at_own_side(chips: Bytes, side: int) -> Bytes:
    if chips.shape[1:3] == (side, side):
        return np.ascontiguousarray(chips)
    flat = chips.transpose(0, 3, 1, 2).reshape(-1, *chips.shape[1:3]).astype(np.float32)
    small = np.rint(enlarged(flat, (side, side))).astype(np.uint8)
    return np.ascontiguousarray(small.reshape(len(chips), 3, side, side).transpose(0, 2, 3, 1))


def _features(encoder: DenseEncoder, images: Bytes, wants_token: bool) -> tuple[Floats, Floats | None]:
    if not wants_token:
        return encoder.patch_features(images), None
    both = getattr(encoder, "patches_and_token", None)
    if both is None:
        raise UsageError(
            f"model {encoder.card.name!r} has no class token, which SegEarth-OV's protocol subtracts",
            hint="Run a ViT on PyTorch, or take ovss/farslip.",
        )
    patches, token = both(images)
    return patches, token


def decide(logits: Floats, owners: NDArray[np.int64], floor: float, background: int) -> Bytes:
    """Cosines [Q, H, W] to class indices [H, W]."""
    scaled = SCALE * logits
    odds = np.exp(scaled - scaled.max(axis=0))
    shares = np.moveaxis(odds / odds.sum(axis=0), 0, -1)
    classes = best_of(shares.astype(np.float32), owners)
    winner: Bytes = classes.argmax(axis=-1).astype(np.uint8)
    if floor:
        winner[classes.max(axis=-1) < floor] = background
    return winner


def our_predict(
    encoder: DenseEncoder,
    data: SegmentationSet,
    settings: SegmentSettings | None = None,
    upsampler: Upsampler | None = None,
) -> Predict:
    """A predictor by `ovss/geoglot`: as people use it."""
    segmenter, table = our_segmenter(encoder, data, settings, upsampler)

    def predict(image: Bytes, gsd_m: float | None) -> Bytes:
        return table[segment_picture(segmenter, ArrayPicture(image, gsd_m)).classes]

    return predict


def our_segmenter(
    encoder: DenseEncoder,
    data: SegmentationSet,
    settings: SegmentSettings | None = None,
    upsampler: Upsampler | None = None,
) -> tuple[Segmenter, Bytes]:
    """A set's classes asked for, its background class as "auto"; and the table [256] from map values to its indices."""
    chosen = settings or SegmentSettings()
    asked = [AskedClass(words[0], words) for i, words in enumerate(data.classes) if i != data.background]
    table = np.full(256, NO_ANSWER, np.uint8)
    table[1 : len(asked) + 1] = [i for i in range(len(data.classes)) if i != data.background]
    if data.background is not None:
        table[0] = data.background
        chosen = chosen if chosen.background else replace(chosen, background=(AUTO,))
    return Segmenter(encoder, asked, chosen, upsampler), table
