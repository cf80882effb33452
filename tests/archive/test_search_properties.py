"""Search against its slow twin, on random archives, filters and orders of ingest."""

from __future__ import annotations

import tempfile
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from small_archives import SENSORS, Answer, HashEncoder, Written, build, scene, slow_search

from geoglot.archive.answers import SearchResult
from geoglot.archive.archive import Archive
from geoglot.archive.filters import Filter
from geoglot.archive.snapshot import Arrays
from geoglot.archive.snapshot_writer import freeze
from geoglot.archive.store import Store
from geoglot.errors import UnknownNameError
from geoglot.types import Bbox, TimeRange

SCENES = [scene(number, chips=number % 15) for number in range(24)]
START = datetime(2019, 1, 1, tzinfo=UTC)
ALL = 10_000

lons, lats = st.integers(-180, 180).map(float), st.integers(-90, 90).map(float)


@st.composite
def boxes(draw: st.DrawFn) -> Bbox:
    south, north = sorted((draw(lats), draw(lats)))
    return Bbox(draw(lons), south, draw(lons), north)  # west > east as often as not


@st.composite
def polygons(draw: st.DrawFn) -> shapely.Geometry:
    points = draw(st.lists(st.tuples(lons, lats), min_size=3, max_size=6, unique=True))
    return shapely.MultiPoint(points).convex_hull


@st.composite
def times(draw: st.DrawFn) -> TimeRange:
    days = sorted(draw(st.tuples(st.integers(0, 1000), st.integers(0, 1000))))
    start, end = (START + timedelta(days=day) for day in days)
    return TimeRange(draw(st.sampled_from([start, None])), draw(st.sampled_from([end, None])))


filters = st.builds(
    Filter,
    bbox=st.none() | boxes(),
    polygon=st.none() | polygons(),
    time=st.none() | times(),
    gsd_m=st.none() | st.sampled_from([(0.0, 1.0), (10.0, 30.0), (0.5, 10.0)]),
    sensors=st.sampled_from([(), ("naip",), ("naip", "sentinel-2")]),
    scenes=st.sampled_from([(), ("scene 1*.tif",), ("*/scene ?.tif", SCENES[20].info.scene_id), ("no such *",)]),
)
queries = st.sampled_from(["boats", "a river", "ein Wald", "roofs"])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return Archive.open(build(tmp_path_factory.mktemp("world") / "a", SCENES), HashEncoder())


def answers(result: SearchResult) -> list[Answer]:
    return [Answer(match.chip.chip_id, match.score, match.merged) for match in result.matches]


def assert_same(found: list[Answer], expected: list[Answer]) -> None:
    assert [(a.chip_id, a.merged) for a in found] == [(a.chip_id, a.merged) for a in expected]
    assert [a.score for a in found] == pytest.approx([a.score for a in expected], abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(wanted=filters, text=queries, merge=st.booleans())
def test_search_is_its_slow_twin(archive: Archive, wanted: Filter, text: str, merge: bool) -> None:
    query = HashEncoder().encode_texts([text])[0]
    result = archive.search(text, wanted, limit=ALL, merge=merge)
    assert_same(answers(result), slow_search(SCENES, query, wanted, merge=merge))
    assert [match.rank for match in result.matches] == list(range(1, len(result.matches) + 1))


@settings(max_examples=30, deadline=None)
@given(wanted=filters, text=queries)
def test_filtered_search_is_search_then_filter(archive: Archive, wanted: Filter, text: str) -> None:
    everything = archive.search(text, limit=ALL, merge=False)
    filtered = archive.search(text, wanted, limit=ALL, merge=False)
    kept = {match.chip.chip_id for match in filtered.matches}
    assert answers(filtered) == [a for a in answers(everything) if a.chip_id in kept]
    assert filtered.total == filtered.considered == len(filtered.matches)


@settings(max_examples=30, deadline=None)
@given(wanted=filters, text=queries)
def test_merging_never_drops_the_best_hit(archive: Archive, wanted: Filter, text: str) -> None:
    plain = archive.search(text, wanted, limit=ALL, merge=False)
    merged = archive.search(text, wanted, limit=ALL)
    assert [m.chip.chip_id for m in plain.matches[:1]] == [m.chip.chip_id for m in merged.matches[:1]]
    assert sum(m.merged + 1 for m in merged.matches) == plain.total
    best = {m.scene.scene_id: m.chip.chip_id for m in reversed(plain.matches)}
    assert set(best.values()) <= {m.chip.chip_id for m in merged.matches}  # of every scene, too


@settings(max_examples=30, deadline=None)
@given(wanted=filters, text=queries, limit=st.integers(1, 7), merge=st.booleans())
def test_pages_continue_without_gaps_or_repeats(
    archive: Archive, wanted: Filter, text: str, limit: int, merge: bool
) -> None:
    whole = archive.search(text, wanted, limit=ALL, merge=merge).matches
    pages = [archive.search(text, wanted, limit=limit, offset=at, merge=merge) for at in range(0, 30, limit)]
    assert tuple(m for page in pages for m in page.matches) == whole[: len(pages) * limit]
    assert len({page.nothing_matches for page in pages}) == 1


@settings(max_examples=3, deadline=None)
@given(order=st.permutations(SCENES[:10]), again=st.sampled_from(SCENES[:10]), text=queries)
def test_order_of_ingest_does_not_matter(order: list[Written], again: Written, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "a", SCENES[:10])
        build(Path(folder) / "b", [*order, again])  # and one of them twice
        left, right = (Archive.open(Path(folder) / name, HashEncoder()) for name in "ab")
        for wanted in (Filter(), Filter(bbox=Bbox(100, -90, -20, 90))):
            a, b = (archive.search(text, wanted, limit=ALL) for archive in (left, right))
            assert a.matches == b.matches
            assert a.nothing_matches == b.nothing_matches


def test_the_snapshot_holds_what_the_tables_hold(archive: Archive) -> None:
    with Store.open(archive.path) as store:
        fresh = freeze(store)
    mapped = archive._snapshot
    assert mapped.folder is not None
    assert fresh.key == mapped.key
    for name in (field.name for field in fields(Arrays)):
        left, right = getattr(fresh.arrays, name), getattr(mapped.arrays, name)
        assert left.dtype == right.dtype
        assert np.array_equal(left, right, equal_nan=left.dtype.kind == "f"), name


def test_the_snapshot_gives_back_scenes_and_chips(archive: Archive) -> None:
    snapshot = archive._snapshot
    by_id = {written.info.scene_id: written for written in SCENES}
    assert [record.info for record in archive.scenes()] == [by_id[i].info for i in sorted(by_id)]
    chips = [chip for i in sorted(by_id) for chip in sorted(by_id[i].chips, key=lambda chip: chip.window)]
    assert [snapshot.chip(row) for row in range(len(snapshot))] == chips
    assert [snapshot.find_chip(chip.chip_id) for chip in chips] == list(range(len(chips)))
    for missing in ("", "x", "-1-2-3", f"{chips[0].scene_id}-0-0-1-1", "zz-0-0-20-20", f"{chips[0].scene_id}-a-0-1-1"):
        assert archive.chip(missing) is None


def test_a_box_over_the_antimeridian(tmp_path: Path) -> None:
    def at(number: int, west: float, east: float) -> Written:
        made = scene(number, chips=1)
        box = Bbox(west, 0, east, 1)
        return Written(replace(made.info, gsd_m=1.0), [replace(made.chips[0], bbox_lonlat=box)], made.vectors)

    placed = {
        "fiji": at(1, 178, -179),
        "alaska": at(2, -171, -169),
        "tonga": at(3, -176, -175),
        "japan": at(4, 140, 141),
    }
    archive = Archive.open(build(tmp_path / "a", list(placed.values())), HashEncoder())
    names = {written.info.scene_id: name for name, written in placed.items()}

    def found(*lonlat: float) -> set[str]:
        return {names[m.scene.scene_id] for m in archive.search("x", Filter(bbox=Bbox(*lonlat))).matches}

    assert found(175, -10, -174, 10) == {"fiji", "tonga"}
    assert found(175, -10, -170, 10) == {"fiji", "tonga", "alaska"}
    assert found(175, -10, 180, 10) == {"fiji"}
    assert found(-180, -10, -179.5, 10) == {"fiji"}
    assert found(-178, -10, 177, 10) == {"alaska", "tonga", "japan"}
    assert found(100, 2, -100, 10) == set()
    assert found(139, 1, -170, 1) == set(placed)


def test_scenes_without_date_or_place_are_counted(archive: Archive) -> None:
    undated = sum(written.info.acquired is None for written in SCENES)
    unplaced = sum(written.info.gsd_m is None for written in SCENES)
    assert undated
    assert unplaced
    plain = archive.search("x")
    assert (plain.undated, plain.unplaced) == (0, 0)
    wanted = Filter(time=TimeRange(), bbox=Bbox(-180, -90, 180, 90))
    result = archive.search("x", wanted)
    assert (result.undated, result.unplaced) == (undated, unplaced)


@pytest.mark.parametrize(
    ("wanted", "near"),
    [(Filter(sensors=("sentinel2",)), "sentinel-2"), (Filter(scenes=("scene 3.tiff",)), "scene 3.tif")],
)
def test_unknown_names_suggest_the_nearest(archive: Archive, wanted: Filter, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        archive.search("x", wanted)
    assert f"{near!r}" in caught.value.hint


def test_sensors_in_any_case(archive: Archive) -> None:
    upper, lower = (archive.search("x", Filter(sensors=(name,)), limit=ALL) for name in ("NAIP", "naip"))
    assert upper.matches == lower.matches
    assert lower.matches
    assert {match.scene.sensor for match in lower.matches} == {"naip"} < set(SENSORS)
