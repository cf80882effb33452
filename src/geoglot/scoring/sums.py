"""Values of boxes, averaged over those that cover each cell of a map, whatever the boxes' sizes.

Each box adds its value at two corners of a table of differences and takes it away at the other two; summing the table
twice gives the sum over the covering boxes (Crow 1984, read backwards). Cost: boxes plus cells. Exact up to float64
rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]


@dataclass(frozen=True)
class BoxSums:
    """Boxes on a map of cells.

    Attributes:
        boxes: int64 [N, 4], x0 y0 x1 y1, half-open; what reaches over the map is cut, empty boxes count nowhere.
        height, width: Of the map.
    """

    boxes: NDArray[np.int64]
    height: int
    width: int

    def sums(self, values: Numbers) -> NDArray[np.float64]:
        """Values [N] -> their sums over the boxes that cover each cell, [height, width]."""
        size = (self.height + 1) * (self.width + 1)
        signed = np.concatenate([values, values, -values, -values])
        table = np.bincount(self._corners, weights=signed, minlength=size).astype(np.float64, copy=False)
        return np.asarray(table.reshape(self.height + 1, -1).cumsum(axis=0).cumsum(axis=1)[:-1, :-1])

    def mean(self, values: Numbers, weights: Numbers | None = None) -> NDArray[np.float32]:
        """Values [N] -> their mean, weighted by weights [N], float32 [height, width]; NaN where no box lies."""
        total = self.sums(values if weights is None else weights * values)
        mass = self.counts if weights is None else self.sums(weights)
        mean = np.full(total.shape, np.nan)
        np.divide(total, mass, out=mean, where=self.counts > 0)
        return mean.astype(np.float32)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many boxes cover each cell."""
        return np.rint(self.sums(np.ones(len(self.boxes)))).astype(np.int64)

    @cached_property
    def _corners(self) -> NDArray[np.int64]:
        """Where the four additions go, in a flat table of (height + 1) x (width + 1)."""
        x0, y0, x1, y1 = np.clip(self.boxes.T, 0, np.array([[self.width], [self.height]] * 2))
        wide = self.width + 1
        return np.concatenate([y0 * wide + x0, y1 * wide + x1, y0 * wide + x1, y1 * wide + x0])


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
    """Boxes on a map of many pixels, to average values over those that cover each of them.

    Between two neighbouring edges of boxes nothing changes, so means are taken on the grid of all edges, and then
    spread over the pixels.

    Attributes:
        boxes: int64 [N, 4], x0 y0 x1 y1, half-open, inside the map; empty boxes count nowhere.
        height, width: Of the map.
    """

    boxes: NDArray[np.int64]
    height: int
    width: int

    def mean(self, values: Numbers) -> NDArray[np.float32]:
        """Values [N] -> float32 [H, W]; NaN where no box lies."""
        return self.steps(values).spread()

    def steps(self, values: Numbers) -> Steps:
        """The same, before it is spread over the pixels."""
        return Steps(self._between_edges.mean(values), *self._edges)

    @cached_property
    def _edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All x and all y at which a box, or the map, begins or ends."""
        x, y = self.boxes[:, ::2], self.boxes[:, 1::2]
        return np.union1d(x, [0, self.width]), np.union1d(y, [0, self.height])

    @cached_property
    def _between_edges(self) -> BoxSums:
        """The boxes on the grid of edges."""
        columns = [np.searchsorted(self._edges[i % 2], self.boxes[:, i]) for i in range(4)]
        return BoxSums(np.stack(columns, axis=1), len(self._edges[1]) - 1, len(self._edges[0]) - 1)


def to_cells(boxes: NDArray[np.floating | np.integer], cell_px: int) -> NDArray[np.int64]:
    """Pixel boxes [N, 4] as boxes of cells: a cell belongs to a box when its centre does. Exact for whole cells."""
    return np.ceil(np.asarray(boxes, np.float64) / cell_px - 0.5).astype(np.int64)
