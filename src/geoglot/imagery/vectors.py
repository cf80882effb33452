"""Places out as vector files in lon/lat WGS 84: GeoJSON, GeoParquet, GeoPackage."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from geoglot.errors import MissingExtraError, StorageError, UnknownNameError
from geoglot.types import Bbox, Ring


@dataclass(frozen=True, slots=True)
class Feature:
    """A place with its properties.

    Attributes:
        rings: Closed outer rings in lon/lat degrees, already cut at the antimeridian; empty for "nowhere known".
        properties: Name to text, number, bool, date or None. All features of one file share the same names.
        holes: Closed inner rings of each outer ring; empty where no ring has any.
    """

    rings: tuple[Ring, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)
    holes: tuple[tuple[Ring, ...], ...] = ()

    def polygons(self) -> list[list[Ring]]:
        """Each outer ring, counter-clockwise, with its holes, clockwise."""
        holes = self.holes or ((),) * len(self.rings)
        return [
            [_counter_clockwise(ring), *(_counter_clockwise(hole)[::-1] for hole in inner)]
            for ring, inner in zip(self.rings, holes, strict=True)
        ]


def write_vectors(features: Sequence[Feature], path: str | Path, format: str) -> None:
    """Write features to a file, replacing it.

    Args:
        features: Any number, also none.
        path: The file to write.
        format: "geojson" (RFC 7946), "parquet" (GeoParquet 1.1) or "gpkg" (GeoPackage, needs the extra `geo`).

    Raises:
        UnknownNameError: Another format.
        MissingExtraError: GeoPackage without pyogrio.
        StorageError: The file cannot be written.
    """
    writers: dict[str, Callable[[Sequence[Feature], Path], None]] = {
        "geojson": _write_geojson,
        "parquet": _write_parquet,
        "gpkg": _write_geopackage,
    }
    if format not in writers:
        raise UnknownNameError("vector format", format, writers)
    try:
        writers[format](features, Path(path))
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: str | Path, error: Exception) -> StorageError:
    """The error for a file that could not be written."""
    return StorageError(f"cannot write {str(path)!r}: {error}", hint="Check the folder and the free space.")


def to_geojson(features: Sequence[Feature]) -> dict[str, Any]:
    """A GeoJSON FeatureCollection after RFC 7946, in lon/lat.

    Outer rings run counter-clockwise. A bbox that crosses the antimeridian has west > east. The geometry is null
    where the place is not known. NaN and infinity become null.
    """
    collection: dict[str, Any] = {"type": "FeatureCollection", "features": [geojson_of(f) for f in features]}
    everywhere = bbox_of([ring for feature in features for ring in feature.rings])
    if everywhere:
        collection["bbox"] = list(everywhere.lonlat)
    return collection


def bbox_of(rings: Sequence[Ring]) -> Bbox | None:
    """The smallest box around rings; it crosses the antimeridian where that makes it narrower. None without rings."""
    if not rings:
        return None
    points = [point for ring in rings for point in ring]
    lats = [lat for _, lat in points]
    spans = sorted((min(lon for lon, _ in ring), max(lon for lon, _ in ring)) for ring in rings)
    west, east = _narrowest(spans)
    return Bbox(west, min(lats), east, max(lats))


def _narrowest(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """West and east of the arc that leaves out the widest gap between longitude spans, sorted by their west."""
    west, reach = spans[0]
    widest, start, end = -math.inf, west, reach
    for lon0, lon1 in spans[1:]:
        if lon0 - reach > widest:
            widest, start, end = lon0 - reach, lon0, reach
        reach = max(reach, lon1)
    outside = (west + 180) + (180 - reach)  # the gap over the antimeridian
    return (start, end) if widest > outside else (west, reach)


def geojson_of(feature: Feature, *, box: bool = True) -> dict[str, Any]:
    """A GeoJSON feature, with its bbox unless its coordinates are no degrees."""
    out: dict[str, Any] = {"type": "Feature", "geometry": _geometry(feature)}
    if box and (bounds := bbox_of(feature.rings)):
        out["bbox"] = list(bounds.lonlat)
    out["properties"] = {name: _json_value(value) for name, value in feature.properties.items()}
    return out


def _geometry(feature: Feature) -> dict[str, Any] | None:
    polygons = [[[list(point) for point in ring] for ring in polygon] for polygon in feature.polygons()]
    if not polygons:
        return None
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _counter_clockwise(ring: Ring) -> Ring:
    """RFC 7946, 3.1.6: outer rings follow the right-hand rule. Twice the signed area, shoelace formula."""
    west, south = ring[0]  # areas of small rings far from (0, 0) would drown in rounding
    local = [(lon - west, lat - south) for lon, lat in ring]
    twice_area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(local))
    return ring if twice_area >= 0 else ring[::-1]


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime | date):
        return value.isoformat().replace("+00:00", "Z")
    return value


def _write_geojson(features: Sequence[Feature], path: Path) -> None:
    path.write_text(json.dumps(to_geojson(features), ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def columns_of(features: Sequence[Feature]) -> dict[str, list[Any]]:
    """Property to its values, one a feature."""
    names = list(dict.fromkeys(name for feature in features for name in feature.properties))
    return {name: [feature.properties.get(name) for feature in features] for name in names}


def shapes_of(features: Sequence[Feature]) -> list[Any]:
    """Shapely MultiPolygons; None for a feature without rings."""
    import shapely

    def shape(feature: Feature) -> Any:
        polygons = [(outer, holes) for outer, *holes in feature.polygons()]
        return shapely.MultiPolygon(polygons) if polygons else None

    return [shape(feature) for feature in features]


def _write_parquet(features: Sequence[Feature], path: Path) -> None:
    """GeoParquet 1.1, https://geoparquet.org/releases/v1.1.0/: WKB in `geometry`, metadata under the key `geo`."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    wkb = [None if shape is None else shapely.to_wkb(shape) for shape in shapes_of(features)]
    table = pa.table({**columns_of(features), "geometry": pa.array(wkb, pa.binary())})
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["MultiPolygon"], "orientation": "counterclockwise"}
    if box := bbox_of([ring for feature in features for ring in feature.rings]):
        column["bbox"] = list(box.lonlat)
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)


def _write_geopackage(features: Sequence[Feature], path: Path) -> None:
    import numpy as np
    import shapely

    try:
        from pyogrio.errors import DataSourceError
        from pyogrio.raw import write
    except ImportError as error:
        raise MissingExtraError("writing GeoPackage", "geo") from error
    columns = columns_of(features)
    data = [ogr_column(values) for values in columns.values()]
    path.unlink(missing_ok=True)
    try:
        write(
            str(path),
            np.array([None if s is None else shapely.to_wkb(s) for s in shapes_of(features)], dtype=object),
            [values for values, _ in data],
            list(columns),
            field_mask=[missing for _, missing in data],
            geometry_type="MultiPolygon",
            crs="EPSG:4326",
            driver="GPKG",
            layer=path.stem,
        )
    except DataSourceError as error:
        raise not_written(path, error) from error


def ogr_column(values: list[Any]) -> tuple[Any, Any]:
    """A typed array and a mask of missing values, or None where nothing is missing."""
    import numpy as np

    values = [_json_value(value) for value in values]
    known = [v for v in values if v is not None]
    missing = np.array([v is None for v in values], dtype=bool)
    kinds = {type(v) for v in known}
    if kinds and kinds <= {int, float}:
        array = np.array([0 if v is None else v for v in values], dtype="float64" if float in kinds else "int64")
    elif kinds == {bool}:
        array = np.array([bool(v) for v in values])
    else:
        return np.array([None if v is None else str(v) for v in values], dtype=object), None
    return array, (missing if missing.any() else None)
