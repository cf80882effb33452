"""Maps made larger: linear between the centres of cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def enlarged(values: Floats, size: tuple[int, int], steps: tuple[float, float] | None = None) -> Floats:
    """A map [..., h, w] at another size [..., H, W]; not smoothed first where it gets smaller.

    Args:
        values: The map.
        size: (H, W).
        steps: Cells a pixel of the result (down, across); by default the result shows the whole map.
    """
    height, width = values.shape[-2:]
    down_step, across_step = steps or (height / size[0], width / size[1])
    top, down = linear_weights(0, size[0], down_step, height)
    left, across = linear_weights(0, size[1], across_step, width)
    near = values[..., top : top + down.shape[1], left : left + across.shape[1]]
    return np.asarray(down @ near @ across.T, np.float32)


def linear_weights(first: int, count: int, step: float, cells: int) -> tuple[int, Floats]:
    """Linear interpolation between the centres of cells, for pixels first ... first + count of an axis.

    A product with the matrix is quicker than gathering neighbours, as long as `count * step` is small.

    Args:
        first, count: The pixels.
        step: Cells a pixel; pixel i has its centre at (i + 1/2) * step.
        cells: Length of the axis; beyond the outer centres values stay as they are there.

    Returns:
        The first cell needed, and weights [count, n] for the n cells from there on; each row sums to 1.
    """
    place = np.clip((np.arange(first, first + count) + 0.5) * step - 0.5, 0, cells - 1)
    left = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    share = (place - left).astype(np.float32)
    origin = int(left[0])
    weights = np.zeros((count, int(min(left[-1] + 2, cells)) - origin), np.float32)
    rows = np.arange(count)
    weights[rows, left - origin] = 1 - share
    if cells > 1:
        weights[rows, left - origin + 1] = share
    return origin, weights
