"""One product over all vectors for all questions that wait: what a scan costs is reading them, not the questions.

Whoever comes while nobody scans scans at once, alone. Whoever comes meanwhile waits, and the first of those to wake
takes along all others that wait. So a lone question is never held up, and many together cost little more than a few.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

TOGETHER = 16
"""Most questions of one product; bounds the memory of their scores: 4 bytes for each chip and question. From
about here on the product is arithmetic more than reading, so that more at once would save little."""

Vector = NDArray[np.float32]


@dataclass(eq=False, slots=True)
class _Asked:
    query: Vector
    scores: Vector | None = None


@dataclass(slots=True)
class Scan:
    """The questions to one set of vectors. Safe between threads.

    A failure (memory) reaches the one whose thread it struck; the others stay in the queue and are asked again.
    """

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _waiting: list[_Asked] = field(default_factory=list)
    _busy: bool = False

    def scores(self, vectors: NDArray[np.float32], query: Vector) -> Vector:
        """Products of vectors float32 [N, D], the same in every call, with a query float32 [D] -> [N].

        They may differ in rounding from one call to the next, as they do with the number of threads.

        Raises:
            ValueError: The query has another length than the vectors.
        """
        if query.shape != vectors.shape[1:]:
            raise ValueError(f"a query of shape {query.shape} for vectors of shape {vectors.shape}")
        own = _Asked(query)
        with self._changed:
            self._waiting.append(own)
            while self._busy and own.scores is None:
                self._changed.wait()
            if own.scores is not None:
                return own.scores.copy()  # a row of what all of them share, which would stay as long as the slowest
            self._busy = True
            together = [own, *(other for other in self._waiting if other is not own)][:TOGETHER]
        try:
            found = _products(vectors, [asked.query for asked in together])
            for asked, scores in zip(together, found, strict=True):
                asked.scores = scores
            return found[0] if len(found) == 1 else found[0].copy()
        finally:
            with self._changed:
                self._waiting = [asked for asked in self._waiting if asked.scores is None and asked is not own]
                self._busy = False
                self._changed.notify_all()


def _products(vectors: NDArray[np.float32], queries: list[Vector]) -> list[Vector]:
    if len(queries) == 1:
        return [vectors @ queries[0]]  # half the time of a product of matrices
    return list(np.stack(queries) @ vectors.T)
