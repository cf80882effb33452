"""Metrics in plain NumPy. Shapes: N images, M texts, K classes. Ranking at scale is in ranks.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from geoglot.evaluation.ranks import TIE
from geoglot.evaluation.report import Interval

Scores = NDArray[np.float32]
Rows = NDArray[np.int64]


def top1(image_class: Scores, labels: NDArray[np.int64]) -> float:
    """Percent of images [N, K] whose best class is theirs."""
    return 100 * float((image_class.argmax(1) == labels).mean())


def class_ranks(image_class: Scores, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many wrong classes stand before the right one [N]; a class that ties with it (see ranks.py) does."""
    right = np.take_along_axis(image_class, labels[:, None], 1)
    ranks: NDArray[np.int64] = (image_class >= right - np.float32(TIE)).sum(1) - 1
    return ranks


def mean_class(hits: NDArray[np.bool_], labels: NDArray[np.int64]) -> float:
    """Percent; the mean over the classes that occur of the share of their images that were hit [N]."""
    counts = np.bincount(labels)
    return 100 * float((np.bincount(labels, hits)[counts > 0] / counts[counts > 0]).mean())


def precision_at(scores: NDArray[np.float32], relevant: NDArray[np.bool_], k: int) -> float:
    """Percent of the k best of one query [N] that are relevant [N]; fewer than k columns count as they are."""
    best = np.argsort(-scores, kind="stable")[:k]
    return 100 * float(relevant[best].mean())


def bootstrap(statistic: Callable[[Rows], float], count: int, *, rounds: int = 1000, seed: int = 0) -> Interval:
    """95 % percentile interval of a statistic over resampled indices (Efron 1979).

    Args:
        statistic: Takes indices [count] with repetition, gives a number.
        count: How many items there are.
        rounds: Resamplings.
        seed: Of the resampling.
    """
    return bootstraps(lambda rows: np.array([statistic(rows)]), count, rounds=rounds, seed=seed)[0]


def bootstraps(
    statistics: Callable[[Rows], NDArray[np.float64]], count: int, *, rounds: int = 1000, seed: int = 0
) -> list[Interval]:
    """As `bootstrap`, of several statistics from the same resamplings."""
    rng = np.random.default_rng(seed)
    values = np.stack([statistics(rng.integers(0, count, count)) for _ in range(rounds)])
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
