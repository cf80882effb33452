"""Overviews against GDAL's own, and against counting by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin

from geoglot.errors import StorageError
from geoglot.imagery.overviews import Halve, commonest, mean, write_overviews
from geoglot.imagery.rasters import Layer, block_rasters
from geoglot.types import Window

NODATA = 255
GRID: tuple[str, Any] = ("EPSG:32636", from_origin(500_000, 100_000, 1, 1))


def draw(path: Path, shape: tuple[int, int], seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A raster of four values and much nodata."""
    values = np.random.default_rng(seed).choice(np.array([0, 1, 7, NODATA], np.uint8), shape, p=[0.3, 0.3, 0.1, 0.3])
    profile = {"driver": "GTiff", "width": shape[1], "height": shape[0], "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", nodata=NODATA, crs=GRID[0], transform=GRID[1], **profile) as out:
        out.write(values, 1)
    return values


@pytest.mark.parametrize(("halve", "name"), [(commonest, "mode"), (mean, "average")])
def test_levels_equal_gdals(tmp_path: Path, halve: Halve, name: str) -> None:
    draw(tmp_path / "x.tif", (1400, 2084), 0)  # halved twice without a rest
    rasterio.shutil.copy(tmp_path / "x.tif", tmp_path / "gdal.tif", driver="COG", overview_resampling=name)
    made = write_overviews(tmp_path / "x.tif", halve)
    assert [file.name for file in made] == ["x.tif.ovr", "x.tif.ovr.ovr", "x.tif.ovr.ovr.ovr"]
    with rasterio.open(tmp_path / "gdal.tif") as wanted, rasterio.open(tmp_path / "x.tif") as found:
        assert found.overviews(1) == wanted.overviews(1) == [2, 4, 8]
    for level in (0, 1):
        with (
            rasterio.open(tmp_path / "gdal.tif", overview_level=level) as wanted,
            rasterio.open(tmp_path / "x.tif", overview_level=level) as found,
        ):
            assert (found.read(1) == wanted.read(1)).all()


@given(st.lists(st.sampled_from([0, 3, 200, NODATA]), min_size=4, max_size=4))
def test_a_cell_by_hand(four: list[int]) -> None:
    pixels = [np.full((1, 1), value, np.uint8) for value in four]
    held = [value for value in four if value != NODATA]
    if not held:
        assert commonest(pixels, NODATA) == mean(pixels, NODATA) == NODATA
        return
    most = max(Counter(held).values())
    first = next(value for at, value in enumerate(held) if held[: at + 1].count(value) == most)
    assert commonest(pixels, NODATA) == first
    assert mean(pixels, NODATA) == np.floor(np.mean(held) + 0.5)


def test_odd_sizes_repeat_their_border(tmp_path: Path) -> None:
    values = draw(tmp_path / "x.tif", (5, 1027), 1)
    (large, small) = write_overviews(tmp_path / "x.tif", commonest)
    with rasterio.open(large) as found:
        assert found.shape == (3, 514)
        corner = found.read(1)[-1, -1]
    with rasterio.open(small) as found:
        assert found.shape == (2, 257)
    assert corner == values[-1, -1]


def test_layers_become_cogs_and_leave_no_draft(tmp_path: Path) -> None:
    colours = {1: (9, 9, 9, 255)}
    layers = (Layer(tmp_path / "a.tif", NODATA, colours), Layer(tmp_path / "b.tif", NODATA, tags={"T": "x"}))
    with block_rasters(layers, (700, 900), GRID) as (a, b):
        a.write(Window(0, 0, 512, 512), np.ones((512, 512), np.uint8))
        b.write(Window(512, 512, 900, 700), np.full((188, 388), 50, np.uint8))
    assert {file.name for file in tmp_path.iterdir()} == {"a.tif", "b.tif"}
    for name, at, value in (("a", (3, 3), 1), ("b", (699, 899), 50)):
        with rasterio.open(tmp_path / f"{name}.tif") as found:
            assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert (found.overviews(1), found.read(1)[at], found.read(1)[0, 899]) == ([2], value, NODATA)
        with rasterio.open(tmp_path / f"{name}.tif", overview_level=0) as found:
            assert found.read(1)[at[0] // 2, at[1] // 2] == value


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), block_rasters((Layer(tmp_path / "a.tif", NODATA),), (700, 900), GRID):
        raise KeyError
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(StorageError, match="cannot write rasters"),
        block_rasters((Layer(tmp_path / "none" / "a.tif", NODATA),), (700, 900), GRID),
    ):
        pass
