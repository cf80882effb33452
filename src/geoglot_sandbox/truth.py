"""Perfect labels of a drawn scene: objects with boxes and outlines, referring expressions, captions."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot_sandbox.captions import describe, refer
from geoglot_sandbox.concepts import CONCEPTS
from geoglot_sandbox.painter import Painted
from geoglot_sandbox.world import World

LEAST_PX = 9
"""Objects of which fewer pixels are visible are left out."""


def instances(painted: Painted, world: World) -> list[dict[str, Any]]:
    """One record per visible object: id, class, box_px of its visible pixels, their number, polygons of its parts."""
    records = []
    for number, box, area in _boxes(painted.objects):
        outlines = [[[round(x, 2), round(y, 2)] for x, y in part] for part in painted.outlines[number]]
        records.append(
            {"id": number, "class": world.objects[number - 1], "box_px": box, "area_px": area, "polygons_px": outlines}
        )
    return records


def _boxes(objects: NDArray[np.int32]) -> list[tuple[int, list[int], int]]:
    """(number, [x0, y0, x1, y1], pixels) of every object with enough pixels; half-open boxes."""
    ys, xs = np.nonzero(objects)
    numbers, place = np.unique(objects[ys, xs], return_inverse=True)
    if not len(numbers):
        return []
    low, high = np.full((len(numbers), 2), 1 << 30), np.zeros((len(numbers), 2), np.int64)
    for axis, values in enumerate((xs, ys)):
        np.minimum.at(low[:, axis], place, values)
        np.maximum.at(high[:, axis], place, values + 1)
    areas = np.bincount(place)
    return [
        (int(n), [int(v) for v in (*low[i], *high[i])], int(areas[i]))
        for i, n in enumerate(numbers)
        if areas[i] >= LEAST_PX
    ]


def expressions(records: Sequence[dict[str, Any]], size_px: tuple[int, int], limit: int = 60) -> list[dict[str, Any]]:
    """Referring expressions in ten languages for objects that are alone of their class in a ninth of the picture."""
    cells: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for record in records:
        x0, y0, x1, y1 = record["box_px"]
        column, row = int(1.5 * (x0 + x1) / size_px[0]), int(1.5 * (y0 + y1) / size_px[1])
        cells.setdefault((record["class"], min(2, column), min(2, row)), []).append(record)
    alone = [(key, found[0]) for key, found in cells.items() if len(found) == 1]
    return [
        {"instance": record["id"], "box_px": record["box_px"], "text": refer(name, column, row)}
        for (name, column, row), record in alone[:limit]
    ]


def shares(mask: NDArray[np.uint8]) -> dict[str, float]:
    """Share of the picture that each class covers, the largest first."""
    counts = np.bincount(mask.ravel(), minlength=len(CONCEPTS)) / mask.size
    order = np.argsort(-counts, kind="stable")
    return {CONCEPTS[i]: round(float(counts[i]), 5) for i in order if counts[i] > 0}


def scene_captions(
    mask: NDArray[np.uint8], records: Sequence[dict[str, Any]], rng: Random
) -> dict[str, tuple[str, ...]]:
    """Sentences about the whole scene, from what covers most of it."""
    labels = [name for name, share in shares(mask).items() if share > 0.02 and name != "other"] or ["meadow"]
    counts: dict[str, int] = {}
    for record in records:
        counts[record["class"]] = counts.get(record["class"], 0) + 1
    return describe(labels, counts, rng)
