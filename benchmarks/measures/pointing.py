"""Does the evidence lie where the thing is? The pointing game.

*Pointing accuracy*: for each image and each class that it shows, the highest cell of the class's map (see
`archive.rerank`) must lie inside one of the class's instances, by its box, and more strictly by its outline. The
share of (image, class) pairs, after the pointing game (Zhang et al. 2018, arXiv 1608.00507) without its 15 px of
tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from geoglot.archive.rerank import ZOOMS, place_maps
from geoglot.data.regions.schema import Region, RegionRecord, RegionSet
from geoglot.errors import UsageError
from geoglot.evaluation.report import Interval
from geoglot.models.encoder import DenseEncoder, background_prompts
from geoglot.scoring.calibration import Scorer
from geoglot.scoring.places import CELL_PX

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
    scorer = Scorer.unmeasured(background_prompts(encoder), encoder.card.calibration)
    queries = encoder.encode_texts([(texts or {}).get(c, c) for c in regions.categories])
    rows: list[tuple[int, str, bool, bool]] = []
    count = min(len(regions), limit or len(regions))
    for i in range(count):
        record = regions.record(i)
        here = sorted({region.category for region in record.regions} & set(regions.categories))
        if here:
            heat = place_maps(encoder, regions.image(i)[None], scorer, queries, zooms)[0]
            for name in here:
                mine = [region for region in record.regions if region.category == name]
                point = _peak(heat[..., regions.categories.index(name)], record)
                rows.append((i, name, any(in_box(r, point) for r in mine), any(_in_outline(r, point) for r in mine)))
        if told:
            told(i + 1, count)
    if not rows:
        raise UsageError(f"{regions.name}: no image shows any of {', '.join(regions.categories)}")
    return _score(rows, seed)


def _peak(heat: NDArray[np.float32], record: RegionRecord) -> tuple[float, float]:
    """Centre of the highest cell, inside the image."""
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    return min((column + 0.5) * CELL_PX, record.width - 0.5), min((row + 0.5) * CELL_PX, record.height - 0.5)


def in_box(region: Region, point: tuple[float, float]) -> bool:
    """Of the image's pixels, both."""
    x0, y0, x1, y1 = region.box_px
    return x0 <= point[0] < x1 and y0 <= point[1] < y1


def _in_outline(region: Region, point: tuple[float, float]) -> bool:
    if not region.rings:
        return in_box(region, point)
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
    interval = middle(100 * hits[drawn].sum(1) / pairs[drawn].sum(1))
    outlined = 100 * sum(row[3] for row in rows) / len(rows)
    return PointingScore(100 * float(hits.sum() / pairs.sum()), interval, outlined, per_class, len(rows))


def middle(values: NDArray[np.float64]) -> Interval:
    """Where the middle 95 % of drawn values lie."""
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))
