from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.evaluation.metrics import bootstrap, bootstraps, class_ranks, mean_class, precision_at, top1


def test_small_metrics() -> None:
    assert top1(np.array([[1, 0], [1, 0]], np.float32), np.array([0, 1])) == 50.0
    scores = np.array([3, 2, 1, 0], np.float32)
    assert precision_at(scores, np.array([True, False, True, True]), 2) == 50.0
    assert precision_at(scores, np.array([True, False, True, True]), 20) == 75.0
    assert mean_class(np.array([True, True, True, False]), np.array([0, 0, 0, 2])) == 50.0  # class 1 does not occur


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 6))
def test_class_ranks_against_sorting_with_ties(seed: int, images: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (images, classes)).astype(np.float32)
    labels = rng.integers(0, classes, images)
    slow = []
    for row, label in zip(scores, labels, strict=True):
        order = sorted(range(classes), key=lambda j: (-row[j], j == label))
        slow.append(order.index(label))
    assert class_ranks(scores, labels).tolist() == slow


def test_bootstrap() -> None:
    low, high = bootstrap(lambda rows: float(rows.mean()), 100, rounds=200)
    assert 40 < low < 49.5 < high < 60
    both = bootstraps(lambda rows: np.array([rows.mean(), 2 * rows.mean()]), 100, rounds=200)
    assert both[0] == (low, high)
    assert both[1] == pytest.approx((2 * low, 2 * high))
    assert bootstrap(lambda rows: float(rows.mean()), 100, rounds=200, seed=1) != (low, high)
