"""Open-vocabulary segmentation: mean intersection over union on sets with dense masks.

    IoU of a class = pixels that are it and are called it / pixels that are it or are called it

over all images of a set together, and their mean over classes (mmseg's IoUMetric): a class that neither occurs nor is
called does not count. Ignored pixels count nowhere; a pixel without an answer is a miss of its class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.data.segmentation import IGNORED, SegmentationSet
from geoglot.errors import SampleError, UsageError
from geoglot.evaluation.metrics import bootstraps
from geoglot.evaluation.report import Interval

Bytes = NDArray[np.uint8]

Predict = Callable[[Bytes, float | None], Bytes]
"""RGB uint8 [H, W, 3] and metres a pixel, if known -> class index [H, W]; an index beyond the classes is no answer."""

Told = Callable[[int, int], None]

NO_ANSWER = IGNORED
"""An index that no class has."""


@dataclass(frozen=True, slots=True)
class SegmentationScore:
    """A model's result on a set, in percent.

    Attributes:
        names: Of the classes.
        iou: [K]; NaN for a class that neither occurs nor was called.
        iou_intervals: 95 % bootstrap over images, one a class.
        miou: Mean over the classes that count.
        interval: Of the mean.
        images: How many.
    """

    names: tuple[str, ...]
    iou: tuple[float, ...]
    iou_intervals: tuple[Interval, ...]
    miou: float
    interval: Interval
    images: int


def confusion(predicted: Bytes, truth: Bytes, classes: int) -> NDArray[np.int64]:
    """Pixels by [truth, prediction], [K, K + 1]; the last column counts pixels without an answer.

    Raises:
        UsageError: The shapes differ.
        SampleError: The truth holds a value that is neither a class nor ignored.
    """
    if predicted.shape != truth.shape:
        raise UsageError(f"the prediction has {predicted.shape} pixels and the mask {truth.shape}")
    if ((truth >= classes) & (truth != IGNORED)).any():
        strange = sorted(set(np.unique(truth[truth >= classes]).tolist()) - {IGNORED})
        hint = (
            "Class indices are those of the set's classes; map the mask's values, or mark what has no class as ignored."
        )
        raise SampleError(
            f"the mask holds {', '.join(map(str, strange[:8]))}, which is neither one of {classes} classes nor ignored "
            f"({IGNORED})",
            hint=hint,
        )
    known = truth < classes
    called = np.minimum(predicted[known], classes).astype(np.int64)
    pairs = truth[known].astype(np.int64) * (classes + 1) + called
    return np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def intersections_unions(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Confusions [..., K, K + 1] to [..., 2, K]."""
    both = np.diagonal(counts, axis1=-2, axis2=-1)
    either = counts.sum(axis=-1) + counts[..., :-1].sum(axis=-2) - both
    return np.stack([both, either], axis=-2)


def percent_iou(parts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[..., 2, K] to IoU in percent [..., K]; NaN where the union is empty."""
    both, either = parts[..., 0, :].astype(np.float64), parts[..., 1, :].astype(np.float64)
    return np.divide(100 * both, either, out=np.full_like(both, np.nan), where=either > 0)


def mean_iou(
    predict: Predict,
    data: SegmentationSet,
    *,
    limit: int | None = None,
    seed: int = 0,
    rounds: int = 1000,
    told: Told | None = None,
) -> SegmentationScore:
    """Predict every image of a set, and score.

    Args:
        predict: See Predict; the indices are those of `data.classes`.
        data: The set.
        limit: Look at so many images only, evenly spread.
        seed, rounds: Of the bootstrap over images.
        told: Called with images done and images in all.

    Raises:
        UsageError: The set has no images, or a prediction has another size.
        SampleError: A file cannot be read.
    """
    if not len(data):
        raise UsageError(f"the segmentation set {data.name} has no images")
    count = min(limit or len(data), len(data))
    rows = np.linspace(0, len(data) - 1, count).round().astype(int).tolist()
    parts = []
    for done, i in enumerate(rows, start=1):
        truth = data.mask(i)
        answer = predict(data.image(i), data.gsd_m)
        parts.append(intersections_unions(confusion(answer, truth, len(data.classes))))
        if told is not None:
            told(done, count)
    return score(np.stack(parts), tuple(words[0] for words in data.classes), seed=seed, rounds=rounds)


def score(parts: NDArray[np.int64], names: tuple[str, ...], *, seed: int = 0, rounds: int = 1000) -> SegmentationScore:
    """Intersections and unions of images [N, 2, K] to a score."""

    def statistics(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        times = np.bincount(rows, minlength=len(parts))
        iou = percent_iou(np.tensordot(times, parts, axes=1))
        return np.concatenate([iou, [_mean(iou)]])

    values = statistics(np.arange(len(parts)))
    spans = _spans(statistics, len(parts), seed, rounds)
    return SegmentationScore(
        names, tuple(values[:-1].tolist()), tuple(spans[:-1]), float(values[-1]), spans[-1], len(parts)
    )


def _spans(
    statistics: Callable[[NDArray[np.int64]], NDArray[np.float64]], count: int, seed: int, rounds: int
) -> list[Interval]:
    """A class that a resampling lacks counts there as what it is: nothing to be right about, 0."""
    return bootstraps(lambda rows: np.nan_to_num(statistics(rows)), count, rounds=rounds, seed=seed)


def _mean(iou: NDArray[np.float64]) -> float:
    known = iou[~np.isnan(iou)]
    return float(known.mean()) if len(known) else 0.0
