"""Polygons into several vector files at once, batch by batch, so that memory does not follow their number.

Places on the earth are lon/lat WGS 84, as in imagery/vectors.py. Where nobody knows the earth, the frame is "pixels":
x to the right and y = -row, which is where GIS programs show a raster without a georeference; such files name no CRS.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from geoglot.errors import MissingExtraError, UnknownNameError
from geoglot.imagery.vectors import Feature, bbox_of, columns_of, geojson_of, not_written, ogr_column, shapes_of
from geoglot.types import Bbox, Ring

Frame = Literal["lonlat", "pixels"]

BATCH = 2000


class _Writer(Protocol):
    def write(self, features: Sequence[Feature]) -> None: ...

    def close(self, box: Bbox | None) -> None: ...


def write_stream(features: Iterable[Feature], paths: Mapping[str, Path], frame: Frame = "lonlat") -> int:
    """Write features to one or more files, replacing them, in one pass.

    Args:
        features: Any number, also none; they share the names and kinds of their properties.
        paths: Format ("geojson", "parquet" or "gpkg", see vectors.py) to file.
        frame: What the coordinates are.

    Returns:
        How many there were.

    Raises:
        UnknownNameError: Another format.
        MissingExtraError: GeoPackage without pyogrio; nothing is written.
        StorageError: A file cannot be written.
    """
    for format in paths:
        if format not in _WRITERS:
            raise UnknownNameError("vector format", format, _WRITERS)
    if "gpkg" in paths:
        _need_pyogrio()
    try:
        return _write_all(features, paths, frame)
    except OSError as error:
        raise not_written(error.filename or next(iter(paths.values())), error) from error


def _write_all(features: Iterable[Feature], paths: Mapping[str, Path], frame: Frame) -> int:
    count, boxes = 0, []
    writers: list[_Writer] = []
    with ExitStack() as undo:
        for format, path in paths.items():
            writers.append(_WRITERS[format](path, frame, undo))
        for batch in _batches(features):
            count += len(batch)
            for writer in writers:
                writer.write(batch)
            if frame == "lonlat" and (box := bbox_of([ring for feature in batch for ring in feature.rings])):
                boxes += [_outline(part) for part in box.parts()]
        for writer in writers:
            writer.close(bbox_of(boxes))
    return count


def _batches(features: Iterable[Feature]) -> Iterator[list[Feature]]:
    """At least one batch, so that files without features still have their columns' place."""
    rest = iter(features)
    batch = list(islice(rest, BATCH))
    yield batch
    while batch := list(islice(rest, BATCH)):
        yield batch


def _outline(box: Bbox) -> Ring:
    w, s, e, n = box.lonlat
    return ((w, s), (e, s), (e, n), (w, n), (w, s))


class _GeoJson:
    """RFC 7946, one feature a line; in the frame "pixels" without its promise of lon/lat, which the file says."""

    def __init__(self, path: Path, frame: Frame, undo: ExitStack) -> None:
        self._file: IO[str] = undo.enter_context(path.open("w", encoding="utf-8"))
        self._frame, self._between = frame, "\n"
        self._file.write('{"type": "FeatureCollection", ')
        if frame == "pixels":
            self._file.write('"frame": "pixels: x to the right, y = -row; not lon/lat", ')
        self._file.write('"features": [')

    def write(self, features: Sequence[Feature]) -> None:
        for feature in features:
            text = json.dumps(geojson_of(feature, box=self._frame == "lonlat"), ensure_ascii=False, allow_nan=False)
            self._file.write(self._between + text)
            self._between = ",\n"

    def close(self, box: Bbox | None) -> None:
        self._file.write("\n]" + (f', "bbox": {json.dumps(list(box.lonlat))}' if box else "") + "}\n")


class _Parquet:
    """GeoParquet 1.1; a CRS of null says that nobody knows it."""

    def __init__(self, path: Path, frame: Frame, undo: ExitStack) -> None:
        self._path, self._frame, self._undo = path, frame, undo
        self._out: Any = None

    def write(self, features: Sequence[Feature]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq
        import shapely

        wkb = [None if shape is None else shapely.to_wkb(shape) for shape in shapes_of(features)]
        table = pa.table({**columns_of(features), "geometry": pa.array(wkb, pa.binary())})
        if self._out is None:
            table = table.replace_schema_metadata({"geo": json.dumps(self._geo())})
            self._out = self._undo.enter_context(pq.ParquetWriter(self._path, table.schema))
        self._out.write_table(table.cast(self._out.schema))

    def close(self, box: Bbox | None) -> None:
        """Without the bbox: readers look for metadata in the schema, which is written before the last feature."""

    def _geo(self) -> dict[str, Any]:
        column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["MultiPolygon"]}
        column["orientation"] = "counterclockwise"
        if self._frame == "pixels":
            column["crs"] = None
        return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


class _GeoPackage:
    """One layer, added to batch by batch."""

    def __init__(self, path: Path, frame: Frame, undo: ExitStack) -> None:
        self._path, self._crs, self._append = path, "EPSG:4326" if frame == "lonlat" else None, False
        path.unlink(missing_ok=True)

    def write(self, features: Sequence[Feature]) -> None:
        import warnings

        import numpy as np
        import shapely
        from pyogrio.errors import DataSourceError
        from pyogrio.raw import write

        columns = columns_of(features)
        data = [ogr_column(values) for values in columns.values()]
        wkb = [None if shape is None else shapely.to_wkb(shape) for shape in shapes_of(features)]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="'crs' was not provided")  # which is the point
                write(
                    str(self._path), np.array(wkb, dtype=object), [values for values, _ in data], list(columns),
                    field_mask=[missing for _, missing in data], geometry_type="MultiPolygon", crs=self._crs,
                    driver="GPKG", layer=self._path.stem, append=self._append,
                )  # fmt: skip
        except DataSourceError as error:
            raise not_written(self._path, error) from error
        self._append = True

    def close(self, box: Bbox | None) -> None:
        """GDAL closed it already."""


_WRITERS: Mapping[str, type[_GeoJson] | type[_Parquet] | type[_GeoPackage]] = {
    "geojson": _GeoJson,
    "parquet": _Parquet,
    "gpkg": _GeoPackage,
}


def _need_pyogrio() -> None:
    try:
        import pyogrio  # noqa: F401 - to know that it is there
    except ImportError as error:
        raise MissingExtraError("writing GeoPackage", "geo") from error
