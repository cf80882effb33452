"""Windows that overlap, blended into one map of a raster of any height.

Windows lie on a lattice of cells, so their values add up without resampling. A cell's value is

    sum over the windows that cover it of weight * value / sum of weights

and a strip as high as one window is all that is held: when windows move on, the rows above them are finished.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.imagery.grid import starts

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one axis.

    Attributes:
        cells: Length of the axis, at least 1.
        side: Cells of a window, at least 1; may be more than there are, then the only window reaches over the end.
        firsts: Where windows begin, ascending from 0; together they cover the axis, and the last ends with it.
    """

    cells: int
    side: int
    firsts: tuple[int, ...]

    @classmethod
    def cut(cls, cells: int, side: int, overlap: float) -> Axis:
        """Windows that repeat a share `overlap` in [0, 1) of their neighbour; the last one more.

        Raises:
            UsageError: A length below 1, or such an overlap.
        """
        if min(cells, side) < 1:
            raise UsageError(f"windows need lengths of at least 1, got {cells} cells and side {side}")
        if not 0 <= overlap < 1:
            raise UsageError(f"overlap must lie in [0, 1), got {overlap}", hint="Try 0.5.")
        return cls(cells, side, tuple(starts(cells, side, overlap)))

    def cover(self) -> NDArray[np.int64]:
        """How many windows cover each cell, [cells]."""
        change = np.zeros(self.cells + 1, np.int64)
        for first in self.firsts:
            change[first] += 1
            change[min(first + self.side, self.cells)] -= 1
        return change.cumsum()[:-1]


def hill(side: int) -> Floats:
    """Weights sin^2(pi (i + 1/2) / side) along a window: full in the middle, next to nothing at its borders.

    At an overlap of one half the weights of neighbours add up to 1 (Hann's window).
    """
    place = (np.arange(side) + 0.5) / side
    return np.sin(np.pi * place).astype(np.float32) ** 2


def hills(height: int, width: int) -> Floats:
    """Weights of a window, [height, width]: the product of both axes' hills."""
    return np.outer(hill(height), hill(width))


class Blend:
    """Adds windows up, and gives out the rows that no further window reaches.

    Memory: (channels + 1) * strip * width * 4 bytes, whatever the height of the raster.

    Args:
        channels: Values a cell.
        width: Cells across the raster.
        strip: Most rows of a window.
    """

    def __init__(self, channels: int, width: int, strip: int) -> None:
        self._sum = np.zeros((channels, strip, width), np.float32)
        self._weight = np.zeros((strip, width), np.float32)
        self._top = 0

    def add(self, row: int, column: int, values: Floats, weights: Floats) -> None:
        """Add a window that begins at a cell; what reaches over the raster's right side is left out.

        Args:
            row: At least the last `finish`; the window must end within `strip` rows of it.
            column: In [0, width).
            values: [channels, h, w].
            weights: [h, w], positive.

        Raises:
            UsageError: The rows are finished, or not yet within reach.
        """
        first, height = row - self._top, values.shape[1]
        if first < 0 or first + height > self._sum.shape[1]:
            raise UsageError(f"rows {row} to {row + height} are not within the strip that begins at {self._top}")
        width = min(values.shape[2], self._sum.shape[2] - column)
        rows, columns = slice(first, first + height), slice(column, column + width)
        self._sum[:, rows, columns] += values[:, :, :width] * weights[:, :width]
        self._weight[rows, columns] += weights[:, :width]

    def finish(self, until: int) -> Floats:
        """Averages of all rows above `until`, [channels, rows, width]; 0 where no window was."""
        done, strip = until - self._top, self._sum.shape[1]
        out = np.zeros((self._sum.shape[0], max(done, 0), self._sum.shape[2]), np.float32)
        if done <= 0:
            return out
        here = min(done, strip)
        weight = self._weight[:here]
        np.divide(self._sum[:, :here], weight, out=out[:, :here], where=weight > 0)
        for held in (self._sum, self._weight):
            held[..., : strip - here, :] = held[..., here:, :].copy()
            held[..., strip - here :, :] = 0
        self._top = until
        return out
