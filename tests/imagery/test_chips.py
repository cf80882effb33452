"""Patch-wise reading against reading chip by chip."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoglot.errors import EmptySceneError, UnreadableSceneError, UsageError
from geoglot.imagery.chips import PatchSize, read_chips
from geoglot.imagery.grid import ChipGrid
from geoglot.imagery.scene import Scene, open_scene
from geoglot.imagery.sources import find_sources
from geoglot.types import Chip

SMALL = ChipGrid(ground_m=(400.0, 900.0, 1370.0), min_px=16, max_px=200, max_scales=3)


def _slow(scene: Scene, grid: ChipGrid, size_px: int) -> dict[Chip, NDArray[np.uint8]]:
    """One read per chip."""
    out = {}
    for window in grid.windows(scene.info):
        pixels = scene.read(window, (size_px, size_px))
        if pixels.valid.mean() >= max(grid.min_valid, 1e-9):
            out[scene.chip(window)] = pixels.rgb
    return out


def _check(fast: dict[Chip, NDArray[np.uint8]], slow: dict[Chip, NDArray[np.uint8]], limit: float) -> None:
    assert set(fast) == set(slow)
    for chip, image in fast.items():
        assert image.shape == slow[chip].shape
        assert np.abs(image.astype(int) - slow[chip]).mean() <= limit, chip


@given(
    width=st.integers(30, 300),
    height=st.integers(30, 300),
    size_px=st.sampled_from([16, 25, 32]),
    patch=st.sampled_from([PatchSize(), PatchSize(1, 1, 1), PatchSize(100, 70, 100)]),
    tiled=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
def test_patches_equal_single_reads(write_raster, noise, width, height, size_px, patch, tiled) -> None:
    """Smooth pictures: half a model pixel of shift changes grey levels by little. A wrong slice changes a lot."""
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {}
    path = write_raster(noise(3, height, width, length=5), **layout)
    with open_scene(path) as scene:
        fast = dict(read_chips(scene, SMALL, size_px, patch=patch))
        _check(fast, _slow(scene, SMALL, size_px), limit=8)
        again = list(read_chips(scene, SMALL, size_px, patch=patch))
    assert [chip for chip, _ in again] == list(fast), "the same order in every run"


def test_aligned_chips_are_equal_to_single_reads(write_raster, noise) -> None:
    """Where the stride is a whole number of model pixels nothing is rounded."""
    path = write_raster(noise(3, 256, 256))
    grid = ChipGrid(ground_m=(640.0,), max_scales=1)
    with open_scene(path) as scene:
        fast = dict(read_chips(scene, grid, 64))
        _check(fast, _slow(scene, grid, 64), limit=0)
        assert len(fast) == 25


def test_two_patch_sizes_give_the_same_chips(write_raster, noise) -> None:
    path = write_raster(noise(3, 333, 444, length=5), tiled=True, blockxsize=64, blockysize=64)
    with open_scene(path) as scene:
        first = dict(read_chips(scene, SMALL, 32))
        second = dict(read_chips(scene, SMALL, 32, patch=PatchSize(64, 96, 64)))
    _check(first, second, limit=8)


def test_position_is_within_half_a_model_pixel_at_the_centre(write_raster) -> None:
    """On a ramp the grey level is the position."""
    ramp = np.broadcast_to(np.linspace(1, 65535, 500).astype(np.uint16), (3, 150, 500))
    path = write_raster(np.ascontiguousarray(ramp))
    grid = ChipGrid(ground_m=(530.0,), min_px=16, max_px=200, max_scales=1, overlap=0.3)
    with open_scene(path) as scene:
        stretch = scene.rendering.stretch
        assert stretch is not None
        for chip, image in read_chips(scene, grid, 40):
            grey = image[20, 19:21, 0].mean()
            if 5 < grey < 250:
                seen = (grey / stretch.gain + stretch.low[0] - 1) / 65534 * 499 + 0.5
                centre = (chip.window.x0 + chip.window.x1) / 2
                model_px = chip.window.width / 40
                grey_step = 1 / stretch.gain / 65534 * 499
                assert abs(seen - centre) <= 0.5 * model_px + grey_step


def test_empty_chips_are_dropped(write_raster, noise) -> None:
    pixels = noise(3, 256, 256)
    pixels[:, :, 80:] = 0
    grid = ChipGrid(ground_m=(640.0,), max_scales=1, min_valid=0.5)
    with open_scene(write_raster(pixels, nodata=0)) as scene:
        chips = [chip for chip, _ in read_chips(scene, grid, 32)]
    assert {chip.window.x0 for chip in chips} == {0, 48}
    assert len(chips) == 10


def test_a_scene_of_nothing(write_raster) -> None:
    with open_scene(write_raster(np.zeros((3, 64, 64), np.uint8), nodata=0)) as scene, pytest.raises(EmptySceneError):
        list(read_chips(scene, ChipGrid(min_valid=0.0), 32))


def test_images_own_their_memory_and_bad_size(write_raster, noise) -> None:
    with open_scene(write_raster(noise(3, 200, 200))) as scene:
        for _, image in itertools.islice(read_chips(scene, SMALL, 16), 3):
            assert image.flags.owndata
            assert image.flags.c_contiguous
        with pytest.raises(UsageError):
            next(read_chips(scene, SMALL, 0))


def test_truncated_scene_fails_and_does_not_yield_everything(write_raster) -> None:
    noise = np.random.default_rng(0).integers(1, 255, (3, 512, 512), dtype=np.uint8)
    path = write_raster(noise, tiled=True, blockxsize=64, blockysize=64)
    path.write_bytes(path.read_bytes()[:400_000])
    with pytest.raises(UnreadableSceneError), open_scene(path) as scene:
        list(read_chips(scene, ChipGrid(), 32))


def _sparse(path: Path, side: int, spots: list[tuple[int, int]], **layout: object) -> Path:
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32652"}
    transform = rasterio.transform.from_origin(300_000, 4_000_000, 1, 1)
    layout = layout or {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(
        path, "w", SPARSE_OK=True, BIGTIFF="YES", compress="deflate", transform=transform, **profile, **layout
    ) as dataset:
        for x, y in spots:
            dataset.write(np.full((3, 256, 256), 90, np.uint8), window=rasterio.windows.Window(x, y, 256, 256))
    return path


def test_sparse_blocks_are_skipped_and_nothing_is_missed(tmp_path: Path) -> None:
    path = _sparse(tmp_path / "s.tif", 1536, [(512, 256), (1280, 1280), (0, 1024)])
    with open_scene(path) as scene:
        assert scene.blocks is not None
        assert scene.blocks.sum() == 3
        strips = list(ChipGrid().strips(scene.info))
        assert sum(len(scene.columns_with_data([s])) for s in strips) < 0.2 * sum(len(s.xs) for s in strips)
        grid = ChipGrid(min_valid=0.33)  # no window of this scene is valid by a share near a third
        _check(dict(read_chips(scene, grid, 16)), _slow(scene, grid, 16), limit=12)


# VmHWM, not ru_maxrss: the latter starts from the parent's size.
INDEX = """
import re, sys
from geoglot.imagery.scene import open_scene
from geoglot.imagery.grid import ChipGrid
from geoglot.imagery.chips import read_chips
with open_scene(sys.argv[1]) as scene:
    chips = sum(1 for _ in read_chips(scene, ChipGrid(), 64))
print(chips, int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_scene(tmp_path: Path) -> None:
    peaks = []
    for side in (5_000, 50_000):
        last = (side - 256) // 256 * 256
        path = _sparse(tmp_path / f"{side}.tif", side, [(0, 0), (last // 512 * 256, 1024), (last, last)])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", INDEX, str(path)], capture_output=True, text=True, check=True
        )
        chips, peak_mb = map(int, done.stdout.split())
        assert chips > 50
        peaks.append(peak_mb)
    assert peaks[1] < 1.15 * peaks[0]
    assert peaks[1] < 400


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["oam", "naip", "landsat", "sentinel2"])
def test_real_scenes_patches_equal_single_reads(real_data: Path, folder: str) -> None:
    """Sharp pictures at half a model pixel: a mean of 12 grey levels; a slice off by a chip gives 30 and more."""
    with open_scene(find_sources(real_data / "scenes" / folder)[0]) as scene:
        fast = dict(read_chips(scene, ChipGrid(), 64))
        slow = _slow(scene, ChipGrid(), 64)
    assert set(fast) == set(slow)
    errors = [np.abs(fast[chip].astype(int) - slow[chip]).mean() for chip in fast]
    assert np.mean(errors) <= 8
    assert max(errors) <= 25
