"""Places as tables: a GeoJSON FeatureCollection as an Arrow table, and an Arrow table as a GeoDataFrame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geoglot.errors import MissingExtraError

if TYPE_CHECKING:
    import geopandas
    import pyarrow as pa

LONLAT = "EPSG:4326"


def arrow_table(collection: Mapping[str, Any]) -> pa.Table:
    """One row a feature: its properties, and its geometry as WKB in `geometry`.

    Carries GeoParquet 1.1 metadata (https://geoparquet.org/releases/v1.1.0/), so that a file of it opens in QGIS.
    """
    import pyarrow as pa
    import shapely

    features = collection["features"]
    names = dict.fromkeys(name for feature in features for name in feature["properties"])
    columns = {name: [feature["properties"].get(name) for feature in features] for name in names}
    shapes = [shapely.geometry.shape(f["geometry"]) if f["geometry"] else None for f in features]
    wkb = [None if shape is None else shapely.to_wkb(shape) for shape in shapes]
    kinds = sorted({shape.geom_type for shape in shapes if shape is not None})
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": kinds}},
    }
    return pa.table({**columns, "geometry": pa.array(wkb, pa.binary())}, metadata={"geo": json.dumps(geo)})


def geodataframe(table: pa.Table, crs: str | None = LONLAT) -> geopandas.GeoDataFrame:
    """The same rows for GeoPandas.

    Args:
        table: With WKB in `geometry`.
        crs: Of the coordinates; None for pixels.

    Raises:
        MissingExtraError: GeoPandas is not installed.
    """
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError("a GeoDataFrame", "geo") from error
    shapes = geopandas.GeoSeries.from_wkb(table.column("geometry").to_pylist(), crs=crs)
    return geopandas.GeoDataFrame(table.drop_columns(["geometry"]).to_pandas(), geometry=shapes, crs=crs)
