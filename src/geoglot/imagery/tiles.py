"""Squares of the Web Mercator map (XYZ) from scenes and from result rasters, warped by rio-tiler."""

from __future__ import annotations

import math
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import NotThereError, TooLargeError, UsageError
from geoglot.imagery.opening import gdal_calls, open_raster
from geoglot.imagery.render import Rendering
from geoglot.imagery.scene import Pixels, Scene

TILE_PX = 256
MAX_ZOOM = 24
SMALLEST_PX = 64
MAX_SOURCE_PIXELS = 100_000_000
"""Pixels that may be decoded for one square: a second or so. More happens only to large scenes without overviews."""
RENDERINGS = 512
EARTH_M = 2 * math.pi * 6_378_137.0


def check_tile(z: int, x: int, y: int) -> None:
    """Refuse what is not a square of the map.

    Raises:
        UsageError: Zoom outside 0 to MAX_ZOOM, or x or y outside 0 to 2^z - 1.
    """
    if not (0 <= z <= MAX_ZOOM and 0 <= x < 2**z and 0 <= y < 2**z):
        raise UsageError(
            f"there is no tile {z}/{x}/{y}", hint=f"z goes from 0 to {MAX_ZOOM}, x and y from 0 to 2^z - 1."
        )


def zooms(gsd_m: float, width: int, height: int) -> tuple[int, int]:
    """(smallest, largest) sensible zoom of a scene: it is some 64 pixels wide, and its pixels are about the map's."""
    finest = math.log2(EARTH_M / TILE_PX / gsd_m)
    largest = min(MAX_ZOOM, max(0, math.ceil(finest)))
    return max(0, min(largest, math.floor(finest - math.log2(max(width, height) / SMALLEST_PX)))), largest


@dataclass(frozen=True, slots=True)
class Renderings:
    """How scenes become RGB, remembered by file and fingerprint; the stretch is fitted once. Safe between threads."""

    _renderings: OrderedDict[tuple[str, str], Rendering] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def settle(self, scene: Scene) -> None:
        """Give a scene the rendering that was found before, or remember the one it finds now."""
        key = (scene.info.uri, scene.info.fingerprint)
        with self._lock:
            rendering = self._renderings.get(key)
        if rendering is not None:
            scene.rendering = rendering
            return
        rendering = scene.rendering
        with self._lock:
            self._renderings[key] = rendering
            if len(self._renderings) > RENDERINGS:
                self._renderings.popitem(last=False)


@contextmanager
def _reader(dataset: Any, uri: str) -> Iterator[Any]:
    from rio_tiler.errors import NoOverviewWarning
    from rio_tiler.io import Reader

    with gdal_calls(uri), warnings.catch_warnings():
        warnings.simplefilter("ignore", NoOverviewWarning)
        yield Reader(None, dataset=dataset)


def scene_tile(scene: Scene, z: int, x: int, y: int) -> Pixels | None:
    """A square of a scene, TILE_PX wide; None where the scene does not lie.

    Raises:
        UsageError: Not a square of the map, or a scene without a georeference.
        TooLargeError: Too many pixels would have to be decoded for it.
        UnreadableSceneError: The pixels are damaged.
    """
    check_tile(z, x, y)
    if scene.info.gsd_m is None:
        raise UsageError(f"scene {scene.info.name!r} has no georeference", hint="Look at its thumbnail.")

    def warped(dataset: Any, bands: tuple[int, ...], how: str) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
        with _reader(dataset, scene.info.uri) as reader:
            if not reader.tile_exists(x, y, z):
                return None
            _check_cost(scene, z)
            image = reader.tile(x, y, z, tilesize=TILE_PX, indexes=bands, resampling_method=how, reproject_method=how)
        return np.asarray(image.array.data), np.asarray(image.mask) > 0

    return scene.read_with(warped)


def _check_cost(scene: Scene, z: int) -> None:
    info = scene.info
    if info.gsd_m is None:
        return
    latitude = 0.0 if info.bbox_lonlat is None else (info.bbox_lonlat.south + info.bbox_lonlat.north) / 2
    ground_m = EARTH_M / 2**z * max(math.cos(math.radians(latitude)), 0.01)
    pixels = min(ground_m / info.gsd_m, info.width) * min(ground_m / info.gsd_m, info.height)
    shrink = ground_m / info.gsd_m / TILE_PX
    shrinks = [factor for factor in (1, *scene.overviews) if factor <= max(1.0, shrink)]
    if pixels / max(shrinks) ** 2 > MAX_SOURCE_PIXELS:
        raise TooLargeError(
            f"scene {info.name!r} has too few overviews for zoom {z}: {pixels / max(shrinks) ** 2:,.0f} pixels would "
            f"have to be read, over the limit of {MAX_SOURCE_PIXELS:,}",
            hint="Zoom in; or add overviews: rio overview --build auto SCENE.tif",
        )


def encode(pixels: Pixels, format: str, side: int | None = None) -> bytes:
    """Pixels as "png" or "webp" with alpha; nodata is transparent."""
    import io

    from PIL import Image

    alpha = np.where(pixels.valid, 255, 0).astype(np.uint8)
    image = Image.fromarray(np.dstack([pixels.rgb, alpha]))
    stream = io.BytesIO()
    options: dict[str, Any] = {"quality": 80, "method": 2} if format == "webp" else {"compress_level": 1}
    image.save(stream, format.upper(), **options)
    return stream.getvalue()


def raster_tile(file: Path, z: int, x: int, y: int, band: int = 1) -> bytes | None:
    """A square of a band of a result raster as PNG, by its own palette or by `heat_colours`; None outside.

    Raises:
        UsageError: Not a square of the map.
        NotThereError: No such band, or the raster has no place on the earth.
        UnreadableSceneError: The file is damaged.
    """
    from rasterio.enums import ColorInterp

    check_tile(z, x, y)
    with open_raster(str(file)) as dataset, _reader(dataset, str(file)) as reader:
        _check_layer(dataset, file, band)
        if not reader.tile_exists(x, y, z):
            return None
        image = reader.tile(x, y, z, tilesize=TILE_PX, indexes=band)
        if dataset.colorinterp[band - 1] == ColorInterp.palette:
            return bytes(image.render(img_format="PNG", colormap=reader.colormap))
        full = FULL.get(dataset.tags().get("GEOGLOT_UNIT"), FULL_HEAT)
        return heat_png(np.asarray(image.array.astype(np.float32).filled(np.nan))[0], full)


def _check_layer(dataset: Any, file: Path, band: int) -> None:
    if dataset.crs is None:
        raise NotThereError(f"{file.name!r} has no georeference, so no map", hint="Download it.")
    if not 1 <= band <= dataset.count:
        raise NotThereError(f"{file.name!r} has no band {band}", hint=f"It has {dataset.count}, counted from 1.")


def raster_facts(file: Path, band: int = 1) -> tuple[Box, float, int, int, str]:
    """((west, south, east, north), metres per pixel of the map, width, height, what the band is) of a result raster.

    Raises:
        NotThereError: No such band, or the raster has no place on the earth.
        UnreadableSceneError: The file is damaged.
    """
    from rasterio.warp import transform_bounds

    with gdal_calls(str(file)), open_raster(str(file)) as dataset:
        _check_layer(dataset, file, band)
        west, south, east, north = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
        map_m = ((east - west) % 360 or 360) / 360 * EARTH_M / dataset.width
        return (west, south, east, north), map_m, dataset.width, dataset.height, dataset.descriptions[band - 1] or ""


Box = tuple[float, float, float, float]
FULL_HEAT = 4.0
"""Standard deviations at which heat is opaque."""
FULL = {"level": 1.0, "percent": 100.0}
"""The same for rasters that name their unit, in the tag GEOGLOT_UNIT."""
_STOPS = np.array(
    [[0, 59, 15, 112], [85, 140, 41, 129], [170, 222, 73, 104], [215, 254, 159, 109], [255, 252, 253, 191]]
)
"""Level, red, green, blue: dark violet over red to pale yellow; lightness rises evenly, so it reads without colour."""


def heat_colours() -> dict[int, tuple[int, int, int, int]]:
    """256 colours; transparent at 0, nearly opaque at 255."""
    levels = np.arange(256)
    red, green, blue = (np.interp(levels, _STOPS[:, 0], _STOPS[:, i]).round().astype(int) for i in (1, 2, 3))
    alpha = np.minimum(levels * 2, 225)
    rows = zip(red.tolist(), green.tolist(), blue.tolist(), alpha.tolist(), strict=True)
    return dict(enumerate(rows))


def heat_png(heat: NDArray[np.float32], full: float = FULL_HEAT) -> bytes:
    """Heat [H, W], NaN where there is none, as PNG through rio-tiler: transparent at 0 and below, opaque at `full`."""
    from rio_tiler.models import ImageData

    known = np.isfinite(heat)
    levels = np.clip(np.where(known, heat, 0) / full * 255, 0, 255).round().astype(np.uint8)
    image = ImageData(np.ma.MaskedArray(levels[None], mask=~known[None]))
    return bytes(image.render(img_format="PNG", colormap=heat_colours()))
