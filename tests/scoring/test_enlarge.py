"""Enlarging against NumPy's own interpolation, axis by axis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.scoring.enlarge import enlarged, linear_weights


def slow(values: np.ndarray, size: tuple[int, int], steps: tuple[float, float]) -> np.ndarray:
    """np.interp along rows, then along columns."""
    for axis, (count, step) in zip((-2, -1), zip(size, steps, strict=True), strict=True):
        places, cells = (np.arange(count) + 0.5) * step - 0.5, np.arange(values.shape[axis])
        values = np.apply_along_axis(lambda v, at=places, xs=cells: np.interp(at, xs, v), axis, values)
    return values


@pytest.mark.parametrize("size", [(12, 15), (4, 5), (3, 2), (1, 1), (9, 5)])
def test_a_map_at_another_size(size: tuple[int, int]) -> None:
    """Larger, the same, smaller."""
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(enlarged(values, size), slow(values, size, (4 / size[0], 5 / size[1])), atol=1e-5)
    assert np.array_equal(enlarged(values, (4, 5)), values)


def test_steps_may_reach_beyond_the_map() -> None:
    values = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(enlarged(values, (9, 8), (0.6, 0.9)), slow(values, (9, 8), (0.6, 0.9)), atol=1e-5)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 200), st.integers(1, 60), st.floats(0.02, 3))
def test_interpolation_equals_numpys(cells: int, first: int, count: int, step: float) -> None:
    values = np.random.default_rng(cells).standard_normal(cells).astype(np.float32)
    origin, weights = linear_weights(first, count, step, cells)
    got = weights @ values[origin : origin + weights.shape[1]]
    places = (np.arange(first, first + count) + 0.5) * step - 0.5
    np.testing.assert_allclose(got, np.interp(places, np.arange(cells), values), atol=2e-3)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
