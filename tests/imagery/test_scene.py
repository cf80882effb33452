"""Opening and reading rasters: what is known of them, what is refused, and that memory stays bounded."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from geoglot.errors import EmptySceneError, SceneTooLargeError, SourceError, UnreadableSceneError, UsageError
from geoglot.imagery.addresses import Source
from geoglot.imagery.scene import Limits, Scene, open_scene
from geoglot.imagery.sources import find_sources
from geoglot.types import Window


def test_info(write_raster, noise) -> None:
    path = write_raster(noise(3, 40, 50), "some place é/S2A_MSIL2A_20230914T020651.tif")
    with open_scene(path) as scene:
        info = scene.info
    assert (info.width, info.height, info.bands, info.dtype) == (50, 40, 3, "uint8")
    assert (info.crs, info.sensor) == ("EPSG:32652", "sentinel-2")
    assert info.acquired == datetime(2023, 9, 14, 2, 6, 51, tzinfo=UTC)
    assert info.gsd_m == pytest.approx(10, rel=1e-3)
    assert info.uri == str(path)
    assert len(info.scene_id) == 16
    assert len(info.footprint_lonlat) == 1
    with open_scene(str(path)) as again:
        assert again.info == info


def test_what_the_listing_knows_wins(write_raster, noise) -> None:
    path = write_raster(noise(3, 10, 10), "S2A_20230914.tif")
    with open_scene(Source(str(path), datetime(2000, 1, 1, tzinfo=UTC), "mine")) as scene:
        assert (scene.info.acquired, scene.info.sensor) == (datetime(2000, 1, 1, tzinfo=UTC), "mine")


def test_no_georeference_gets_no_coordinates(write_raster, noise) -> None:
    plain = write_raster(noise(3, 40, 50), crs=None)
    suspicious = write_raster(noise(3, 40, 50), "identity.tif", transform=Affine.identity())
    gcps = [GroundControlPoint(r, c, 127 + c / 1e3, 35 - r / 1e3) for r, c in ((0, 0), (0, 50), (40, 0))]
    points = write_raster(noise(3, 40, 50), "gcp.tif", transform=None, gcps=gcps)
    for path in (plain, suspicious, points):
        with open_scene(path) as scene:
            info, chip = scene.info, scene.chip(Window(0, 0, 10, 10))
        assert (info.crs, info.gsd_m, info.bbox_lonlat, info.footprint_lonlat) == (None, None, None, ())
        assert (chip.ground_m, chip.bbox_lonlat, chip.footprint_lonlat) == (None, None, ())


def test_chips_have_their_place(write_raster, noise) -> None:
    windows = [Window(x, y, x + 16, y + 16) for y in (0, 24) for x in (0, 34)]
    with open_scene(write_raster(noise(3, 40, 50))) as scene:
        chips = scene.chips(windows)
        assert chips == [scene.chip(w) for w in windows]
        whole = scene.info.bbox_lonlat
    assert whole is not None
    for chip, window in zip(chips, windows, strict=True):
        assert chip.chip_id == f"{chip.scene_id}-{window.x0}-{window.y0}-{window.x1}-{window.y1}"
        assert chip.ground_m == pytest.approx(160, rel=1e-3)
        assert chip.bbox_lonlat is not None
        assert chip.bbox_lonlat.intersects(whole)
        assert whole.west - 1e-9 <= chip.bbox_lonlat.west <= chip.bbox_lonlat.east <= whole.east + 1e-9
    left, right = chips[0].bbox_lonlat, chips[1].bbox_lonlat
    assert left is not None
    assert right is not None
    assert left.east < right.west


@pytest.mark.parametrize("overviews", [(), (2, 4)])
def test_reading_smaller_averages(write_raster, noise, overviews: tuple[int, ...]) -> None:
    pixels = noise(3, 128, 192)
    path = write_raster(pixels, tiled=True, blockxsize=64, blockysize=64, overviews=overviews)
    with open_scene(path) as scene:
        got = scene.read(Window(64, 32, 192, 96), (16, 32)).rgb
    slow = pixels[:, 32:96, 64:192].reshape(3, 16, 4, 32, 4).mean(axis=(2, 4)).transpose(1, 2, 0)
    assert np.abs(got - slow).max() <= 2


def test_small_equals_one_read_of_everything(write_raster, noise, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(3, 120, 50)
    pixels[:, 60:, :10] = 0
    with open_scene(write_raster(pixels)) as scene:
        reads, window, read = [], Window(0, 0, 50, 120), Scene.read
        exact, odd = scene.read(window, (60, 25)), scene.read(window, (47, 25))
        monkeypatch.setattr("geoglot.imagery.scene.CACHE_BYTES", 2 * 50 * 3 * 25)  # strips of 24 rows
        monkeypatch.setattr(Scene, "read", lambda *a: reads.append(a[1]) or read(*a))
        found = scene.small((60, 25))
        assert [(r.y0, r.y1) for r in reads] == [(0, 24), (24, 48), (48, 72), (72, 96), (96, 120)]
        assert (found.rgb == exact.rgb).all()
        assert (found.valid == exact.valid).all()
        assert not found.valid.all()
        other = scene.small((47, 25)).rgb  # rows that are no whole number of the scene's
        assert other.shape == odd.rgb.shape
        assert abs(other.astype(int) - odd.rgb).mean() < 10


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
def test_reading_at_full_resolution_is_exact(write_raster, noise, data: st.DataObject) -> None:
    pixels = noise(3, 30, 40)
    path = write_raster(pixels)
    x0, y0 = data.draw(st.integers(0, 39)), data.draw(st.integers(0, 29))
    x1, y1 = data.draw(st.integers(x0 + 1, 40)), data.draw(st.integers(y0 + 1, 30))
    with open_scene(path) as scene:
        assert (scene.read(Window(x0, y0, x1, y1)).rgb == pixels[:, y0:y1, x0:x1].transpose(1, 2, 0)).all()


def test_reading_larger_is_smooth(write_raster) -> None:
    ramp = np.broadcast_to(np.arange(10, 170, 10, dtype=np.uint8), (3, 16, 16))
    with open_scene(write_raster(np.ascontiguousarray(ramp))) as scene:
        rgb = scene.read(Window(0, 0, 16, 16), (64, 64)).rgb[0, :, 0].astype(int)
    assert (np.diff(rgb) >= 0).all()
    assert np.diff(rgb).max() <= 4


@pytest.mark.parametrize("window", [Window(0, 0, 51, 10), Window(0, 0, 10, 41)])
def test_window_outside(write_raster, noise, window: Window) -> None:
    with open_scene(write_raster(noise(3, 40, 50))) as scene:
        with pytest.raises(UsageError, match="outside"):
            scene.read(window)
        with pytest.raises(UsageError):
            scene.read(Window(0, 0, 5, 5), (0, 4))


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("jp2", "JPEG2000")])
def test_plain_pictures(tmp_path: Path, noise, suffix: str, kind: str) -> None:
    pixels = noise(3, 60, 80).transpose(1, 2, 0)
    path = tmp_path / f"фото 1.{suffix}"
    Image.fromarray(pixels).save(path, kind, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    with open_scene(path) as scene:
        assert scene.info.crs is None
        got = scene.read(Window(0, 0, 80, 60)).rgb
    assert np.abs(got.astype(int) - pixels).mean() < 6


def _png_header(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def test_a_200_000_px_png_is_refused_by_a_stated_limit(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_png_header(200_000))
    with pytest.raises(SceneTooLargeError, match="limit of 20,000,000,000"):
        open_scene(tmp_path / "bomb.png")
    with pytest.raises(SceneTooLargeError, match=r"300,000,000 \(max_memory_pixels\)"):
        open_scene(tmp_path / "bomb.png", Limits(max_pixels=10**12))


def test_declared_sizes_over_the_limit(tmp_path: Path, write_raster, noise) -> None:
    path = write_raster(noise(1, 100, 100))
    with pytest.raises(SceneTooLargeError, match="max_pixels"):
        open_scene(path, Limits(max_pixels=9_999))
    one_block = write_raster(noise(1, 100, 100), "block.tif", tiled=True, blockxsize=112, blockysize=112)
    with pytest.raises(SceneTooLargeError, match="at once"):
        open_scene(one_block, Limits(max_memory_pixels=9_999))
    with open_scene(path, Limits(max_pixels=10_000)):
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"hello, this is a text\n" * 20,
        b"II*\0",
        b"II*\0" + b"\xff" * 400,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF89a" * 9,
    ],
)
def test_not_a_raster(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(UnreadableSceneError) as caught:
        open_scene(tmp_path / "x.tif").read(Window(0, 0, 1, 1))
    assert "x.tif" in str(caught.value)
    assert caught.value.hint


def test_empty_file_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    with pytest.raises(EmptySceneError, match="empty"):
        open_scene(tmp_path / "empty.tif")
    with pytest.raises(SourceError):
        open_scene(tmp_path / "missing.tif")
    with pytest.raises(SourceError):
        open_scene(tmp_path)


@pytest.mark.parametrize("name", ["evil.vrt", "evil.tif"])
def test_vrt_is_refused_by_name_and_by_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    with pytest.raises(UnreadableSceneError, match="VRT"):
        open_scene(tmp_path / name)


def test_truncated_geotiff_opens_and_fails_when_read(write_raster) -> None:
    rng = np.random.default_rng(0)
    path = write_raster(rng.integers(1, 255, (3, 512, 512), dtype=np.uint8), tiled=True, blockxsize=64, blockysize=64)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(UnreadableSceneError, match=r"scene\.tif"), open_scene(path) as scene:
        scene.read(Window(0, 0, 512, 512))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_truncated_picture(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableSceneError), open_scene(path) as scene:
        scene.read(Window(0, 0, 300, 300))


def test_complex_pixels_are_refused(write_raster) -> None:
    with pytest.raises(UnreadableSceneError, match="complex"):
        open_scene(write_raster(np.ones((1, 8, 8), np.complex64)))


def test_an_error_while_opening_closes_the_file(write_raster, noise, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda *a, **k: opened.append(original(*a, **k)) or opened[-1])
    with pytest.raises(SceneTooLargeError):
        open_scene(write_raster(noise(1, 20, 20)), Limits(max_pixels=1))
    with open_scene(write_raster(noise(1, 20, 20))):
        pass
    assert opened
    assert all(dataset.closed for dataset in opened[-2:] if dataset.mode == "r")


def test_external_overviews_beside_a_local_file_are_used(write_raster, noise) -> None:
    path = write_raster(noise(3, 256, 256))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([4], rasterio.enums.Resampling.average)
    with rasterio.open(path.with_suffix(".tif.ovr"), "r+") as overview:
        overview.write(np.full((3, 64, 64), 7, np.uint8))
    with open_scene(path) as scene:
        assert (scene.read(Window(0, 0, 256, 256), (64, 64)).rgb == 7).all()


# VmHWM, not ru_maxrss: the latter starts from the parent's size.
WINDOW_READ = """
import re, sys
from geoglot.imagery.scene import open_scene
from geoglot.types import Window
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before = peak()
with open_scene(sys.argv[1]) as scene:
    rgb = scene.read(Window(0, 0, 40_000, 40_000), (128, 128)).rgb
print((peak() - before) // 1024, int(rgb[0, 0, 0]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("layout", ["tiled", "rows"])
def test_a_40_000_px_window_without_overviews_reads_in_bounded_memory(tmp_path: Path, layout: str) -> None:
    shape = {"tiled": True, "blockxsize": 512, "blockysize": 512} if layout == "tiled" else {"blockysize": 4}
    path = tmp_path / "huge.tif"
    profile = {"driver": "GTiff", "width": 50_000, "height": 50_000, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", SPARSE_OK=True, compress="deflate", BIGTIFF="YES", **profile, **shape) as dataset:
        dataset.write(np.full((1, 512, 512), 200, np.uint8), window=rasterio.windows.Window(0, 0, 512, 512))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WINDOW_READ, str(path)], capture_output=True, text=True, check=True
    )
    grown_mb, value = map(int, done.stdout.split())
    assert grown_mb < 200, "1,600 MB pass through"
    assert value == 200


def test_a_coarse_read_goes_through_overviews(write_raster, noise) -> None:
    """Damage the full resolution: a read that never touches it still succeeds."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (3, 1024, 1024), dtype=np.uint8)
    path = write_raster(
        pixels, tiled=True, blockxsize=128, blockysize=128, overviews=(8,), driver="GTiff", compress="deflate"
    )
    with rasterio.open(path) as dataset:
        offsets = [
            int(dataset.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=1)) for x in range(8) for y in range(8)
        ]
    data = bytearray(path.read_bytes())
    for offset in offsets:
        data[offset : offset + 64] = b"\xff" * 64
    path.write_bytes(data)
    with open_scene(path) as scene:
        assert scene.read(Window(0, 0, 1024, 1024), (128, 128)).valid.all()
        with pytest.raises(UnreadableSceneError):
            scene.read(Window(0, 0, 1024, 1024), (512, 512))


@pytest.mark.realdata
def test_every_real_scene_opens_with_plausible_metres_and_dates(real_data: Path) -> None:
    expected = {"oam": (0.06, 0.08), "sentinel2": (9.9, 10.1), "landsat": (85, 95), "naip": (4.9, 5.1)}
    found = find_sources(real_data / "scenes")
    assert len(found) == 81 + 40 + 5 + 8
    for source in found:
        folder = Path(source.uri).parent.name
        with open_scene(source) as scene:
            info = scene.info
        assert info.gsd_m is not None
        assert expected[folder][0] < info.gsd_m < expected[folder][1]
        assert info.bbox_lonlat is not None
        assert (info.acquired is not None) == (folder != "oam")
        assert info.sensor == {"oam": None, "sentinel2": "sentinel-2"}.get(folder, folder)
