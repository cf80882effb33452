"""Where to search, read from GeoJSON: a geometry that came over a wire, or the polygons of a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoglot.errors import UsageError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

MAX_NESTING = 3
GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")


def read_geometry(raw: Mapping[str, Any]) -> BaseGeometry:
    """A GeoJSON geometry in lon/lat; invalid polygons are repaired.

    Raises:
        UsageError: Not GeoJSON, a Feature, not finite, or outside the earth.
    """
    import shapely

    kind = raw.get("type")
    if kind not in GEOMETRIES:
        raise UsageError(
            f"intersects has type {str(kind)[:40]!r}, which is not a geometry",
            hint=f"Give one of {', '.join(GEOMETRIES)}; of a Feature, give its geometry.",
        )
    try:
        _check_depth(raw)
        shape = shapely.geometry.shape(dict(raw))
        if not bool(shapely.is_valid(shape)):
            shape = shapely.make_valid(shape)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise UsageError(
            f"intersects is not a GeoJSON geometry: {error}", hint="See RFC 7946; positions are [lon, lat]."
        ) from error
    return _finite(shape)


def _check_depth(raw: Mapping[str, Any], depth: int = 0) -> None:
    """Shapely recurses; a hostile nesting must not reach it."""
    if depth > MAX_NESTING:
        raise ValueError("collections are nested too deeply")
    for geometry in raw.get("geometries", ()) if raw["type"] == "GeometryCollection" else ():
        _check_depth(geometry, depth + 1)


def _finite(shape: BaseGeometry) -> BaseGeometry:
    import shapely

    if not all(math.isfinite(v) for v in shape.bounds) and not shape.is_empty:
        raise UsageError("intersects holds a position that is not finite", hint="Positions are [lon, lat] in degrees.")
    return shapely.force_2d(shape)


def read_region(path: str | Path) -> BaseGeometry:
    """All polygons of a GeoJSON file as one geometry in lon/lat degrees; invalid ones are repaired.

    Raises:
        UsageError: The file is not there, not GeoJSON, or holds no polygon.
    """
    import shapely

    file = Path(path).expanduser()
    try:
        polygons = [shapely.geometry.shape(raw) for raw in _polygons(json.loads(file.read_text("utf-8")))]
    except OSError as error:
        raise UsageError(
            f"cannot read {str(path)!r}: {error.strerror or error}", hint="Give a GeoJSON file with polygons."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.GEOSException) as error:
        raise UsageError(f"{str(path)!r} is not GeoJSON: {error}", hint="Give a GeoJSON file with polygons.") from error
    if not polygons:
        raise UsageError(f"{str(path)!r} holds no polygon", hint="Points and lines have no inside; draw a polygon.")
    return shapely.union_all([shapely.make_valid(polygon) for polygon in polygons])


def _polygons(raw: Any) -> Iterator[dict[str, Any]]:
    """Polygon geometries of any GeoJSON object, depth first."""
    kind = raw["type"]
    if kind == "FeatureCollection":
        for feature in raw["features"]:
            yield from _polygons(feature)
    elif kind == "Feature":
        if raw["geometry"] is not None:
            yield from _polygons(raw["geometry"])
    elif kind == "GeometryCollection":
        for geometry in raw["geometries"]:
            yield from _polygons(geometry)
    elif kind in ("Polygon", "MultiPolygon"):
        yield raw
