"""Filters of single-band 8-bit maps whose cost does not grow with the window: mean, median, highest, plateaus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]

STRIP_ROWS = 512
"""Rows that the median works on at once: bounds its memory to a few arrays of 8 bytes a pixel."""


def box_blur(grey: Grey, side: int) -> Grey:
    """Mean over side x side pixels, rounded to whole grey levels; [i - side // 2, i + (side - 1) // 2] on each axis.

    Beyond the border the picture is mirrored without repeating its edge, as OpenCV's default is.
    """
    before, after = side // 2, (side - 1) // 2
    padded = np.pad(grey, ((before, after), (before, after)), mode="reflect").astype(np.int64)
    for axis in (0, 1):
        padded = _window_sums(padded, side, axis)
    return np.rint(padded / side**2).astype(np.uint8)


def _window_sums(values: NDArray[np.int64], side: int, axis: int) -> NDArray[np.int64]:
    """Sums over `side` neighbours along an axis, which gets side - 1 shorter."""
    total = np.cumsum(values, axis=axis)
    low = np.zeros_like(np.take(total, [0], axis))
    total = np.concatenate([low, total], axis=axis)
    ends = [slice(None)] * 2, [slice(None)] * 2
    ends[0][axis], ends[1][axis] = slice(side, None), slice(None, -side)
    return np.asarray(total[tuple(ends[0])] - total[tuple(ends[1])])


def median(grey: Grey, side: int) -> Grey:
    """Exact median over side x side pixels, side odd; the border's pixels are repeated outside.

    Cost: pixels times grey levels that occur. A window's median is the first level below or at which half of it lies,
    and how many pixels lie at or below a level is a window sum.
    """
    reach = side // 2
    padded = np.pad(grey, reach, mode="edge")
    levels = np.unique(grey)
    out = np.empty_like(grey)
    for top in range(0, grey.shape[0], STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, grey.shape[0])
        out[top:bottom] = _median_strip(padded[top : bottom + 2 * reach], levels, side)
    return out


def _median_strip(padded: Grey, levels: Grey, side: int) -> Grey:
    height, width = padded.shape[0] - side + 1, padded.shape[1] - side + 1
    out = np.full((height, width), levels[0], np.uint8)
    table = np.zeros((padded.shape[0] + 1, padded.shape[1] + 1), np.int32)
    half = side * side // 2
    for level, above in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        np.cumsum(padded <= level, axis=0, out=table[1:, 1:])
        np.cumsum(table[1:, 1:], axis=1, out=table[1:, 1:])
        below = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
        higher = below <= half  # at most half lies at or below this level: the median is above
        if not higher.any():
            break
        out[higher] = above
    return out


def highest(grey: NDArray[np.generic], side: int) -> NDArray[np.generic]:
    """Maximum over side x side pixels, [i - side // 2, i + (side - 1) // 2] on each axis, cut at the border."""
    for axis in (0, 1):
        grey = _highest_along(grey, side, axis)
    return grey


def _highest_along(values: NDArray[np.generic], side: int, axis: int) -> NDArray[np.generic]:
    """Spans double until the next would be too long; two of the last, one at each end, make the window."""
    length = values.shape[axis]
    before, after = side // 2, (side - 1) // 2
    pads = [(0, 0), (0, 0)]
    pads[axis] = (before, after)
    found = np.moveaxis(np.pad(values, pads, constant_values=values.min()), axis, 0)
    span = 1
    while 2 * span <= side:
        found = np.maximum(found[:-span], found[span:])
        span *= 2
    last = side - span
    return np.moveaxis(np.maximum(found[:length], found[last : last + length]), 0, axis)


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
