"""The answer to a query, and the same as JSON, GeoJSON, CSV or GeoParquet: one record per match, with the same names.

    rank score confidence scene uri box_px bbox_lonlat footprint acquired sensor gsd_m chip_id ground_m merged

In the flat formats `box_px` becomes x0_px y0_px x1_px y1_px and `bbox_lonlat` west south east north; west > east means
that a place crosses the antimeridian. `footprint` is the geometry. A scene without a georeference has none: its
geometry is null, never invented.

An answer that was pointed (`geoglot.archive.rerank`) has `spot` as well: x_px y_px box_px lonlat bbox_lonlat footprint
score; in the flat formats spot_score spot_x_px spot_y_px spot_lon spot_lat and the box as spot_x0_px ... spot_north.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geoglot.errors import StorageError, UnknownNameError
from geoglot.types import Chip, Match, Ring, Spot

if TYPE_CHECKING:
    import geopandas
    import pyarrow as pa

FORMATS = ("json", "geojson", "csv", "parquet")

DECIMALS = 6
"""Of scores and confidences: more than float32 carries."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to a query. In a notebook it shows itself, with pictures.

    Attributes:
        matches: Best first.
        nothing_matches: True when even the best hit is less likely than not to show what was asked (the model card's
            threshold): the matches are then only the nearest things there are. Never True when not calibrated.
        total: Chips that the filter left.
        path: "exact" (every one of them was compared) or "ann" (the approximate index chose which).
        considered: Chips that were compared.
        elapsed_s: Seconds, encoding included.
        undated: Scenes left out because a time was asked for and they have none.
        unplaced: Scenes left out because a place or a resolution was asked for and they have no georeference.
        calibrated: False when nobody fitted a calibration for the model: then confidences are None.
    """

    matches: tuple[Match, ...]
    nothing_matches: bool
    total: int
    path: Literal["exact", "ann"]
    considered: int
    elapsed_s: float
    undated: int = 0
    unplaced: int = 0
    calibrated: bool = True

    def to_geojson(self) -> dict[str, Any]:
        """The matches as a GeoJSON FeatureCollection (RFC 7946); without a georeference the geometry is null."""
        from geoglot.imagery.vectors import Feature, to_geojson

        return to_geojson([Feature(match.chip.footprint_lonlat, flat(match)) for match in self.matches])

    def to_arrow(self) -> pa.Table:
        """The matches as an Arrow table: one row each, footprints as WKB in `geometry`, GeoParquet 1.1 metadata."""
        return _table(self.matches)

    def to_geodataframe(self) -> geopandas.GeoDataFrame:
        """The matches as a GeoDataFrame in WGS 84.

        Raises:
            MissingExtraError: GeoPandas is not installed.
        """
        from geoglot.imagery.frames import geodataframe

        return geodataframe(self.to_arrow())

    def _repr_html_(self) -> str:
        from geoglot.archive.notebook import matches_html

        count = len(self.matches)
        verdict = "Nothing matches; these are the nearest misses. " if self.nothing_matches and count else ""
        places = "1 match" if count == 1 else f"{count} matches"
        return matches_html(self.matches, f"{verdict}{places} of {self.total:,} chips, in {self.elapsed_s:.2f} s.")


def format_answer(result: SearchResult, query: str, format: str) -> bytes:
    """The result in one of FORMATS, UTF-8.

    Raises:
        UnknownNameError: No such format.
    """
    writers = {"json": _json, "geojson": _geojson, "csv": _csv, "parquet": _parquet}
    if format not in writers:
        raise UnknownNameError("format", format, writers)
    return writers[format](result, query)


def write_answer(path: Path | str, result: SearchResult, query: str, format: str) -> None:
    """Write the result to a file.

    Raises:
        UnknownNameError: No such format.
        StorageError: The file cannot be written.
    """
    content = format_answer(result, query, format)
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint="Choose another file.") from error


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and its result; `language` is an ISO 639-1 code or empty."""

    question: str
    result: SearchResult
    language: str = ""


def write_answers(path: Path | str, answers: Iterable[Answered]) -> None:
    """Write the matches of several questions as one GeoJSON file; each place says which question it answers.

    Raises:
        StorageError: The file cannot be written.
    """
    from geoglot.imagery.vectors import Feature, write_vectors

    features = [
        Feature(match.chip.footprint_lonlat, {"question": a.question, "language": a.language, **flat(match)})
        for a in answers
        if not a.result.nothing_matches
        for match in a.result.matches
    ]
    write_vectors(features, path, "geojson")


def record(match: Match) -> dict[str, Any]:
    """A match as plain JSON values; `footprint` is a GeoJSON geometry or None."""
    chip, scene = match.chip, match.scene
    pointed = {"spot": spot_record(match.spot)} if match.spot else {}
    return {
        "rank": match.rank,
        "score": round(match.score, DECIMALS),
        "confidence": None if match.confidence is None else round(match.confidence, DECIMALS),
        "scene": scene.name,
        "uri": scene.uri,
        "box_px": list(chip.window.box_px),
        "bbox_lonlat": list(chip.bbox_lonlat.lonlat) if chip.bbox_lonlat else None,
        "footprint": geometry(chip),
        "acquired": scene.acquired.isoformat().replace("+00:00", "Z") if scene.acquired else None,
        "sensor": scene.sensor,
        "gsd_m": scene.gsd_m,
        "chip_id": chip.chip_id,
        "ground_m": chip.ground_m,
        "merged": match.merged,
        **pointed,
    }


def spot_record(spot: Spot) -> dict[str, Any]:
    """Where in a chip, as plain JSON values."""
    return {
        "score": round(spot.score, DECIMALS),
        "x_px": round(spot.x_px, 1),
        "y_px": round(spot.y_px, 1),
        "box_px": list(spot.window.box_px),
        "lonlat": list(spot.lonlat) if spot.lonlat else None,
        "bbox_lonlat": list(spot.bbox_lonlat.lonlat) if spot.bbox_lonlat else None,
        "footprint": _outline(spot.footprint_lonlat),
    }


def geometry(chip: Chip) -> dict[str, Any] | None:
    """The outline as a GeoJSON geometry; two polygons beside the antimeridian; None without a georeference."""
    return _outline(chip.footprint_lonlat)


def _outline(rings: tuple[Ring, ...]) -> dict[str, Any] | None:
    from geoglot.imagery.vectors import Feature, geojson_of

    outline: dict[str, Any] | None = geojson_of(Feature(rings), box=False)["geometry"]
    return outline


def flat(match: Match) -> dict[str, Any]:
    """A match as scalars, for tables and for properties that any desktop GIS can show."""
    values = record(match)
    spot = values.pop("spot", None)
    box_px, bbox = values.pop("box_px"), values.pop("bbox_lonlat")
    del values["footprint"]
    values |= dict(zip(("x0_px", "y0_px", "x1_px", "y1_px"), box_px, strict=True))
    values |= dict(zip(("west", "south", "east", "north"), bbox or (None,) * 4, strict=True))
    if spot is not None:
        facts = (spot["score"], spot["x_px"], spot["y_px"], *(spot["lonlat"] or (None,) * 2))
        values |= dict(zip(_SPOT, (*facts, *spot["box_px"], *(spot["bbox_lonlat"] or (None,) * 4)), strict=True))
    return values


def summary(result: SearchResult, query: str) -> dict[str, Any]:
    """The facts of the result as a whole."""
    return {
        "query": query,
        "nothing_matches": result.nothing_matches,
        "calibrated": result.calibrated,
        "total": result.total,
        "path": result.path,
        "elapsed_s": round(result.elapsed_s, 4),
    }


def _json(result: SearchResult, query: str) -> bytes:
    return _dump({**summary(result, query), "matches": [record(match) for match in result.matches]}, indent=2)


def _geojson(result: SearchResult, query: str) -> bytes:
    return _dump({**result.to_geojson(), "geoglot": summary(result, query)})


def _dump(value: dict[str, Any], indent: int | None = None) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False) + "\n").encode("utf-8", "replace")


def _csv(result: SearchResult, query: str) -> bytes:
    """Comma separated with a header; the last column, `footprint_wkt`, lets a GIS place the rows."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(_columns(result.matches))
    for match in result.matches:
        values = flat(match)
        writer.writerow([*(_cell(values.get(name)) for name in _columns(result.matches)[:-1]), _wkt(match.chip)])
    return stream.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    """A text that spreadsheets would take for a formula with an apostrophe in front, which they do not show."""
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(tuple("=+-@\t\r\0＝＋－＠")) else value


_SPOT = (
    "spot_score", "spot_x_px", "spot_y_px", "spot_lon", "spot_lat",
    "spot_x0_px", "spot_y0_px", "spot_x1_px", "spot_y1_px", "spot_west", "spot_south", "spot_east", "spot_north",
)  # fmt: skip


def _columns(matches: Sequence[Match]) -> tuple[str, ...]:
    numbers = ("rank", "score", "confidence", "scene", "uri", "acquired", "sensor", "gsd_m", "chip_id", "ground_m")
    boxes = ("x0_px", "y0_px", "x1_px", "y1_px", "west", "south", "east", "north")
    spots = _SPOT if any(match.spot for match in matches) else ()
    return (*numbers, "merged", *boxes, *spots, "footprint_wkt")


def _wkt(chip: Chip) -> str:
    import shapely

    outline = geometry(chip)
    return shapely.to_wkt(shapely.geometry.shape(outline), rounding_precision=9) if outline else ""


def _parquet(result: SearchResult, query: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = _table(result.matches)
    about = {b"geoglot": json.dumps(summary(result, query), ensure_ascii=False).encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **about}), sink)
    return bytes(sink.getvalue())


def _table(matches: Sequence[Match]) -> pa.Table:
    """GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/): WKB footprints in WGS 84, the default CRS."""
    import pyarrow as pa

    kinds = sorted({geom["type"] for m in matches if (geom := geometry(m.chip))})
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": kinds, "orientation": "counterclockwise"}},
    }
    schema = _schema(pa, matches).with_metadata({"geo": json.dumps(geo)})
    return pa.Table.from_pylist(list(_rows(matches)), schema=schema)


def _rows(matches: Iterable[Match]) -> Iterable[dict[str, Any]]:
    import shapely

    for match in matches:
        outline = geometry(match.chip)
        shape = shapely.geometry.shape(outline) if outline else None
        yield {**flat(match), "acquired": match.scene.acquired, "geometry": shapely.to_wkb(shape) if shape else None}


def _schema(pa: Any, matches: Sequence[Match]) -> Any:
    words, whole = ["scene", "uri", "sensor", "chip_id"], ["rank", "merged", "x0_px", "y0_px", "x1_px", "y1_px"]
    whole += [f"spot_{name}" for name in whole[2:]]
    kinds = {name: pa.string() for name in words} | {name: pa.int64() for name in whole}
    kinds |= {"acquired": pa.timestamp("us", tz="UTC"), "geometry": pa.binary()}
    names = [*_columns(matches)[:-1], "geometry"]
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in names])
