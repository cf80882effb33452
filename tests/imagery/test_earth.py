"""Ground sample distance and outlines on the earth, also where maps end."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from geoglot.imagery.earth import Georeference, georeference
from geoglot.types import Window

GEOD = pyproj.Geod(ellps="WGS84")


def _geo(crs: str, transform: Affine) -> Georeference:
    found = georeference(CRS.from_string(crs).to_wkt(), transform)
    assert found is not None
    return found


def test_gsd_of_utm_is_its_pixel_size() -> None:
    geo = _geo("EPSG:32652", from_origin(500_000, 4_000_000, 10, 10))
    assert geo.gsd_m(100, 100) == pytest.approx(10 / 0.9996, rel=1e-4)  # scale factor of the central meridian


@pytest.mark.parametrize("lat", [0.0, 45.0, -60.0, 80.0])
def test_gsd_of_web_mercator_shrinks_with_latitude(lat: float) -> None:
    _, y = pyproj.Transformer.from_crs(4326, 3857, always_xy=True).transform(0, lat)
    geo = _geo("EPSG:3857", from_origin(0, y + 5, 1, 1))
    assert geo.gsd_m(10, 10) == pytest.approx(math.cos(math.radians(lat)), rel=7e-3)  # sphere against ellipsoid


def test_gsd_of_degrees() -> None:
    geo = _geo("EPSG:4326", from_origin(10, 60, 0.001, 0.001))
    down = GEOD.inv(10.5, 59.5, 10.5, 59.501)[2]
    across = GEOD.inv(10.5, 59.5, 10.501, 59.5)[2]
    assert geo.gsd_m(1000, 1000) == pytest.approx(math.sqrt(down * across), rel=1e-5)


@given(st.floats(0, 360))
@settings(deadline=None)
def test_gsd_does_not_depend_on_rotation(angle: float) -> None:
    turned = Affine.translation(400_000, 3_000_000) * Affine.rotation(angle) * Affine.scale(2, -2)
    assert _geo("EPSG:32633", turned).gsd_m(1, 1) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [(None, from_origin(0, 0, 1, 1)), ("EPSG:4326", Affine.identity()), ("EPSG:4326", Affine(1, 0, 0, 1, 0, 0))],
)
def test_no_georeference(crs: str | None, transform: Affine) -> None:
    assert georeference(crs and CRS.from_string(crs).to_wkt(), transform) is None


def test_local_crs_is_no_georeference() -> None:
    wkt = 'LOCAL_CS["site grid",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    assert georeference(wkt, from_origin(0, 100, 1, 1)) is None


def _check_rings(rings: tuple[tuple[tuple[float, float], ...], ...]) -> None:
    for ring in rings:
        assert ring[0] == ring[-1]
        assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in ring)
        assert shapely.Polygon(ring).is_valid
        assert shapely.LinearRing(ring).is_ccw


def test_outline_follows_the_curve() -> None:
    geo = _geo("EPSG:32652", from_origin(300_000, 4_000_000, 10, 10))
    frame = geo.frame(Window(0, 0, 10_980, 10_980))
    assert frame is not None
    _check_rings(frame.footprint_lonlat)
    fine = shapely.Polygon(np.column_stack(geo.lonlat(*_walk(10_980, 2000))))
    missed = shapely.Polygon(frame.footprint_lonlat[0]).symmetric_difference(fine).area / fine.area
    assert missed < 1e-5
    assert shapely.box(*frame.bbox_lonlat.lonlat).buffer(1e-5).contains(fine)


def _walk(side: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    t = np.linspace(0, side, steps)
    zero, full = np.zeros(steps), np.full(steps, side)
    return np.concatenate([t, full, t[::-1], zero]), np.concatenate([zero, t, full, t[::-1]])


@pytest.mark.parametrize("crs", ["EPSG:32601", "EPSG:32660", "EPSG:4326", "EPSG:3832"])
def test_across_the_antimeridian(crs: str) -> None:
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(
        179.9 if crs != "EPSG:32601" else -179.9, 10
    )
    size = 0.001 if crs == "EPSG:4326" else 100.0
    geo = _geo(crs, from_origin(x - 500 * size, y, size, size))
    frame = geo.frame(Window(0, 0, 1000, 100))
    assert frame is not None
    box = frame.bbox_lonlat
    assert box.crosses_antimeridian
    assert (box.west - box.east) == pytest.approx(359, abs=0.2), "about one degree wide"
    assert len(frame.footprint_lonlat) == 2
    _check_rings(frame.footprint_lonlat)
    west, east = sorted(frame.footprint_lonlat, key=lambda ring: -ring[0][0])
    assert max(lon for lon, _ in west) == 180.0
    assert min(lon for lon, _ in east) == -180.0
    width = sum(shapely.Polygon(r).bounds[2] - shapely.Polygon(r).bounds[0] for r in (west, east))
    assert width == pytest.approx(360 - (box.west - box.east), abs=1e-6)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3995", 90.0), ("EPSG:3031", -90.0)])
def test_a_scene_that_holds_a_pole(crs: str, pole: float) -> None:
    geo = _geo(crs, from_origin(-500_000, 400_000, 1000, 1000))
    frame = geo.frame(Window(0, 0, 1000, 1000))
    assert frame is not None
    box = frame.bbox_lonlat
    assert (box.west, box.east) == (-180.0, 180.0)
    assert pole in (box.south, box.north)
    assert len(frame.footprint_lonlat) == 1
    _check_rings(frame.footprint_lonlat)
    shape = shapely.Polygon(frame.footprint_lonlat[0])
    assert all(shape.buffer(1e-6).contains(shapely.Point(lon, pole)) for lon in (-179.9, 0.0, 90.0))
    assert geo.gsd_m(1000, 1000) == pytest.approx(1000, rel=0.05)


def test_the_whole_world_and_longitudes_from_0_to_360() -> None:
    for west in (-180, 0):
        frame = _geo("EPSG:4326", from_origin(west, 90, 1, 1)).frame(Window(0, 0, 360, 180))
        assert frame is not None
        assert frame.bbox_lonlat.lonlat == (-180, -90, 180, 90)
        _check_rings(frame.footprint_lonlat)
        assert sum(shapely.Polygon(r).area for r in frame.footprint_lonlat) == pytest.approx(360 * 180)
    frame = _geo("EPSG:4326", from_origin(200, 10, 0.1, 0.1)).frame(Window(0, 0, 100, 100))
    assert frame is not None
    assert frame.bbox_lonlat.lonlat == pytest.approx((-160, 0, -150, 10))


def test_off_the_earth() -> None:
    geo = _geo("EPSG:4326", from_origin(0, 1000, 1, 1))
    assert geo.frame(Window(0, 0, 10, 10)) is None
    assert geo.gsd_m(10, 10) is None
    assert geo.frames([Window(0, 0, 10, 10)]) == [None]


@given(st.integers(0, 59), st.floats(-79, 79), st.integers(5, 800))
@settings(max_examples=40, deadline=None)
def test_many_frames_equal_one_by_one(zone: int, lat: float, side: int) -> None:
    lon = -177.0 + 6 * zone + 2.9  # the last scenes reach over the zone's edge and the antimeridian
    crs = f"EPSG:{32601 + zone}"
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    geo = _geo(crs, from_origin(x, y, 10, 10))
    windows = [Window(i * side, j * side, (i + 1) * side, (j + 1) * side) for i in range(3) for j in range(2)]
    for fast, slow in zip(geo.frames(windows), map(geo.frame, windows), strict=True):
        assert fast is not None
        assert slow is not None
        assert fast.side_m == pytest.approx(slow.side_m, rel=1e-9)
        assert fast.bbox_lonlat.lonlat == pytest.approx(slow.bbox_lonlat.lonlat, abs=2e-4)
        assert len(fast.footprint_lonlat) == len(slow.footprint_lonlat)
        _check_rings(fast.footprint_lonlat)
        parts = [shapely.union_all([shapely.Polygon(r) for r in f.footprint_lonlat]) for f in (fast, slow)]
        assert parts[0].symmetric_difference(parts[1]).area < 0.01 * parts[1].area


@given(st.floats(-180, 180), st.floats(-84, 84), st.floats(0.1, 5000))
@settings(deadline=None)
def test_web_mercator_chip_rings_are_closed_and_on_the_map(lon: float, lat: float, size: float) -> None:
    x, y = pyproj.Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    frame = _geo("EPSG:3857", from_origin(x, y, size, size)).frame(Window(0, 0, 64, 64))
    if frame is not None:
        _check_rings(frame.footprint_lonlat)
        assert all(abs(a[0] - b[0]) <= 180 for ring in frame.footprint_lonlat for a, b in pairwise(ring))
