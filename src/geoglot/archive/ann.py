"""The approximate path: LanceDB's IVF_RQ index proposes chips, exact scores rank them. For more than EXACT_LIMIT chips.

Measured on 1,000,000 x 512: recall@10 0.985 against the exact answer, and 0.995 under a 10 % filter. It is not used for
narrower filters, where its recall falls (0.57 at 0.1 %) and the exact path is quicker anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.filters import Filter, Selection
from geoglot.archive.ranking import Rows, Scores, best
from geoglot.archive.snapshot import Snapshot
from geoglot.archive.store import Store, quoted
from geoglot.types import Bbox

PROBES = 64
REFINE = 4
FETCH_LEAST = 1024
"""Never fewer candidates, so that the first pages of an answer come from one and the same list."""
PLACE = ("scene_id", "x0", "y0", "x1", "y1")


class AnnRanker:
    """Ranks what the index proposes. A list ends where the probed part of the index does."""

    def __init__(
        self, store: Store, snapshot: Snapshot, query: NDArray[np.float32], selection: Selection, filter: Filter
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._query = query
        self._selection = selection
        self._where = where(snapshot, selection, filter)
        self.considered = 0

    def top(self, k: int) -> tuple[Rows, Scores]:
        """See Ranker."""
        limit = max(FETCH_LEAST, 2 * k)
        while True:
            places = self._store.nearest(self._query, limit, self._where, PLACE, probes=PROBES, refine=REFINE)
            rows = self._rows(places)
            if len(rows) >= k or len(places) < limit:
                break
            limit *= 4  # a polygon's bounds let chips through that the polygon does not
        self.considered = max(self.considered, len(rows))
        return best(rows, self._snapshot.arrays.vectors, self._query, k)

    def _rows(self, places: list[dict[str, Any]]) -> Rows:
        candidates = (self._snapshot.find(p["scene_id"], (p["x0"], p["y0"], p["x1"], p["y1"])) for p in places)
        rows = np.unique(np.array([row for row in candidates if row is not None], dtype=np.int64))
        return rows if self._selection.rows is None else rows[self._selection.rows[rows]]


def where(snapshot: Snapshot, selection: Selection, filter: Filter) -> str | None:
    """The filter in SQL, or a slightly wider one: a polygon counts by its bounds. None when all chips pass."""
    parts = []
    if selection.scenes is not None:
        parts.append(_scene_sql(snapshot, selection.scenes))
    if filter.bbox is not None:
        parts.append(_bbox_sql(filter.bbox))
    if filter.polygon is not None:
        parts.append(_bbox_sql(Bbox(*filter.polygon.bounds)))
    return " AND ".join(f"({part})" for part in parts) or None


def _scene_sql(snapshot: Snapshot, scenes: NDArray[np.bool_]) -> str:
    few = scenes if 2 * np.count_nonzero(scenes) <= len(scenes) else ~scenes
    ids = snapshot.arrays.scene_ids[few].tolist()
    if not ids:
        return "false" if few is scenes else "true"
    return f"scene_id {'IN' if few is scenes else 'NOT IN'} ({quoted(ids)})"


def _bbox_sql(box: Bbox) -> str:
    sides = " OR ".join(
        f"(west <= east AND west <= {p.east!r} AND east >= {p.west!r}) "
        f"OR (west > east AND (west <= {p.east!r} OR east >= {p.west!r}))"
        for p in box.parts()
    )
    return f"({sides}) AND south <= {box.north!r} AND north >= {box.south!r}"
