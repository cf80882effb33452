"""Georeferencing and writing: where a scene lies in its coordinate system, and its cloud-optimised GeoTIFF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from geoglot_sandbox.painter import View
from geoglot_sandbox.plan import HEIGHT_M, WIDTH_M
from geoglot_sandbox.scenes import UTM, SceneSpec

EAST_0, NORTH_0 = 500_000.0 - WIDTH_M / 2, 4_590_000.0 - HEIGHT_M / 2
"""UTM coordinates of the world's origin: the country straddles the zone's central meridian, 123 degrees west."""
NOTICE = "Synthetic: drawn by geoglot's sandbox. No such place exists."
_INTERPRETATION = {"red": ColorInterp.red, "green": ColorInterp.green, "blue": ColorInterp.blue}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a scene lies: the view to paint, the file's transform, bounds in degrees (west, south, east, north)."""

    view: View
    transform: Affine
    bbox_lonlat: tuple[float, float, float, float]


def place(spec: SceneSpec) -> Placement:
    """Lay a north-up pixel grid of the scene's coordinate system over the country.

    A window is at most a few kilometres wide, so that the map from world metres to pixels is affine to a small part of
    a pixel; it is fitted at the centre from the exact transformation.
    """
    width, height = spec.size_px
    gsd = spec.sensor.gsd_m
    to_file = Transformer.from_crs(UTM, spec.crs, always_xy=True)
    east, north = EAST_0 + spec.centre[0], NORTH_0 + spec.centre[1]
    half_w, half_h = gsd * width / 2, gsd * height / 2
    x0, y0 = to_file.transform(east, north)
    left, right = (to_file.transform(east + s * half_w, north) for s in (-1, 1))
    low, high = (to_file.transform(east, north + s * half_h) for s in (-1, 1))
    step_x, step_y = (right[0] - left[0]) / width, (high[1] - low[1]) / height
    transform = Affine(step_x, 0.0, x0 - step_x * width / 2, 0.0, -step_y, y0 + step_y * height / 2)
    # Columns and rows per world metre, with the small turn between the two grids.
    a, b = 1 / gsd, (high[0] - low[0]) / (2 * half_h) / step_x
    d, e = -(right[1] - left[1]) / (2 * half_w) / step_y, -1 / gsd
    c = width / 2 - a * spec.centre[0] - b * spec.centre[1]
    f = height / 2 - d * spec.centre[0] - e * spec.centre[1]
    view = View((a, b, c, d, e, f), spec.size_px, gsd, (spec.centre[0] - half_w, spec.centre[1] + half_h))
    return Placement(view, transform, _bounds(transform, spec))


def _bounds(transform: Affine, spec: SceneSpec) -> tuple[float, float, float, float]:
    to_degrees = Transformer.from_crs(spec.crs, "EPSG:4326", always_xy=True)
    width, height = spec.size_px
    xs, ys = rasterio.transform.xy(transform, [0, 0, height, height], [0, width, 0, width], offset="ul")
    lons, lats = to_degrees.transform(np.asarray(xs), np.asarray(ys))
    return (float(lons.min()), float(lats.min()), float(lons.max()), float(lats.max()))


def write_cog(
    path: Path, bands: NDArray[np.generic], names: tuple[str, ...], spec: SceneSpec, transform: Affine, **tags: str
) -> None:
    """Write [C, H, W] as a cloud-optimised GeoTIFF that says it is synthetic."""
    count, height, width = bands.shape
    smooth = bands.dtype == np.uint16 or count > 1
    with rasterio.open(
        path, "w", driver="COG", width=width, height=height, count=count, dtype=bands.dtype, crs=spec.crs,
        transform=transform, compress="DEFLATE", level=1, predictor="YES" if smooth else "NO", blocksize=256,
        overview_resampling="average" if smooth else "nearest",
    ) as out:  # fmt: skip
        out.write(bands)
        for number, name in enumerate(names, 1):
            out.set_band_description(number, name)
        if smooth:
            out.colorinterp = [_INTERPRETATION.get(name, ColorInterp.undefined) for name in names]
        out.update_tags(
            TIFFTAG_IMAGEDESCRIPTION=NOTICE,
            TIFFTAG_DATETIME=f"{spec.acquired:%Y:%m:%d %H:%M:%S}",
            TIFFTAG_SOFTWARE="geoglot sandbox",
            GEOGLOT_SYNTHETIC="true",
            PLATFORM=spec.sensor.platform,
            **tags,
        )
