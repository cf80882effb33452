"""Filters of single-band 8-bit maps whose cost does not grow with the window: mean, median and highest."""

from __future__ import annotations

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
