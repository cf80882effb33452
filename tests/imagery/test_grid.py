"""Chip grids: cover everything, stay inside, never change."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.errors import UsageError
from geoglot.imagery.grid import ChipGrid, ScaleGrid, chip_windows, fitting_sides
from geoglot.types import SceneInfo


def _info(width: int, height: int, gsd_m: float | None) -> SceneInfo:
    return SceneInfo("0" * 16, "/a.tif", "a.tif", "1-1", width, height, 3, "uint8", gsd_m=gsd_m)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.floats(0, 0.95))
@settings(deadline=None)
def test_windows_cover_the_scene_and_stay_inside(width: int, height: int, side: int, overlap: float) -> None:
    windows = chip_windows(width, height, side, overlap)
    seen = np.zeros((height, width), bool)
    for w in windows:
        assert w.x1 <= width
        assert w.y1 <= height
        assert (w.width, w.height) == (min(side, width), min(side, height))
        seen[w.y0 : w.y1, w.x0 : w.x1] = True
    assert seen.all()
    assert len(set(windows)) == len(windows)
    assert windows == sorted(windows, key=lambda w: (w.y0, w.x0)), "row by row"
    assert windows == chip_windows(width, height, side, overlap)


def test_neighbours_overlap_by_the_asked_share() -> None:
    xs = [w.x0 for w in chip_windows(1000, 100, 100, 0.25)]
    assert xs == [0, 75, 150, 225, 300, 375, 450, 525, 600, 675, 750, 825, 900]


@pytest.mark.parametrize(
    ("args"), [(0, 5, 3, 0.2), (5, 5, 0, 0.2), (5, 5, 3, 1.0), (5, 5, 3, -0.1), (5, 5, 3, float("nan"))]
)
def test_bad_windows(args: tuple[int, int, int, float]) -> None:
    with pytest.raises(UsageError):
        chip_windows(*args)


@pytest.mark.parametrize(
    ("width", "height", "gsd_m", "sides"),
    [
        (512, 512, 10.0, (64, 128)),
        (5000, 5000, 0.5, (160, 320)),
        (1024, 1024, 0.0746, (1024,)),  # 80 m would be 1072 px: the whole scene is one chip
        (100, 100, 10.0, (64,)),
        (30, 20, 10.0, (30,)),
        (700, 400, 89.0, (58,)),
        (5000, 5000, 1000.0, (48,)),  # no ground size fits: the nearer limit
        (5000, 5000, 0.001, (1100,)),
        (1000, 600, None, (256, 512)),
        (100, 60, None, (100,)),
    ],
)
def test_sides(width: int, height: int, gsd_m: float | None, sides: tuple[int, ...]) -> None:
    assert ChipGrid().sides_px(_info(width, height, gsd_m)) == sides


def test_scene_smaller_than_a_chip_is_one_chip() -> None:
    (window,) = ChipGrid().windows(_info(30, 20, 10.0))
    assert window.box_px == (0, 0, 30, 20)


@given(st.integers(1, 900), st.integers(1, 900), st.none() | st.floats(0.01, 2000))
@settings(deadline=None)
def test_grid_windows_are_the_windows_of_each_scale(width: int, height: int, gsd_m: float | None) -> None:
    grid = ChipGrid(overlap=0.5)
    info = _info(width, height, gsd_m)
    slow = [w for side in grid.sides_px(info) for w in chip_windows(width, height, side, 0.5)]
    assert grid.windows(info) == slow


def test_round_trip_and_fingerprint() -> None:
    grid = ChipGrid(ground_m=(50.0, 100.0), overlap=0.1)
    assert ChipGrid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
    assert ChipGrid.from_dict(grid.to_dict()).fingerprint == grid.fingerprint != ChipGrid().fingerprint
    with pytest.raises(UsageError, match="colour"):
        ChipGrid.from_dict({"colour": 1})


@pytest.mark.parametrize(
    "bad",
    [
        {"ground_m": ()},
        {"ground_m": (0.0,)},
        {"plain_px": ()},
        {"min_px": 0},
        {"min_px": 200, "max_px": 100},
        {"max_scales": 0},
        {"min_valid": 1.5},
        {"overlap": 1.0},
    ],
)
def test_bad_grid(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ChipGrid(**bad)  # type: ignore[arg-type]


# --- squares of several sides ---------------------------------------------------------------------


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
