"""Windows of several sides over a scene, and on every pixel the mean of the values of all windows that cover it.

The grid is that of semantic localization (Yuan et al. 2022, arXiv 2209.06515; their released code): for each side s,
squares side by side from 0, and once more from s / 2 on both axes; what would reach over the border is shifted back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.imagery.grid import Strip
from geoglot.types import SceneInfo, Window

SIDES_PX = (256, 512, 768)
"""As published ("256_512_768"), at 0.32 m per pixel on average."""


def fitting_sides(width: int, height: int, sides_px: Sequence[int]) -> tuple[int, ...]:
    """Sides, ascending and each once; one that the scene does not hold becomes the scene's shorter side.

    Raises:
        UsageError: No side, or one below 2 px.
    """
    if not sides_px or min(sides_px) < 2:
        raise UsageError(f"window sides {tuple(sides_px)}: at least one, of 2 px or more, is needed")
    return tuple(sorted({min(side, width, height) for side in sides_px}))


@dataclass(frozen=True, slots=True)
class ScaleGrid:
    """The windows of a scene; `read_chips` takes one like a ChipGrid.

    Attributes:
        sides_px: Sides of the squares; clamped as `fitting_sides` says.
        min_valid: Least share of valid pixels of a window that is read.
    """

    sides_px: tuple[int, ...] = SIDES_PX
    min_valid: float = 0.5

    def strips(self, info: SceneInfo) -> Iterator[Strip]:
        """Rows of windows, smallest side first, those from 0 before those from s / 2; no window twice."""
        for side in fitting_sides(info.width, info.height, self.sides_px):
            xs, ys = _starts(info.width, side, 0), _starts(info.height, side, 0)
            for y in ys:
                yield Strip(y, side, side, xs)
            others = _starts(info.width, side, side - side // 2)
            fresh = tuple(x for x in others if x not in set(xs))
            for y in _starts(info.height, side, side - side // 2):
                if row := fresh if y in set(ys) else others:
                    yield Strip(y, side, side, row)

    def windows(self, info: SceneInfo) -> list[Window]:
        """All windows, in the order of `strips`."""
        return [window for strip in self.strips(info) for window in strip.windows()]


def _starts(length: int, side: int, first: int) -> tuple[int, ...]:
    """Where squares begin on an axis; the last is shifted to end at the border."""
    return tuple(dict.fromkeys(min(at, length - side) for at in range(first, length, side)))


@dataclass(frozen=True, slots=True)
class Steps:
    """A map that changes at the edges of a grid only.

    Attributes:
        values: float32 [h, w] of the cells between edges; NaN where nothing is known.
        x, y: int64 [w + 1] and [h + 1], ascending from 0 to the map's width and height.
    """

    values: NDArray[np.float32]
    x: NDArray[np.int64]
    y: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Steps:
        """A map [H, W] in which each pixel is a cell."""
        height, width = values.shape
        return cls(values, np.arange(width + 1), np.arange(height + 1))

    def spread(self) -> NDArray[np.float32]:
        """float32 [H, W]."""
        if self.values.shape == (self.y[-1], self.x[-1]):
            return self.values
        return np.repeat(np.repeat(self.values, np.diff(self.x), axis=1), np.diff(self.y), axis=0)


@dataclass(frozen=True)
class Cover:
    """Boxes on a map, to average values over those that cover each pixel.

    Between two neighbouring edges of boxes nothing changes, so the map is computed on the grid of all edges and then
    spread. On that grid each box adds its value at two corners of a table of differences and takes it away at the
    other two; summing the table twice gives the sum over the covering boxes (Crow 1984, read backwards). Cost: boxes,
    and one pass over the pixels, whatever the boxes' sizes. Exact up to float64 rounding.

    Attributes:
        boxes: int64 [N, 4], x0 y0 x1 y1, half-open, inside the map; empty boxes count nowhere.
        height, width: Of the map.
    """

    boxes: NDArray[np.int64]
    height: int
    width: int

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Values [N] -> float32 [H, W]; NaN where no box lies."""
        return self.steps(values).spread()

    def steps(self, values: NDArray[np.floating]) -> Steps:
        """The same, before it is spread over the pixels."""
        found = np.full(self._count.shape, np.nan)
        np.divide(self._summed(values), self._count, out=found, where=self._count > 0)
        return Steps(found.astype(np.float32), *self._edges)

    @cached_property
    def _edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All x and all y at which a box, or the map, begins or ends."""
        x, y = self.boxes[:, ::2], self.boxes[:, 1::2]
        return np.union1d(x, [0, self.width]), np.union1d(y, [0, self.height])

    @cached_property
    def _count(self) -> NDArray[np.int64]:
        """How many boxes cover each cell between edges."""
        return np.rint(self._summed(np.ones(len(self.boxes)))).astype(np.int64)

    def _summed(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        corners, shape = self._corners
        signed = np.concatenate([values, values, -values, -values])
        table = np.bincount(corners, weights=signed, minlength=shape[0] * shape[1]).astype(np.float64, copy=False)
        return np.asarray(table.reshape(shape).cumsum(axis=0).cumsum(axis=1)[:-1, :-1])

    @cached_property
    def _corners(self) -> tuple[NDArray[np.int64], tuple[int, int]]:
        """Where the four additions go, in a flat table, and the table's shape."""
        x0, y0, x1, y1 = (np.searchsorted(self._edges[i % 2], self.boxes[:, i]) for i in range(4))
        wide = len(self._edges[0])
        corners = np.concatenate([y0 * wide + x0, y1 * wide + x1, y0 * wide + x1, y1 * wide + x0])
        return corners, (len(self._edges[1]), wide)


def to_cells(boxes: NDArray[np.floating | np.integer], cell_px: int) -> NDArray[np.int64]:
    """Pixel boxes [N, 4] as boxes of cells: a cell belongs to a box when its centre does. Exact for whole cells."""
    return np.ceil(np.asarray(boxes, np.float64) / cell_px - 0.5).astype(np.int64)
