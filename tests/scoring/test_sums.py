"""Sums and means over the boxes that cover a cell: against loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.scoring.sums import BoxSums, Cover, to_cells


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_means_are_those_of_a_loop(width: int, height: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = (np.sort(random.integers(0, size + 1, (count, 2)), axis=1) for size in (width, height))
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    values = random.normal(size=count)
    expected = np.full((height, width), np.nan)
    for row in range(height):
        for column in range(width):
            over = [v for (a, b, c, d), v in zip(boxes, values, strict=True) if a <= column < c and b <= row < d]
            if over:
                expected[row, column] = sum(over) / len(over)
    found = Cover(boxes, height, width).mean(values)
    assert np.allclose(found, expected, atol=1e-6, equal_nan=True)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_weighted_means_of_boxes_that_reach_over_the_map(width: int, height: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = (np.sort(random.integers(-3, size + 4, (count, 2)), axis=1) for size in (width, height))
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    values, weights = random.normal(size=count), random.uniform(0.1, 2, count)
    sums, means = BoxSums(boxes, height, width).sums(values), BoxSums(boxes, height, width).mean(values, weights)
    for row in range(height):
        for column in range(width):
            over = [i for i, (a, b, c, d) in enumerate(boxes) if a <= column < c and b <= row < d]
            assert np.isclose(sums[row, column], values[over].sum())
            mean = (values[over] * weights[over]).sum() / weights[over].sum() if over else np.nan
            assert np.isclose(means[row, column], mean, atol=1e-5, equal_nan=True)


def test_cells_are_taken_by_their_centres() -> None:
    assert to_cells(np.array([[0, 16, 32, 48]]), 16).tolist() == [[0, 1, 2, 3]]
    assert to_cells(np.array([[7, 8, 9, 24]]), 16).tolist() == [[0, 0, 1, 1]]
