"""The main job on real imagery with the bundled model: index scenes of four sensors, ask, look at the answers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from geoglot import Archive, Bbox, Filter, TimeRange, ingest, load_encoder
from geoglot.archive.ingest_report import IngestReport
from geoglot.models.zoo.registry import bundled_models

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.skipif(not bundled_models(), reason="no bundled model in this checkout"),
]

Indexed = tuple[Archive, IngestReport]


@pytest.fixture(scope="module")
def indexed(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    folder, scenes = tmp_path_factory.mktemp("real") / "archive", real_data / "scenes"
    specs = [
        *sorted((scenes / "oam").glob("kampala_*.tif"))[:4],
        *sorted((scenes / "naip").glob("*.tif"))[:2],
        *sorted((scenes / "landsat").glob("*.tif"))[:2],
        *sorted((scenes / "sentinel2").glob("*.tif"))[:6],
    ]
    encoder = load_encoder()
    report = ingest(folder, specs, encoder)
    return Archive.open(folder, encoder), report


def _intersects(a: Bbox, west: float, south: float, east: float, north: float) -> bool:
    return a.west <= east and west <= a.east and a.south <= north and south <= a.north


def test_every_scene_is_indexed(indexed: Indexed) -> None:
    archive, report = indexed
    assert report.failed == ()
    assert report.seen == len(report.added) == len(list(archive.scenes())) == 14
    assert report.chips > 14
    assert archive.info().unplaced == 0
    assert archive.check() == []


def test_every_hit_of_a_box_lies_in_it(indexed: Indexed) -> None:
    archive, _ = indexed
    everything = archive.search("houses", limit=10_000, merge=False)
    box = next(m.scene.bbox_lonlat for m in everything.matches if "kampala" in m.scene.name)
    assert box
    result = archive.search("houses", Filter(bbox=box), limit=10_000, merge=False)
    expected = {
        m.chip.chip_id
        for m in everything.matches
        if m.chip.bbox_lonlat and _intersects(m.chip.bbox_lonlat, *box.lonlat)
    }
    assert {m.chip.chip_id for m in result.matches} == expected
    assert 0 < result.total < everything.total
    assert all("kampala" in m.scene.name for m in result.matches)


def test_sensor_and_date_filters_hold(indexed: Indexed) -> None:
    archive, _ = indexed
    result = archive.search("a field", Filter(sensors=("sentinel-2",)), limit=1000)
    assert result.matches
    assert {m.scene.sensor for m in result.matches} == {"sentinel-2"}
    last = datetime(2009, 12, 31, tzinfo=UTC)
    older = archive.search("a river", Filter(time=TimeRange.parse(until="2009")), limit=1000)
    assert older.matches
    assert all(m.scene.acquired and m.scene.acquired <= last for m in older.matches)
    assert not any("2012" in m.scene.name for m in older.matches)


def test_a_forest_is_not_a_town(indexed: Indexed) -> None:
    """Drone pictures of Kampala's houses against the rain forest at the Ucayali."""
    archive, _ = indexed

    def best(query: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for match in archive.search(query, limit=10_000, merge=False).matches:
            place = "town" if "kampala" in match.scene.name else "forest" if "landsat" in match.scene.uri else "other"
            found[place] = max(found.get(place, -1.0), match.score)
        return found

    for town, forest in (
        ("dense residential area", "forest"),
        ("zona residencial densa", "bosque"),
        ("住宅区", "森林"),
    ):
        houses, trees = best(town), best(forest)
        assert houses["town"] - houses["forest"] > trees["town"] - trees["forest"]


def test_a_second_run_reads_nothing(indexed: Indexed) -> None:
    archive, first = indexed
    encoder = archive.encoder
    assert encoder
    report = ingest(archive.path, list(first.added), encoder)
    assert sorted(report.unchanged) == sorted(first.added)
    assert report.chips == 0
