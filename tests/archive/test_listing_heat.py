"""Chips page by page, heat maps, and vectors as texts, against slow twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_archives import DIM, HashEncoder, build, lets_through, scene, unit

from geoglot.archive.archive import Archive
from geoglot.archive.filters import Filter
from geoglot.archive.heat import EDGE_M, Frame, northing, paint
from geoglot.archive.query import Term, pack_vector, query_vector, unpack_vector
from geoglot.archive.snapshot import Snapshot, load_snapshot
from geoglot.archive.snapshot_writer import finish
from geoglot.archive.store import Store
from geoglot.errors import QueryError, UsageError
from geoglot.types import Bbox

SCENES = [scene(number) for number in range(6)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return Archive.open(build(tmp_path_factory.mktemp("heat") / "a", SCENES), HashEncoder())


def all_pages(archive: Archive, wanted: Filter, limit: int) -> list[str]:
    found: list[str] = []
    while True:
        page = archive.list_chips(wanted, limit=limit, after=found[-1] if found else "")
        found += [chip.chip_id for chip, _ in page.chips]
        if not page.more:
            assert page.total == len(found)
            return found


@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize(
    "wanted", [Filter(), Filter(bbox=Bbox(-180, -90, 0, 90)), Filter(bbox=Bbox(170, -90, -100, 90))]
)
def test_pages_are_what_a_loop_over_all_chips_finds(archive: Archive, wanted: Filter, limit: int) -> None:
    places = [(s.info.scene_id, c.window, c) for s in SCENES for c in s.chips if lets_through(wanted, s.info, c)]
    assert all_pages(archive, wanted, limit) == [chip.chip_id for _, _, chip in sorted(places, key=lambda p: p[:2])]


def test_a_page_goes_on_behind_a_chip_that_is_gone(archive: Archive) -> None:
    chips = all_pages(archive, Filter(), 1000)
    scene_id, x0, y0, x1, y1 = chips[3].split("-")
    between = f"{scene_id}-{x0}-{y0}-{x1}-{int(y1) + 1}"
    assert archive.list_chips(limit=1, after=between).chips[0][0].chip_id == chips[4]
    assert archive.list_chips(limit=1, after="f" * 20 + "-0-0-1-1").chips == ()
    with pytest.raises(UsageError, match="not a chip_id"):
        archive.list_chips(after="nonsense")


def test_only_listed_chips_are_found(archive: Archive) -> None:
    chips = all_pages(archive, Filter(), 1000)
    wanted = Filter(chips=(chips[5], chips[2], "0-0-0-1-1", "nonsense"))
    assert all_pages(archive, wanted, 1) == [chips[2], chips[5]]
    assert {m.chip.chip_id for m in archive.search("sea", wanted, merge=False).matches} == {chips[2], chips[5]}
    assert archive.list_chips(Filter(chips=())).total == 0


def test_scenes_page_by_page(archive: Archive) -> None:
    every = [record.info for record in archive.scenes()]
    found = [*archive.list_scenes(4), *archive.list_scenes(4, archive.list_scenes(4)[-1].scene_id)]
    assert found == every
    assert archive.scene(every[2].scene_id) == every[2]
    assert archive.scene("nothing") is None


def test_a_vector_survives_being_a_text(archive: Archive) -> None:
    vector = unit(np.random.default_rng(3).normal(size=DIM))
    packed = pack_vector(vector)
    assert np.abs(unpack_vector(packed, DIM) - vector).max() < 1e-3
    term = Term(1.0, "vector", packed)
    assert np.abs(query_vector([term], None, archive._snapshot) - vector).max() < 1e-3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%%%",
        "é",
        "AAAA",
        pack_vector(np.zeros(DIM, np.float32)),
        pack_vector(np.full(DIM, np.nan, np.float32)),
        pack_vector(unit(np.ones(DIM + 1))),
    ],
)
def test_what_is_no_vector_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        unpack_vector(text, DIM)


def slow_paint(frame: Frame, boxes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Box by box, pixel by pixel."""
    total, weight = np.zeros((frame.height, frame.width)), np.zeros((frame.height, frame.width))
    wide, high = (frame.right - frame.left) / frame.width, (frame.top - frame.bottom) / frame.height
    for (west, south, east, north), value in zip(boxes.T, values, strict=True):
        for w, e in [(west, 180.0), (-180.0, east)] if west > east else [(west, east)]:
            x0, x1 = (round_up((np.radians(v) * 6_378_137.0 - frame.left) / wide) for v in (w, e))
            y0, y1 = (round_up((frame.top - float(northing(np.array([v]))[0])) / high) for v in (north, south))
            x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
            for y in range(max(y0, 0), min(y1, frame.height)):
                for x in range(max(x0, 0), min(x1, frame.width)):
                    total[y, x] += value / ((x1 - x0) * (y1 - y0))
                    weight[y, x] += 1 / ((x1 - x0) * (y1 - y0))
    with np.errstate(invalid="ignore"):
        return np.asarray(total / weight)


def round_up(value: float) -> int:
    return int(np.floor(value + 0.5))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_painting_is_what_a_loop_over_pixels_paints(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    west, south = rng.uniform(-180, 180, count), rng.uniform(-89, 85, count)
    east = (west + rng.uniform(0.01, 60, count) + 180) % 360 - 180
    boxes = np.stack([west, south, east, np.minimum(south + rng.uniform(0.01, 40, count), 90)])
    values = rng.normal(size=count)
    frame = Frame(-EDGE_M, -EDGE_M, EDGE_M, EDGE_M, int(rng.integers(1, 24)), int(rng.integers(1, 24)))
    np.testing.assert_allclose(paint(frame, boxes, values), slow_paint(frame, boxes, values), atol=1e-4)


def test_a_heat_map_is_hot_where_the_best_chip_lies(archive: Archive) -> None:
    best = archive.search("sea", Filter(bbox=Bbox(-180, -85, 180, 85)), merge=False).matches[0]
    box = best.chip.bbox_lonlat
    assert box is not None
    heat = archive.heat("sea", Frame.around(Bbox(box.west - 0.5, box.south - 0.5, box.east + 0.5, box.north + 0.5), 64))
    middle = heat[heat.shape[0] // 2 - 2 : heat.shape[0] // 2 + 2, heat.shape[1] // 2 - 2 : heat.shape[1] // 2 + 2]
    assert np.nanmax(middle) > 0
    assert np.isnan(archive.heat("sea", Frame.around(Bbox(0, 84.5, 0.1, 84.6), 8))).all()


@pytest.mark.parametrize(
    "numbers", [(0, 0, 0, 1, 4, 4), (0, 0, 1, float("nan"), 4, 4), (0, 0, 1, 1, 0, 4), (0, 0, 1, 1, 5000, 5000)]
)
def test_impossible_frames_are_refused(numbers: tuple[float, float, float, float, int, int]) -> None:
    with pytest.raises(UsageError):
        Frame(*numbers)


def test_the_newest_state_is_another_object_and_a_working_writer_is_waited_for(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [scene(0)])
    archive = Archive.open(folder, HashEncoder())
    assert archive.newest() is archive
    with Store.open(folder, write=True) as store:
        more = scene(1)
        store.replace_scene(more.info, more.chips, more.vectors)
        assert archive.newest() is archive
        finish(store)
        newer = archive.newest()
    assert newer is not archive
    assert newer.state != archive.state
    assert (archive.info().scenes, newer.info().scenes) == (1, 2)


@pytest.mark.parametrize("ended", [True, False])
def test_a_writer_that_comes_while_one_looks_does_not_make_the_reader_read_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    folder = build(tmp_path / "a", [scene(0)])
    archive = Archive.open(folder, HashEncoder())
    with Store.open(folder, write=True) as store:
        store.replace_scene(scene(1).info, scene(1).chips, scene(1).vectors)
        finish(store)

    def looked(path: Path, key: str) -> Snapshot | None:
        """The snapshot as it was; by the time it is there, the next writer has begun, or has ended."""
        found = load_snapshot(path, key)
        with Store.open(folder, write=True) as store:
            store.replace_scene(scene(2).info, scene(2).chips, scene(2).vectors)
            if ended:
                finish(store)
        return None if ended else found  # `finish` deletes older ones, perhaps under one's eyes

    monkeypatch.setattr("geoglot.archive.archive.load_snapshot", looked)
    monkeypatch.setattr("geoglot.archive.snapshot_writer.freeze_newest", lambda folder: pytest.fail("read it all"))
    newer = archive.newest()
    assert newer.info().scenes == (1 if ended else 2)
    monkeypatch.setattr("geoglot.archive.archive.load_snapshot", load_snapshot)
    if ended:
        assert newer is archive
        assert archive.newest().info().scenes == 3
