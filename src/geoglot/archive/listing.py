"""Chips without a question: page after page in a fixed order, and all at once with their vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.filters import Filter, select
from geoglot.archive.snapshot import Snapshot
from geoglot.errors import UsageError
from geoglot.types import Chip, SceneInfo


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of chips.

    Attributes:
        chips: Each with its scene, in the order of rows.
        total: Chips that the filter left, on all pages.
        more: Whether there are chips behind this page.
        undated, unplaced: See SearchResult.
    """

    chips: tuple[tuple[Chip, SceneInfo], ...]
    total: int
    more: bool
    undated: int = 0
    unplaced: int = 0


def list_chips(snapshot: Snapshot, wanted: Filter, limit: int, after: str) -> Listing:
    """See Archive.list_chips. A cursor and not an offset: what is added or removed meanwhile shifts no page."""
    if limit < 1:
        raise UsageError(f"limit {limit} must be at least 1")
    selection = select(snapshot, wanted)
    start = snapshot.after(after) if after else 0
    if selection.rows is None:
        rows = np.arange(start, min(start + limit + 1, len(snapshot)))
    else:
        rows = start + np.flatnonzero(selection.rows[start:])[: limit + 1]
    page = tuple(placed(snapshot, int(row)) for row in rows[:limit])
    return Listing(page, selection.count, len(rows) > limit, selection.undated, selection.unplaced)


def placed(snapshot: Snapshot, row: int) -> tuple[Chip, SceneInfo]:
    """The chip of a row and its scene."""
    return snapshot.chip(row), snapshot.record(snapshot.scene_of(row)).info


@dataclass(frozen=True, slots=True)
class ChipVectors:
    """Some chips of a state.

    Attributes:
        rows: int64 [N], ascending.
    """

    snapshot: Snapshot
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        """How many chips."""
        return len(self.rows)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """Bounds, float64 [4, N]: west south east north; NaN without a georeference."""
        return np.asarray(self.snapshot.arrays.boxes[:, self.rows])

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Unit vectors float32 [<= size, D], in the order of rows."""
        for at in range(0, len(self.rows), size):
            yield np.asarray(self.snapshot.arrays.vectors[self.rows[at : at + size]])

    def chip(self, number: int) -> tuple[Chip, SceneInfo]:
        """The chip of a number in [0, N) and its scene."""
        return placed(self.snapshot, int(self.rows[number]))
