"""Are small things found, and found again when search looks closer?

*Recall of small objects*: chips are ranked for the name of each class. Those are relevant that hold the centre of an
instance whose longer side is below a limit, and of no larger one of the class. Recall at k is the share of the relevant
chips, or of k where there are more, among the first k; the mean over the classes that have any. Once by the chips'
cosines, and once with the first candidates ranked anew as `geoglot search --point` does.

Chips with a larger instance of the class are right answers to its name, though not small ones. *Aside*, they take no
place among the first k, as COCO leaves out what lies outside a size range (Lin et al. 2014, arXiv 1405.0312, in its
`areaRng`); *against*, they count as wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from measures.pointing import RESAMPLES, Told, in_box, middle
from numpy.typing import NDArray
from PIL import Image

from geoglot.archive.rerank import BATCH, CANDIDATES, WEIGHT, closer_maps, fused, sizes_px
from geoglot.data.regions.schema import RegionRecord, RegionSet
from geoglot.errors import UsageError
from geoglot.evaluation.report import Interval
from geoglot.imagery.grid import chip_windows
from geoglot.models.encoder import DenseEncoder, Images, background_prompts
from geoglot.scoring.calibration import Scorer
from geoglot.scoring.places import Scores
from geoglot.types import Window

Larger = Literal["aside", "against"]

SMALL_PX = 32.0


@dataclass(frozen=True, slots=True)
class Looks:
    """Chips and classes, looked at from afar and closer.

    Attributes:
        categories: K names.
        images: Which image each chip is of [N].
        chips: Cosines [N, K].
        evidence: Of what lies inside [N, K]; NaN where no search looks closer.
        inside: Whether the best place lies in a box of the class [N, K]; False where no search looks closer.
        relevant: Chips that hold small instances of a class and no larger one [N, K].
        larger: Chips that hold a larger one [N, K].
    """

    categories: tuple[str, ...]
    images: NDArray[np.int64]
    chips: NDArray[np.float32]
    evidence: NDArray[np.float32]
    inside: NDArray[np.bool_]
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
        chips.append(encoder.encode_images(cut(regions.image(i), mine, encoder.card.image_px)) @ queries.T)
        sides += [[longest_px(record, w, c) for c in regions.categories] for w in mine]
        images += [i] * len(mine)
        windows += mine
        if told:
            told(i + 1, count)
    cosines, longest = np.concatenate(chips), np.array(sides)
    relevant, larger = (longest > 0) & (longest < small_px), longest >= small_px
    wanted = best_rows(cosines[:, relevant.any(0)], candidates)
    evidence, inside = np.full_like(cosines, np.nan), np.zeros(cosines.shape, np.bool_)
    scorer = Scorer.unmeasured(background_prompts(encoder), encoder.card.calibration)
    side = sizes_px(encoder)[-1]
    for i in range(count):
        rows = [row for row in wanted if images[row] == i]
        for some in (rows[at : at + BATCH] for at in range(0, len(rows), BATCH)):
            these = [windows[row] for row in some]
            ranking, pointing = closer_maps(encoder, cut(regions.image(i), these, side), scorer, queries)
            evidence[some] = ranking.max((1, 2))
            inside[some] = peaks_inside(pointing, these, regions.record(i), regions.categories)
        if told:
            told(i + 1, count)
    return Looks(regions.categories, np.array(images), cosines, evidence, inside, relevant, larger)


def best_rows(cosines: NDArray[np.float32], count: int) -> list[int]:
    """Rows of [N, K] that are among the best for any class, ascending."""
    return sorted(set(np.argsort(-cosines, axis=0, kind="stable")[:count].ravel().tolist()))


def peaks_inside(
    heat: Scores, windows: Sequence[Window], record: RegionRecord, categories: Sequence[str]
) -> NDArray[np.bool_]:
    """Whether the highest cell of each map lies in a box of its class: maps [n, h, w, K] of n windows -> [n, K]."""
    found = np.zeros((len(windows), len(categories)), np.bool_)
    for i, window in enumerate(windows):
        for k, category in enumerate(categories):
            row, column = divmod(int(heat[i, ..., k].argmax()), heat.shape[2])
            x = window.x0 + (column + 0.5) / heat.shape[2] * window.width
            y = window.y0 + (row + 0.5) / heat.shape[1] * window.height
            found[i, k] = any(in_box(r, (x, y)) for r in record.regions if r.category == category)
    return found


def cut(image: Images, windows: Sequence[Window], side: int) -> Images:
    """Windows of an image as squares, bicubic, smoothed where they get smaller."""
    whole = Image.fromarray(image)
    how = Image.Resampling.BICUBIC
    return np.stack([np.asarray(whole.resize((side, side), how, box=window.box_px)) for window in windows])


def longest_px(record: RegionRecord, window: Window, category: str) -> float:
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


def spots_inside(looks: Looks, seed: int = 0) -> tuple[float, Interval, int]:
    """Of the relevant chips that were looked at closer: how many have their best place in a box of the class.

    Returns:
        Percent, its 95 % bootstrap interval over images, and the number of such (chip, class) pairs.

    Raises:
        UsageError: There are none.
    """
    rows, columns = np.nonzero(looks.relevant & ~np.isnan(looks.evidence))
    if not len(rows):
        raise UsageError("no chip that holds only small objects of a class is among the candidates")
    hits = looks.inside[rows, columns]
    _, of = np.unique(looks.images[rows], return_inverse=True)
    times = _times(of, np.random.default_rng(seed))
    return 100 * float(hits.mean()), middle(100 * (times @ hits) / times.sum(1)), len(hits)


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
    intervals = [middle(values) for values in (drawn[0], drawn[1], drawn[1] - drawn[0])]
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
        times = _times(of, random)
        most = np.minimum(k, times.sum(1))
        means += 100 * np.minimum(most, one.hits.astype(np.int64) @ times.T) / most / len(found)
    return means


def _times(images: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """How often each of R rows is drawn when its images (numbers from 0 on, [R]) are drawn anew: [RESAMPLES, R]."""
    count = int(images.max()) + 1
    return random.multinomial(count, np.full(count, 1 / count), RESAMPLES)[:, images]
