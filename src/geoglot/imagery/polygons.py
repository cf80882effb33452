"""The areas of a class map as polygons, streamed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.imagery.scene import Scene
from geoglot.imagery.vectors import Feature
from geoglot.types import Ring

Place = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Pixel corners [N, 2] to coordinates [N, 2]."""


def area_polygons(
    path: Path,
    place: Place,
    on_earth: bool,
    properties: Mapping[int, Mapping[str, Any]],
    gsd_m: float | None = None,
) -> Iterator[Feature]:
    """Every area of equal value (neighbours share an edge) of a uint8 raster, as a feature.

    The raster is read line by line; GDAL keeps the outlines, so memory follows their length, not the raster's size.
    Outlines follow pixel edges exactly.

    Args:
        path: The raster.
        place: Where pixel corners lie.
        on_earth: That is lon/lat, which is cut at the antimeridian.
        properties: Value to the properties of its features, to which `pixels` and `area_m2` are added; other values are
            left out.
        gsd_m: Metres a pixel; None leaves `area_m2` empty.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.features import shapes

    from geoglot.imagery.opening import open_raster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with open_raster(str(path)) as source:
            back = ~source.transform  # of a band GDAL gives outlines on its own grid, whatever it is told
            for outline, value in shapes(rasterio.band(source, 1), connectivity=4):
                if int(value) in properties:
                    rings = [_corners(ring, back) for ring in outline["coordinates"]]
                    yield _feature(rings, place, on_earth, properties[int(value)], gsd_m)


def _corners(ring: list[tuple[float, float]], back: Any) -> NDArray[np.float64]:
    """Grid coordinates to pixel corners [N, 2], which are whole numbers."""
    x, y = np.asarray(ring, np.float64).T
    whole: NDArray[np.float64] = np.rint(
        np.column_stack([back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f])
    )
    return whole


def _feature(
    corners: list[NDArray[np.float64]], place: Place, on_earth: bool, facts: Mapping[str, Any], gsd_m: float | None
) -> Feature:
    pixels = round(abs(_area(corners[0])) - sum(abs(_area(hole)) for hole in corners[1:]))
    area = {"pixels": pixels, "area_m2": round(pixels * gsd_m**2, 2) if gsd_m else None}
    placed = [place(ring) for ring in corners]
    lon = placed[0][:, 0]
    parts = _cut(placed) if on_earth and (np.ptp(lon) > 180 or abs(lon).max() > 180) else [placed]
    rings = tuple(_ring(part[0]) for part in parts)
    holes = tuple(tuple(_ring(hole) for hole in part[1:]) for part in parts)
    return Feature(rings, {**facts, **area}, holes)


def _ring(points: NDArray[np.float64]) -> Ring:
    return tuple(map(tuple, points.tolist()))


def _area(ring: NDArray[np.float64]) -> float:
    """Shoelace formula."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _cut(rings: list[NDArray[np.float64]]) -> list[list[NDArray[np.float64]]]:
    """A polygon over the antimeridian as one on either side; each is its outer ring and its holes."""
    import shapely
    from shapely import affinity

    turned = [np.column_stack([ring[:, 0] % 360, ring[:, 1]]) for ring in rings]
    whole = shapely.make_valid(shapely.Polygon(turned[0], turned[1:]))
    halves = [
        whole.intersection(shapely.box(0, -90, 180, 90)),
        affinity.translate(whole.intersection(shapely.box(180, -90, 360, 90)), xoff=-360),
    ]
    found = [part for half in halves for part in shapely.get_parts(half) if part.geom_type == "Polygon"]
    return [[shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)] for part in found]


def scene_place(scene: Scene) -> tuple[Place, bool]:
    """Where a scene's pixel corners lie, and whether that is on the earth (lon/lat) or only (x, -y) in pixels."""

    def place(corners: NDArray[np.float64]) -> NDArray[np.float64]:
        lonlat = scene.lonlat(corners[:, 0], corners[:, 1])
        if lonlat is None:
            return np.asarray(corners * (1.0, -1.0))
        return np.column_stack(lonlat).round(9)  # 0.1 mm

    return place, scene.info.crs is not None
