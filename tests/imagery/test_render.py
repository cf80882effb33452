"""Any bands to RGB: which bands, which stretch, which pixels count."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.enums import ColorInterp

from geoglot.errors import EmptySceneError
from geoglot.imagery.render import LOW_PERCENTILE, choose_rendering
from geoglot.imagery.scene import Pixels, open_scene
from geoglot.types import Window


def _whole(path) -> Pixels:
    with open_scene(path) as scene:
        return scene.read(Window(0, 0, scene.info.width, scene.info.height))


def _bands_of(count: int, sensor: str | None, dtype: str = "uint16", names: tuple[str | None, ...] = ()) -> list[int]:
    rendering = choose_rendering(
        dtype=dtype, colours=["gray"] * count, descriptions=names or (None,) * count, sensor=sensor
    )
    return [rendering.bands[i] for i in rendering.mix.argmax(axis=1)]


@pytest.mark.parametrize(
    ("count", "sensor", "rgb"),
    [
        (1, None, [1, 1, 1]),
        (2, "sentinel-1", [1, 1, 1]),
        (3, None, [1, 2, 3]),
        (4, None, [1, 2, 3]),
        (4, "naip", [1, 2, 3]),
        (4, "planetscope", [3, 2, 1]),
        (4, "sentinel-2", [3, 2, 1]),
        (7, "landsat-8", [4, 3, 2]),
        (7, "landsat-7", [3, 2, 1]),
        (8, "planetscope", [6, 4, 2]),
        (8, "worldview", [5, 3, 2]),
        (10, "sentinel-2", [3, 2, 1]),
        (13, "sentinel-2", [4, 3, 2]),
        (12, None, [4, 3, 2]),
        (200, "hyperspectral", [1, 2, 3]),
    ],
)
def test_band_maps(count: int, sensor: str | None, rgb: list[int]) -> None:
    assert _bands_of(count, sensor) == rgb


def test_names_in_the_file_go_before_the_table() -> None:
    assert _bands_of(4, "naip", names=("NIR", "Blue", "green ", "RED")) == [4, 3, 2]
    assert _bands_of(4, "sentinel-2", names=("B08", "B02", "B03", "B04")) == [4, 3, 2]
    assert _bands_of(4, "landsat-8", names=("SR_B5", "SR_B4", "SR_B3", "SR_B2")) == [2, 3, 4]
    assert _bands_of(4, None, names=("B08", "B02", "B03", "B04")) == [1, 2, 3], "B04 is red only for a known sensor"


def test_landsat_composites_without_blue_are_pseudo_natural() -> None:
    rendering = choose_rendering(
        dtype="uint8", colours=["gray"] + ["undefined"] * 3, descriptions=[None] * 4, sensor="landsat"
    )
    assert rendering.bands == (2, 3, 4)
    assert rendering.mix.tolist() == [[0, 1, 0], [pytest.approx(0.05), 0, pytest.approx(0.95)], [0, 0, 1]]
    assert rendering.wants_stretch


def test_colour_interpretation(write_raster, noise) -> None:
    pixels = noise(3, 8, 9)
    bgr = write_raster(pixels)
    import rasterio

    with rasterio.open(bgr, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    assert (_whole(bgr).rgb == pixels[::-1].transpose(1, 2, 0)).all()


@pytest.mark.parametrize("bands", [3, 4])
def test_8_bit_colour_is_left_alone(write_raster, noise, bands: int) -> None:
    pixels = noise(bands, 20, 30)
    got = _whole(write_raster(pixels))
    assert (got.rgb == pixels[:3].transpose(1, 2, 0)).all()
    assert got.valid.all()


def test_8_bit_grey(write_raster, noise) -> None:
    pixels = noise(1, 20, 30)
    assert (_whole(write_raster(pixels)).rgb == pixels[0][..., None]).all()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
def test_stretch_against_the_formula(write_raster, dtype: str) -> None:
    rng = np.random.default_rng(3)
    pixels = (rng.normal(3000, 500, (3, 60, 70)) * np.array([1, 0.5, 0.8])[:, None, None]).astype(dtype)
    got = _whole(write_raster(pixels)).rgb
    low = np.percentile(pixels, LOW_PERCENTILE, axis=(1, 2))
    gain = 255 / (np.percentile(pixels, 98, axis=(1, 2)) - low).max()
    slow = np.clip((pixels - low[:, None, None]) * gain, 0, 255).transpose(1, 2, 0)
    assert np.abs(got - slow).max() <= 0.51


def test_the_stretch_belongs_to_the_scene_not_to_the_window(write_raster) -> None:
    rng = np.random.default_rng(3)
    path = write_raster((rng.gamma(2, 400, (3, 64, 64)) + np.linspace(0, 4000, 64)).astype(np.uint16))
    with open_scene(path) as first, open_scene(path) as second:
        part = first.read(Window(10, 20, 30, 50)).rgb
        whole = second.read(Window(0, 0, 64, 64)).rgb
    assert (part == whole[20:50, 10:30]).all()


def test_constant_scene(write_raster) -> None:
    got = _whole(write_raster(np.full((3, 8, 8), 700, np.uint16)))
    assert got.valid.all()
    assert (got.rgb == 0).all()


def test_nan_and_infinity_are_invalid_and_do_not_spoil_the_stretch(write_raster) -> None:
    rng = np.random.default_rng(3)
    clean = rng.uniform(0, 1, (3, 50, 50)).astype(np.float32)
    dirty = clean.copy()
    dirty[0, 0, 0], dirty[1, 1, 1], dirty[2, 2, 2] = np.nan, np.inf, -np.inf
    got, expected = _whole(write_raster(dirty)), _whole(write_raster(clean, "clean.tif"))
    bad = np.zeros((50, 50), bool)
    bad[[0, 1, 2], [0, 1, 2]] = True
    assert (got.valid == ~bad).all()
    assert (got.rgb[bad] == 0).all()
    assert np.abs(got.rgb[~bad].astype(int) - expected.rgb[~bad]).max() <= 2


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 0), ("uint16", 65535), ("int16", -32768), ("float32", -9999.0)]
)
def test_nodata_is_invalid_in_any_size(write_raster, dtype: str, nodata: float) -> None:
    pixels = np.full((3, 64, 64), 100, dtype)
    pixels[:, ::3, ::5] = 140
    pixels[:, :, :32] = nodata
    pixels[0, 40, 40] = nodata  # one band only: still a pixel
    path = write_raster(pixels, nodata=nodata)
    got = _whole(path)
    assert not got.valid[:, :32].any()
    assert got.valid[:, 32:].all()
    with open_scene(path) as scene:
        small = scene.read(Window(0, 0, 64, 64), (8, 8))
    assert (small.valid == (np.arange(8) >= 4)).all()


def test_nan_nodata(write_raster) -> None:
    pixels = np.random.default_rng(0).uniform(size=(1, 16, 16)).astype(np.float32)
    pixels[:, :8] = np.nan
    got = _whole(write_raster(pixels, nodata=np.nan))
    assert not got.valid[:8].any()
    assert got.valid[8:].all()


def test_alpha_and_mask(write_raster, noise) -> None:
    pixels = noise(4, 32, 32)
    pixels[3] = 255
    pixels[3, :16] = 0
    rgba = _whole(write_raster(pixels, photometric="RGB", alpha="YES"))
    mask = np.full((32, 32), 255, np.uint8)
    mask[:16] = 0
    masked = _whole(write_raster(pixels[:3], "masked.tif", mask=mask))
    for got in (rgba, masked):
        assert not got.valid[:16].any()
        assert got.valid[16:].all()
        assert (got.rgb[:16] == 0).all()
        assert (got.rgb[16:] == pixels[:3, 16:].transpose(1, 2, 0)).all()


def test_black_fill_without_nodata_is_invalid_for_unsigned_only(write_raster, noise) -> None:
    pixels = noise(3, 16, 16)
    pixels[:, :8] = 0
    assert (_whole(write_raster(pixels)).valid == (np.arange(16) >= 8)[:, None]).all()
    assert _whole(write_raster(pixels.astype(np.int16), "height.tif")).valid.all()


def test_palette(write_raster) -> None:
    pixels = np.array([[[0, 1], [2, 1]]], np.uint8)
    colours = {0: (10, 20, 30, 255), 1: (200, 0, 0, 255), 2: (0, 0, 250, 255)}
    got = _whole(write_raster(pixels, palette=colours))
    assert got.rgb.tolist() == [[[10, 20, 30], [200, 0, 0]], [[0, 0, 250], [200, 0, 0]]]
    assert got.valid.all()


def test_nothing_but_nodata(write_raster) -> None:
    path = write_raster(np.full((3, 16, 16), -1, np.int16), nodata=-1)
    with open_scene(path) as scene, pytest.raises(EmptySceneError, match="nodata"):
        scene.read(Window(0, 0, 16, 16))
