"""Pixels of a mask that touch: connected areas as runs of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Blob:
    """Touching pixels of a mask.

    Attributes:
        area: Pixels.
        centre: (x, y), mean of the pixels' indices.
        box: (x0, y0, x1, y1), half-open.
        rows, starts, stops: Its runs: in row `rows[i]` the pixels from starts[i] up to stops[i].
    """

    area: int
    centre: tuple[float, float]
    box: tuple[int, int, int, int]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def blobs(mask: NDArray[np.bool_]) -> list[Blob]:
    """Pixels of a mask that touch at edges or corners, in reading order of their first pixel.

    Cost: the pixels once, then the runs of each row.
    """
    rows, starts, stops = _runs(mask)
    parent = np.arange(len(rows))
    for a, b in _touching(rows, starts, stops, mask.shape[1]):
        a, b = _root(parent, a), _root(parent, b)
        parent[max(a, b)] = min(a, b)
    roots = np.array([_root(parent, i) for i in range(len(rows))], np.int64)
    order = np.argsort(roots, kind="stable")
    cuts = np.flatnonzero(np.diff(roots[order])) + 1
    return [_blob(rows[part], starts[part], stops[part]) for part in np.split(order, cuts) if len(part)]


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    flat = np.pad(mask, ((0, 0), (1, 1))).ravel()  # no run goes on in the next row
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    wide = mask.shape[1] + 2
    return changes[::2] // wide, changes[::2] % wide, changes[1::2] % wide


def _touching(
    rows: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64], width: int
) -> list[tuple[int, int]]:
    """Pairs of runs in rows that follow each other and that touch, corners included."""
    wide = width + 2
    first = np.searchsorted(rows * wide + stops, (rows - 1) * wide + starts, side="left")
    last = np.searchsorted(rows * wide + starts, (rows - 1) * wide + stops, side="right")
    return [(i, j) for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)) for j in range(a, b)]


def _root(parent: NDArray[np.int64], at: int) -> int:
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = int(parent[at])
    return at


def _blob(rows: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Blob:
    lengths = stops - starts
    area = int(lengths.sum())
    x = float((lengths * (starts + stops - 1)).sum()) / 2 / area
    y = float((lengths * rows).sum()) / area
    box = (int(starts.min()), int(rows.min()), int(stops.max()), int(rows.max()) + 1)
    return Blob(area, (x, y), box, rows, starts, stops)
