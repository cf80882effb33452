"""Vector files that other programs open."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.errors import MissingExtraError, StorageError, UnknownNameError
from geoglot.imagery.vectors import Feature, bbox_of, to_geojson, write_vectors

SQUARE = ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0))  # clockwise on purpose
EAST = ((179.0, 0.0), (180.0, 0.0), (180.0, 1.0), (179.0, 1.0), (179.0, 0.0))
WEST = ((-180.0, 0.0), (-179.5, 0.0), (-179.5, 1.0), (-180.0, 1.0), (-180.0, 0.0))
FEATURES = [
    Feature((SQUARE,), {"score": 0.5, "name": "gré 港", "rank": 1, "when": datetime(2020, 1, 1, tzinfo=UTC)}),
    Feature((EAST, WEST), {"score": float("nan"), "name": "x", "rank": 2, "when": None}),
    Feature((), {"score": None, "name": None, "rank": 3, "when": None}),
]


def test_geojson_follows_rfc_7946() -> None:
    got = to_geojson(FEATURES)
    square, both, nowhere = got["features"]
    assert shapely.LinearRing(square["geometry"]["coordinates"][0]).is_ccw
    assert square["bbox"] == [0, 0, 1, 1]
    assert square["properties"]["when"] == "2020-01-01T00:00:00Z"
    assert both["geometry"]["type"] == "MultiPolygon"
    assert both["bbox"] == [179, 0, -179.5, 1]
    assert both["properties"]["score"] is None
    assert nowhere["geometry"] is None
    assert "bbox" not in nowhere
    json.dumps(got, allow_nan=False)
    assert to_geojson([]) == {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize("format", ["geojson", "parquet", "gpkg"])
@pytest.mark.parametrize("features", [FEATURES, []], ids=["three", "none"])
def test_geopandas_opens_it(tmp_path: Path, format: str, features: list[Feature]) -> None:
    geopandas = pytest.importorskip("geopandas")
    path = tmp_path / f"out é.{format}"
    path.write_bytes(b"something that was here before")
    write_vectors(features, path, format)
    table = geopandas.read_parquet(path) if format == "parquet" else geopandas.read_file(path)
    assert len(table) == len(features)
    assert table.crs.to_epsg() == 4326 or table.crs.to_authority() == ("OGC", "CRS84")
    if features:
        assert list(table["name"][:2]) == ["gré 港", "x"]
        assert list(table["rank"]) == [1, 2, 3]
        assert table["score"][0] == 0.5
        assert table["score"].isna().tolist() == [False, True, True]
        assert table.geometry[0].equals(shapely.Polygon(SQUARE))
        assert table.geometry[1].area == pytest.approx(1.5)
        assert table.geometry[2] is None


def test_geoparquet_metadata(tmp_path: Path) -> None:
    write_vectors(FEATURES, tmp_path / "a.parquet", "parquet")
    geo = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"][geo["primary_column"]]["encoding"] == "WKB"
    assert geo["columns"]["geometry"]["bbox"] == [0, 0, -179.5, 1], "from 0 east over the antimeridian"


def test_unknown_format_missing_extra_and_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="geojsn") as caught:
        write_vectors(FEATURES, tmp_path / "a", "geojsn")
    assert "'geojson'" in caught.value.hint
    for format in ("geojson", "parquet"):
        with pytest.raises(StorageError):
            write_vectors(FEATURES, tmp_path / "missing" / "a", format)
    monkeypatch.setitem(sys.modules, "pyogrio.raw", None)
    with pytest.raises(MissingExtraError) as missing:
        write_vectors(FEATURES, tmp_path / "a.gpkg", "gpkg")
    assert "geoglot[geo]" in missing.value.hint


@given(st.lists(st.tuples(st.floats(-180, 179), st.floats(0, 1)), min_size=1, max_size=6))
@settings(deadline=None)
def test_bbox_holds_every_ring_and_is_the_narrowest(spans: list[tuple[float, float]]) -> None:
    rings = [((w, 0.0), (w + d, 0.0), (w + d, 1.0), (w, 1.0), (w, 0.0)) for w, d in spans]
    box = bbox_of(rings)
    assert box is not None
    for ring in rings:
        for lon, lat in ring:
            assert any(p.west <= lon <= p.east and p.south <= lat <= p.north for p in box.parts())
    width = sum(p.east - p.west for p in box.parts())
    assert width <= max(r[1][0] for r in rings) - min(r[0][0] for r in rings) + 1e-9


def test_light_imports() -> None:
    code = (
        "import sys, geoglot.imagery.vectors as v, geoglot.imagery.grid; v.to_geojson([]);"
        "print([m for m in ('rasterio', 'shapely', 'pyproj', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
