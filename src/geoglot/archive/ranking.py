"""Rank the chips that a filter left, and fold overlapping ones together.

Two ways to rank, chosen by how many chips are left (`EXACT_LIMIT`): compare all of them, or let the approximate index
propose some. Either way the final order comes from float64 dot products of the same float32 vectors, ties broken by
row, so it does not depend on how the rows were gathered or on the rounding of a matrix product.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.filters import Selection
from geoglot.archive.snapshot import Snapshot

EXACT_LIMIT = 1_000_000
"""Most chips that are compared one by one; above it the approximate index is used if the archive has one."""
DENSE = 0.2
"""Share of rows above which one product over all of them beats gathering (benchmarks/exact_search.py --sweep)."""
GATHER_ROWS = 16_384
ROUNDING = 4e-6
"""More than twice the error of a float32 dot product of unit vectors, D <= 4096 (bound: D * 2^-24 / 60 in practice)."""
FOLD_COVER = 0.5
"""A hit is folded into a better one when they share at least this part of the smaller window."""
FIRST = 64
TOGETHER = 16
"""Most questions of one product; bounds the memory of their scores: 4 bytes for each chip and question. From
about here on the product is arithmetic more than reading, so that more at once would save little."""

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


class Ranker(Protocol):
    """Ranked chips, as many as asked for."""

    considered: int

    def top(self, k: int) -> tuple[Rows, Scores]:
        """The k best rows and their scores, best first; fewer when there are no more. A longer list starts alike."""
        ...


@dataclass(eq=False, slots=True)
class _Question:
    query: NDArray[np.float32]
    scores: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Scan:
    """One product over all vectors for all questions that wait: what a scan costs is reading them, not the questions.

    Whoever comes while nobody scans scans at once, alone. Whoever comes meanwhile waits, and the first of those to wake
    takes along all others that wait. So a lone question is never held up, and many together cost little more than a
    few. Safe between threads. A failure (memory) reaches the one whose thread it struck; the others stay in the queue
    and are asked again.

    Attributes:
        vectors: float32 [N, D], all of one state of an archive.
    """

    vectors: NDArray[np.float32]
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _waiting: list[_Question] = field(default_factory=list)
    _busy: bool = False

    def scores(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Products of the vectors with a query float32 [D] -> [N].

        They may differ in rounding from one call to the next, as they do with the number of threads.

        Raises:
            ValueError: The query has another length than the vectors.
        """
        if query.shape != self.vectors.shape[1:]:
            raise ValueError(f"a query of shape {query.shape} for vectors of shape {self.vectors.shape}")
        own = _Question(query)
        with self._changed:
            self._waiting.append(own)
            while self._busy and own.scores is None:
                self._changed.wait()
            if own.scores is not None:
                return own.scores.copy()  # a row of what all of them share, which would stay as long as the slowest
            self._busy = True
            together = [own, *(other for other in self._waiting if other is not own)][:TOGETHER]
        try:
            products = _products(self.vectors, [question.query for question in together])
            for question, scores in zip(together, products, strict=True):
                question.scores = scores
            return products[0] if len(products) == 1 else products[0].copy()
        finally:
            with self._changed:
                self._waiting = [q for q in self._waiting if q.scores is None and q is not own]
                self._busy = False
                self._changed.notify_all()


def _products(vectors: NDArray[np.float32], queries: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    if len(queries) == 1:
        return [vectors @ queries[0]]  # half the time of a product of matrices
    return list(np.stack(queries) @ vectors.T)


class ExactRanker:
    """Compares every chip that is left, once, at construction."""

    def __init__(self, scan: Scan, query: NDArray[np.float32], selection: Selection) -> None:
        self._vectors = scan.vectors
        self._query = query
        self._rows, self._rough = _rough_scores(scan, query, selection)
        self.considered = selection.count

    def top(self, k: int) -> tuple[Rows, Scores]:
        """See Ranker."""
        rough = self._rough
        if k < len(rough):
            least = np.partition(rough, len(rough) - k)[len(rough) - k] - ROUNDING
            near = np.flatnonzero(rough >= least)
        else:
            near = np.arange(len(rough))
        return best(near if self._rows is None else self._rows[near], self._vectors, self._query, k)


def best(rows: Rows, vectors: NDArray[np.float32], query: NDArray[np.float32], k: int) -> tuple[Rows, Scores]:
    """The k best of some rows by exact score, ties by row: (rows, scores in [-1, 1])."""
    scores = exact_scores(vectors, rows, query)
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def exact_scores(vectors: NDArray[np.float32], rows: Rows, query: NDArray[np.float32]) -> Scores:
    """Cosines in float64 [M]; a row's value depends on that row alone, not on its neighbours."""
    wide = query.astype(np.float64)
    parts = [
        np.sum(vectors[rows[i : i + GATHER_ROWS]].astype(np.float64) * wide, axis=1)
        for i in range(0, len(rows), GATHER_ROWS)
    ]
    return np.clip(np.concatenate(parts), -1.0, 1.0) if parts else np.empty(0)


def _rough_scores(
    scan: Scan, query: NDArray[np.float32], selection: Selection
) -> tuple[Rows | None, NDArray[np.float32]]:
    """(rows or None for all, float32 scores)."""
    if selection.rows is None:
        return None, scan.scores(query)
    rows, vectors = np.flatnonzero(selection.rows), scan.vectors
    if len(rows) > DENSE * len(vectors):
        return rows, scan.scores(query)[rows]
    scores = np.empty(len(rows), np.float32)
    for i in range(0, len(rows), GATHER_ROWS):
        scores[i : i + GATHER_ROWS] = vectors[rows[i : i + GATHER_ROWS]] @ query
    return rows, scores


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked chip: its row, its score, and how many worse ones were folded into it."""

    row: int
    score: float
    merged: int = 0


def hits(snapshot: Snapshot, ranker: Ranker, selection: Selection, *, merge: bool) -> Iterator[Hit]:
    """All hits, best first; asks the ranker for more as they are taken.

    With `merge`, hits of one scene that overlap a better one by FOLD_COVER are left out and counted there. The count is
    over all chips that the filter left, so it does not depend on how many hits are taken.
    """
    taken = np.zeros(len(snapshot), bool) if merge else None
    done, k = 0, FIRST
    while True:
        rows, scores = ranker.top(k)
        for row, score in zip(rows[done:].tolist(), scores[done:].tolist(), strict=True):
            if taken is None:
                yield Hit(row, score)
            elif not taken[row]:
                yield Hit(row, score, _fold(snapshot, selection, taken, row))
        if len(rows) < k:
            return
        done, k = len(rows), k * 4


def _fold(snapshot: Snapshot, selection: Selection, taken: NDArray[np.bool_], row: int) -> int:
    """Mark the chips of the scene that overlap this one; returns how many others there were."""
    scene = snapshot.scene_of(row)
    start, stop = (int(v) for v in snapshot.arrays.scene_start[scene : scene + 2])
    windows = snapshot.arrays.windows
    fresh = ~taken[start:stop] & (cover(windows[start:stop], windows[row]) >= FOLD_COVER)
    if selection.rows is not None:
        fresh &= selection.rows[start:stop]
    taken[start:stop] |= fresh
    return int(np.count_nonzero(fresh)) - 1


def cover(windows: NDArray[np.int32], window: NDArray[np.int32]) -> NDArray[np.float64]:
    """Intersection over the smaller window's area, in [0, 1]: windows int32 [M, 4] against [4] -> [M]."""
    a, b = windows.astype(np.int64), window.astype(np.int64)
    width = np.minimum(a[:, 2], b[2]) - np.maximum(a[:, 0], b[0])
    height = np.minimum(a[:, 3], b[3]) - np.maximum(a[:, 1], b[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    return np.asarray(shared / np.minimum(areas, (b[2] - b[0]) * (b[3] - b[1])))
