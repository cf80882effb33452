"""Windows of several sides, and means over the windows that cover a pixel: against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.errors import UsageError
from geoglot.imagery.multiscale import Cover, ScaleGrid, fitting_sides, to_cells
from geoglot.types import SceneInfo


def scene(width: int, height: int) -> SceneInfo:
    return SceneInfo("0" * 16, "scene.tif", "scene.tif", "f", width, height, 3, "uint8")


def slow_windows(width: int, height: int, sides: tuple[int, ...]) -> set[tuple[int, int, int, int]]:
    """As the released code cuts: one dictionary key per window."""
    found = set()
    for side in sides:
        for gap in (side, int(0.5 * side)):
            for y in range(side - gap, height, side):
                top = height - side if y + side >= height else y
                for x in range(side - gap, width, side):
                    left = width - side if x + side >= width else x
                    found.add((left, top, left + side, top + side))
    return found


@settings(max_examples=80, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.sets(st.integers(2, 30), min_size=1, max_size=3))
def test_windows_are_those_of_the_released_code(width: int, height: int, sides: set[int]) -> None:
    fitted = fitting_sides(width, height, sorted(sides))
    windows = [w.box_px for w in ScaleGrid(tuple(sorted(sides))).windows(scene(width, height))]
    assert len(windows) == len(set(windows))
    assert set(windows) == slow_windows(width, height, fitted)


def test_large_sides_are_clamped() -> None:
    assert fitting_sides(600, 500, (256, 512, 768)) == (256, 500)
    for bad in ((), (1,)):
        with pytest.raises(UsageError, match="window sides"):
            fitting_sides(600, 500, bad)


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


def test_cells_are_taken_by_their_centres() -> None:
    assert to_cells(np.array([[0, 16, 32, 48]]), 16).tolist() == [[0, 1, 2, 3]]
    assert to_cells(np.array([[7, 8, 9, 24]]), 16).tolist() == [[0, 0, 1, 1]]
