"""Does the evidence lie where the thing is? Pointing, and search for what is small.

*Pointing accuracy*: for each image and each class that it shows, the highest cell of the class's map (see
`archive.evidence`) must lie inside one of the class's instances, by its box, and more strictly by its outline. The
share of (image, class) pairs, after the pointing game (Zhang et al. 2018, arXiv 1608.00507) without its 15 px of
tolerance.

*Recall of small objects*: chips are ranked for the name of each class. Those are relevant that hold the centre of an
instance whose longer side is below a limit, and of no larger one of the class. Recall at k is the share of the relevant
chips, or of k where there are more, among the first k; the mean over the classes that have any. Once by the chips'
cosines, and once with the first candidates ranked anew as `geoglot search --point` does.

Chips with a larger instance of the class are right answers to its name, though not small ones. *Aside*, they take no
place among the first k, as COCO leaves out what lies outside a size range (Lin et al. 2014, arXiv 1405.0312, in its
`areaRng`); *against*, they count as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from geoglot.archive.evidence import CELL_PX, ZOOMS, Judge, Scores, place_maps
from geoglot.archive.point import BATCH, CANDIDATES, WEIGHT, closer_px, fused
from geoglot.data.regions.schema import Region, RegionRecord, RegionSet
from geoglot.errors import UsageError
from geoglot.evaluation.number import Interval
from geoglot.imagery.grid import chip_windows
from geoglot.models.encoder import DenseEncoder, Images
from geoglot.types import Window

Larger = Literal["aside", "against"]

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
    interval = _middle(100 * hits[drawn].sum(1) / pairs[drawn].sum(1))
    outlined = 100 * sum(row[3] for row in rows) / len(rows)
    return PointingScore(100 * float(hits.sum() / pairs.sum()), interval, outlined, per_class, len(rows))


@dataclass(frozen=True, slots=True)
class Looks:
    """Chips and classes, looked at from afar and closer.

    Attributes:
        categories: K names.
        images: Which image each chip is of [N].
        chips: Cosines [N, K].
        evidence: Of what lies inside [N, K]; NaN where no search looks closer.
        relevant: Chips that hold small instances of a class and no larger one [N, K].
        larger: Chips that hold a larger one [N, K].
    """

    categories: tuple[str, ...]
    images: NDArray[np.int64]
    chips: NDArray[np.float32]
    evidence: NDArray[np.float32]
    relevant: NDArray[np.bool_]
    larger: NDArray[np.bool_]


def look(
    encoder: DenseEncoder,
    regions: RegionSet,
    *,
    small_px: float = SMALL_PX,
    chip_px: int | None = None,
    candidates: int = CANDIDATES,
    texts: Mapping[str, str] | None = None,
    limit: int | None = None,
    told: Told | None = None,
) -> Looks:
    """Encode every chip, and every place in those that a search for a class with small instances looks at closer.

    Args:
        encoder: The model.
        regions: Images with boxes.
        small_px: Below this longer side an instance is small.
        chip_px: Side of the chips, overlapping by a quarter; None takes each image as one chip.
        candidates: How many of the best chips are looked at closer.
        texts: As for pointing_accuracy.
        limit: A dry look: so many images.
        told: Progress, once for afar and once for closer.
    """
    queries = encoder.encode_texts([(texts or {}).get(c, c) for c in regions.categories])
    chips, sides, images, windows = [], [], [], []
    count = min(len(regions), limit or len(regions))
    for i in range(count):
        record = regions.record(i)
        whole = [Window(0, 0, record.width, record.height)]
        mine = whole if chip_px is None else chip_windows(record.width, record.height, chip_px)
        chips.append(encoder.encode_images(_cut(regions.image(i), mine, encoder.card.image_px)) @ queries.T)
        sides += [[_longest(record, w, c) for c in regions.categories] for w in mine]
        images += [i] * len(mine)
        windows += mine
        if told:
            told(i + 1, count)
    cosines, longest = np.concatenate(chips), np.array(sides)
    relevant, larger = (longest > 0) & (longest < small_px), longest >= small_px
    wanted = _candidates(cosines[:, relevant.any(0)], candidates)
    evidence = np.full_like(cosines, np.nan)
    judge = Judge.of(encoder, queries)
    for i in range(count):
        rows = [row for row in wanted if images[row] == i]
        if rows:
            evidence[rows] = _evidence(encoder, regions.image(i), [windows[row] for row in rows], judge)
        if told:
            told(i + 1, count)
    return Looks(regions.categories, np.array(images), cosines, evidence, relevant, larger)


def _candidates(cosines: NDArray[np.float32], candidates: int) -> list[int]:
    """Rows of [N, K] that are among the best for any class, ascending."""
    return np.unique(np.argsort(-cosines, axis=0, kind="stable")[:candidates]).tolist()


def _evidence(encoder: DenseEncoder, image: Images, windows: Sequence[Window], judge: Judge) -> Scores:
    parts = [_cut(image, windows[at : at + BATCH], closer_px(encoder)) for at in range(0, len(windows), BATCH)]
    return np.concatenate([place_maps(encoder, part, judge).max((1, 2)) for part in parts])


def _cut(image: Images, windows: Sequence[Window], side: int) -> Images:
    """Windows of an image as squares, bicubic, smoothed where they get smaller."""
    whole = Image.fromarray(image)
    how = Image.Resampling.BICUBIC
    return np.stack([np.asarray(whole.resize((side, side), how, box=window.box_px)) for window in windows])


def _longest(record: RegionRecord, window: Window, category: str) -> float:
    """The longest side of the category's instances with their centre in the window, px; 0 where there is none."""
    boxes = (region.box_px for region in record.regions if region.category == category)
    return max(
        (
            max(x1 - x0, y1 - y0)
            for x0, y0, x1, y1 in boxes
            if window.x0 <= (x0 + x1) / 2 < window.x1 and window.y0 <= (y0 + y1) / 2 < window.y1
        ),
        default=0.0,
    )


@dataclass(frozen=True, slots=True)
class SmallRecall:
    """Recall at k of small objects, in percent, without and with looking closer.

    Attributes:
        k: How many places are shown.
        larger: What chips with larger instances are: aside, or against.
        plain, pointed: Mean over classes.
        plain_interval, pointed_interval, difference_interval: 95 % bootstrap over the images with relevant chips, the
            ranking as it is; the last of pointed - plain, image by image.
        gain: Relative gain of pointing, in percent.
        per_class: Category -> (plain, pointed, relevant chips).
    """

    k: int
    larger: Larger
    plain: float
    pointed: float
    plain_interval: Interval
    pointed_interval: Interval
    difference_interval: Interval
    gain: float
    per_class: Mapping[str, tuple[float, float, int]]


def small_object_recall(
    looks: Looks,
    k: int,
    *,
    larger: Larger = "aside",
    weight: float = WEIGHT,
    candidates: int = CANDIDATES,
    seed: int = 0,
) -> SmallRecall:
    """Recall at k of `look`'s chips; `candidates` at most as many as it was given.

    Raises:
        UsageError: No chip is relevant for any class.
    """
    classes = np.flatnonzero(looks.relevant.any(0)).tolist()
    if not classes:
        raise UsageError("no chip holds only small objects of a class", hint="Raise small_px, or give chip_px.")
    found = [_found(looks, c, k, larger, weight, candidates) for c in classes]
    means = [[_recall(one.hits[way], k) for one in found] for way in (0, 1)]
    plain, pointed = (sum(values) / len(values) for values in means)
    per_class = {looks.categories[c]: (means[0][i], means[1][i], len(found[i].images)) for i, c in enumerate(classes)}
    gain = 100 * (pointed / plain - 1) if plain else float("inf") if pointed else 0.0
    drawn = _drawn(found, k, seed)
    intervals = [_middle(values) for values in (drawn[0], drawn[1], drawn[1] - drawn[0])]
    return SmallRecall(k, larger, plain, pointed, intervals[0], intervals[1], intervals[2], gain, per_class)


@dataclass(frozen=True, slots=True)
class _Found:
    """Of a class: whether the plain and the pointed ranking show its relevant chips [2, R], and their images [R]."""

    hits: NDArray[np.bool_]
    images: NDArray[np.int64]


def _found(looks: Looks, c: int, k: int, larger: Larger, weight: float, candidates: int) -> _Found:
    plain = np.argsort(-looks.chips[:, c], kind="stable")
    first = plain[:candidates]
    scores = fused(looks.chips[first, c].astype(np.float64), looks.evidence[first, c].astype(np.float64), weight)
    pointed = np.concatenate([first[np.argsort(-scores, kind="stable")], plain[candidates:]])
    rows = np.flatnonzero(looks.relevant[:, c])
    shown = [order if larger == "against" else order[~looks.larger[order, c]] for order in (plain, pointed)]
    return _Found(np.stack([np.isin(rows, order[:k]) for order in shown]), looks.images[rows])


def _recall(hits: NDArray[np.bool_], k: int) -> float:
    return 100 * float(hits.sum()) / min(k, len(hits))


def _drawn(found: Sequence[_Found], k: int, seed: int) -> NDArray[np.float64]:
    """Means over classes [2, RESAMPLES] with each class's images drawn anew."""
    random = np.random.default_rng(seed)
    means = np.zeros((2, RESAMPLES))
    for one in found:
        _, of = np.unique(one.images, return_inverse=True)
        count = int(of.max()) + 1
        times = random.multinomial(count, np.full(count, 1 / count), RESAMPLES)[:, of]  # [RESAMPLES, R]
        most = np.minimum(k, times.sum(1))
        means += 100 * np.minimum(most, one.hits.astype(np.int64) @ times.T) / most / len(found)
    return means


def _middle(values: NDArray[np.float64]) -> Interval:
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))
