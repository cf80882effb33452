"""Blended windows against the slow and obvious way: whole arrays, one window after another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.errors import UsageError
from geoglot.scoring.windows import Axis, Blend, hill, hills

axes = st.builds(
    lambda cells, side, overlap: Axis.cut(cells, side, overlap),
    st.integers(1, 60), st.integers(1, 25), st.floats(0, 0.9),
)  # fmt: skip


@settings(deadline=None)
@given(axes)
def test_windows_cover_the_axis_as_counted_by_hand(axis: Axis) -> None:
    by_hand = [sum(first <= i < first + axis.side for first in axis.firsts) for i in range(axis.cells)]
    assert axis.cover().tolist() == by_hand
    assert min(by_hand) >= 1
    assert axis.firsts[0] == 0
    assert axis.firsts[-1] == max(axis.cells - axis.side, 0)


@settings(max_examples=30, deadline=None)
@given(axes, axes, st.integers(0, 2**32 - 1))
def test_strips_equal_whole_arrays(down: Axis, across: Axis, seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows = len(down.firsts) * len(across.firsts)
    value = rng.standard_normal((windows, 2, down.side, across.side)).astype(np.float32)
    weights = hills(down.side, across.side)
    total = np.zeros((2, down.cells + down.side, across.cells + across.side))
    weight = np.zeros(total.shape[1:])
    spots = [(y, x) for y in down.firsts for x in across.firsts]
    for (y, x), one in zip(spots, value, strict=True):
        for i in range(down.side):
            for j in range(across.side):
                total[:, y + i, x + j] += one[:, i, j] * weights[i, j]
                weight[y + i, x + j] += weights[i, j]
    wanted = (total / np.maximum(weight, 1e-30))[:, : down.cells, : across.cells]
    blend = Blend(2, across.cells, down.side)
    rows, at = [], iter(value)
    for first in down.firsts:
        rows.append(blend.finish(first))
        for column in across.firsts:
            blend.add(first, column, next(at), weights)
    rows.append(blend.finish(down.cells))
    np.testing.assert_allclose(np.concatenate(rows, axis=1), wanted, rtol=2e-4, atol=2e-4)


@settings(max_examples=50, deadline=None)
@given(axes, axes, st.floats(-5, 5, width=32))
def test_the_average_of_a_constant_is_that_constant(down: Axis, across: Axis, value: float) -> None:
    blend = Blend(1, across.cells, down.side)
    weights, constant = hills(down.side, across.side), np.full((1, down.side, across.side), value, np.float32)
    rows = []
    for first in down.firsts:
        rows.append(blend.finish(first))
        for column in across.firsts:
            blend.add(first, column, constant, weights)
    rows.append(blend.finish(down.cells))
    np.testing.assert_allclose(np.concatenate(rows, axis=1), value, rtol=1e-4, atol=1e-6)


def test_hills_of_neighbours_add_up_to_one_at_half_overlap() -> None:
    for side in (2, 8, 14, 28):
        weights = hill(side)
        np.testing.assert_allclose(weights[: side // 2] + weights[side // 2 :], 1, atol=1e-6)
        assert weights.min() > 0


def test_rows_that_were_never_covered_are_zero_and_finished_rows_are_closed() -> None:
    blend = Blend(1, 4, 3)
    blend.add(0, 0, np.ones((1, 3, 4), np.float32), hills(3, 4))
    done = blend.finish(10)
    assert done.shape == (1, 10, 4)
    assert done[0, :3].min() == pytest.approx(1)
    assert not done[0, 3:].any()
    assert blend.finish(10).shape == (1, 0, 4)
    for row in (9, 11):  # finished; and, three rows high, not within the strip
        with pytest.raises(UsageError, match="not within the strip"):
            blend.add(row, 0, np.ones((1, 3, 4), np.float32), hills(3, 4))


def test_a_window_may_reach_over_the_right_side() -> None:
    blend = Blend(1, 3, 2)
    blend.add(0, 1, np.ones((1, 2, 5), np.float32), hills(2, 5))
    assert (blend.finish(2)[0] > 0).tolist() == [[False, True, True]] * 2


@pytest.mark.parametrize("bad", [(0, 1, 0.5), (1, 0, 0.5), (5, 5, 1.0), (5, 5, -0.1)])
def test_bad_axes_are_refused(bad: tuple[int, int, float]) -> None:
    with pytest.raises(UsageError):
        Axis.cut(*bad)
