"""Does the evidence lie where the thing is? Pointing, and search for what is small.

*Pointing accuracy*: for each image and each class that it shows, the highest cell of the class's map (see
`archive.evidence`) must lie inside one of the class's instances, by its box, and more strictly by its outline. The
share of (image, class) pairs, after the pointing game (Zhang et al. 2018, arXiv 1608.00507) without its 15 px of
tolerance.

*Recall of small objects*: chips are ranked for the name of each class. Those are relevant that hold the centre of an
instance whose longer side is below a limit, and of no larger one of the class. Recall at k is the share of the relevant
chips, or of k where there are more, among the first k; the mean over the classes that have any. Once by the chips'
cosines, and once with the first candidates ranked anew as `geoglot search --point` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from geoglot.archive.evidence import CELL_PX, ZOOMS, Judge, place_maps
from geoglot.archive.point import BATCH, CANDIDATES, WEIGHT, closer_px, fused
from geoglot.data.regions.schema import Region, RegionRecord, RegionSet
from geoglot.errors import UsageError
from geoglot.evaluation.number import Interval
from geoglot.imagery.grid import chip_windows
from geoglot.models.encoder import DenseEncoder, Images
from geoglot.types import Window

SMALL_PX = 32.0
RESAMPLES = 1000

Told = Callable[[int, int], None]
"""Called with images done and in all."""


@dataclass(frozen=True, slots=True)
class PointingScore:
    """Result of the pointing game, in percent.

    Attributes:
        accuracy: Peaks inside a box of the class, share of pairs.
        interval: Its 95 % bootstrap interval over images.
        in_outline: Peaks inside an outline (the box where a set has none).
        per_class: Category -> (hits by box, pairs).
        pairs: (image, class) pairs.
    """

    accuracy: float
    interval: Interval
    in_outline: float
    per_class: Mapping[str, tuple[int, int]]
    pairs: int


def pointing_accuracy(
    encoder: DenseEncoder,
    regions: RegionSet,
    *,
    texts: Mapping[str, str] | None = None,
    zooms: Sequence[float] = ZOOMS,
    seed: int = 0,
    limit: int | None = None,
    told: Told | None = None,
) -> PointingScore:
    """Play the pointing game.

    Args:
        encoder: The model.
        regions: Images with boxes; the test split where there is one.
        texts: Category -> what is asked for it; default its name.
        zooms: Sizes of the image that the map averages over.
        seed: Of the bootstrap.
        limit: A dry look: so many images.
        told: Progress.

    Raises:
        UsageError: No image shows any category.
    """
    judge = Judge.of(encoder, encoder.encode_texts([(texts or {}).get(c, c) for c in regions.categories]))
    rows: list[tuple[int, str, bool, bool]] = []
    count = min(len(regions), limit or len(regions))
    for i in range(count):
        record = regions.record(i)
        here = sorted({region.category for region in record.regions} & set(regions.categories))
        if here:
            heat = place_maps(encoder, regions.image(i)[None], judge, zooms)[0]
            for name in here:
                mine = [region for region in record.regions if region.category == name]
                point = _peak(heat[..., regions.categories.index(name)], record)
                rows.append((i, name, any(_in_box(r, point) for r in mine), any(_in_outline(r, point) for r in mine)))
        if told:
            told(i + 1, count)
    if not rows:
        raise UsageError(f"{regions.name}: no image shows any of {', '.join(regions.categories)}")
    return _score(rows, seed)


def _peak(heat: NDArray[np.float32], record: RegionRecord) -> tuple[float, float]:
    """Centre of the highest cell, inside the image."""
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    return min((column + 0.5) * CELL_PX, record.width - 0.5), min((row + 0.5) * CELL_PX, record.height - 0.5)


def _in_box(region: Region, point: tuple[float, float]) -> bool:
    x0, y0, x1, y1 = region.box_px
    return x0 <= point[0] < x1 and y0 <= point[1] < y1


def _in_outline(region: Region, point: tuple[float, float]) -> bool:
    if not region.rings:
        return _in_box(region, point)
    x0, y0, x1, y1 = (int(v) for v in region.box_px)
    image = Image.new("1", (x1 - x0 + 2, y1 - y0 + 2))
    for ring in region.rings:
        ImageDraw.Draw(image).polygon([(x - x0, y - y0) for x, y in ring], fill=1, outline=1)
    at = int(point[0]) - x0, int(point[1]) - y0
    return 0 <= at[0] < image.width and 0 <= at[1] < image.height and bool(image.getpixel(at))


def _score(rows: Sequence[tuple[int, str, bool, bool]], seed: int) -> PointingScore:
    images = {i: at for at, i in enumerate(sorted({row[0] for row in rows}))}
    hits, pairs = np.zeros(len(images)), np.zeros(len(images))
    per_class: dict[str, tuple[int, int]] = {}
    for i, name, inside, _ in rows:
        hits[images[i]] += inside
        pairs[images[i]] += 1
        before = per_class.get(name, (0, 0))
        per_class[name] = (before[0] + inside, before[1] + 1)
    drawn = np.random.default_rng(seed).integers(0, len(images), (RESAMPLES, len(images)))
    shares = 100 * hits[drawn].sum(1) / pairs[drawn].sum(1)
    interval = (float(np.quantile(shares, 0.025)), float(np.quantile(shares, 0.975)))
    outlined = 100 * sum(row[3] for row in rows) / len(rows)
    return PointingScore(100 * float(hits.sum() / pairs.sum()), interval, outlined, per_class, len(rows))


@dataclass(frozen=True, slots=True)
class Looks:
    """Chips and classes, looked at from afar and closer.

    Attributes:
        categories: K names.
        chips: Cosines [N, K].
        peaks: Score of each chip's best place [N, K].
        relevant: Chips that hold small instances of a class and no larger one [N, K].
    """

    categories: tuple[str, ...]
    chips: NDArray[np.float32]
    peaks: NDArray[np.float32]
    relevant: NDArray[np.bool_]


def look(
    encoder: DenseEncoder,
    regions: RegionSet,
    *,
    small_px: float = SMALL_PX,
    chip_px: int | None = None,
    texts: Mapping[str, str] | None = None,
    limit: int | None = None,
    told: Told | None = None,
) -> Looks:
    """Encode every chip, and every place in it.

    Args:
        encoder: The model.
        regions: Images with boxes.
        small_px: Below this longer side an instance is small.
        chip_px: Side of the chips, overlapping by a quarter; None takes each image as one chip.
        texts: As for pointing_accuracy.
        limit: A dry look: so many images.
        told: Progress.
    """
    queries = encoder.encode_texts([(texts or {}).get(c, c) for c in regions.categories])
    judge = Judge.of(encoder, queries)
    chips, peaks, relevant = [], [], []
    count = min(len(regions), limit or len(regions))
    for i in range(count):
        record, image = regions.record(i), regions.image(i)
        whole = [Window(0, 0, record.width, record.height)]
        windows = whole if chip_px is None else chip_windows(record.width, record.height, chip_px)
        chips.append(encoder.encode_images(_cut(image, windows, encoder.card.image_px)) @ queries.T)
        for at in range(0, len(windows), BATCH):
            closer = _cut(image, windows[at : at + BATCH], closer_px(encoder))
            peaks.append(place_maps(encoder, closer, judge).max((1, 2)))
        relevant.append([[_holds_small(record, w, c, small_px) for c in regions.categories] for w in windows])
        if told:
            told(i + 1, count)
    return Looks(regions.categories, np.concatenate(chips), np.concatenate(peaks), np.concatenate(relevant))


def _cut(image: Images, windows: Sequence[Window], side: int) -> Images:
    """Windows of an image as squares, bicubic, smoothed where they get smaller."""
    whole = Image.fromarray(image)
    how = Image.Resampling.BICUBIC
    return np.stack([np.asarray(whole.resize((side, side), how, box=window.box_px)) for window in windows])


def _holds_small(record: RegionRecord, window: Window, category: str, small_px: float) -> bool:
    sides = [
        max(x1 - x0, y1 - y0)
        for x0, y0, x1, y1 in (region.box_px for region in record.regions if region.category == category)
        if window.x0 <= (x0 + x1) / 2 < window.x1 and window.y0 <= (y0 + y1) / 2 < window.y1
    ]
    return bool(sides) and max(sides) < small_px


@dataclass(frozen=True, slots=True)
class SmallRecall:
    """Recall at k of small objects, in percent, without and with looking closer.

    Attributes:
        k: How many places are shown.
        plain, pointed: Mean over classes.
        plain_interval, pointed_interval: 95 % bootstrap over the relevant chips, within each class.
        gain: Relative gain of pointing, in percent.
        per_class: Category -> (plain, pointed, relevant chips).
    """

    k: int
    plain: float
    pointed: float
    plain_interval: Interval
    pointed_interval: Interval
    gain: float
    per_class: Mapping[str, tuple[float, float, int]]


def small_object_recall(
    looks: Looks, k: int, *, weight: float = WEIGHT, candidates: int = CANDIDATES, seed: int = 0
) -> SmallRecall:
    """Recall at k of `look`'s chips.

    Raises:
        UsageError: No chip is relevant for any class.
    """
    classes = np.flatnonzero(looks.relevant.any(0)).tolist()
    if not classes:
        raise UsageError("no chip holds only small objects of a class", hint="Raise small_px, or give chip_px.")
    found = []
    for c in classes:
        truth, plain = looks.relevant[:, c], np.argsort(-looks.chips[:, c], kind="stable")
        first = plain[:candidates]
        scores = fused(looks.chips[first, c].astype(np.float64), looks.peaks[first, c].astype(np.float64), weight)
        pointed = np.concatenate([first[np.argsort(-scores, kind="stable")], plain[candidates:]])
        rows = np.flatnonzero(truth)
        found.append((np.isin(rows, plain[:k]), np.isin(rows, pointed[:k])))
    means = [[_recall(pair[way], k) for pair in found] for way in (0, 1)]
    plain_mean, pointed_mean = (sum(values) / len(values) for values in means)
    per_class = {looks.categories[c]: (means[0][i], means[1][i], len(found[i][0])) for i, c in enumerate(classes)}
    intervals = [_interval([pair[way] for pair in found], k, seed) for way in (0, 1)]
    gain = 100 * (pointed_mean / plain_mean - 1) if plain_mean else float("inf") if pointed_mean else 0.0
    return SmallRecall(k, plain_mean, pointed_mean, intervals[0], intervals[1], gain, per_class)


def _recall(hits: NDArray[np.bool_], k: int) -> float:
    return 100 * float(hits.sum()) / min(k, len(hits))


def _interval(hits: Sequence[NDArray[np.bool_]], k: int, seed: int) -> Interval:
    random = np.random.default_rng(seed)
    means = np.zeros(RESAMPLES)
    for one in hits:
        drawn = one[random.integers(0, len(one), (RESAMPLES, len(one)))].sum(1)
        means += np.minimum(100.0, 100 * drawn / min(k, len(one))) / len(hits)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
