"""A region to search in, read from a GeoJSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoglot.errors import UsageError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


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
