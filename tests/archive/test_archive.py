"""The archive as its readers see it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from small_archives import HashEncoder, build, card, scene, slow_search

from geoglot.archive import ranking
from geoglot.archive.archive import Archive, folder_bytes
from geoglot.archive.filters import Filter
from geoglot.archive.query import Term
from geoglot.archive.snapshot_writer import finish
from geoglot.archive.store import Store
from geoglot.errors import ArchiveMismatchError, ArchiveNotFoundError, QueryError, UsageError
from geoglot.types import Bbox, TimeRange

SCENES = [scene(number, chips=number % 15) for number in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(tmp_path / "архив 1", SCENES)


def test_a_query_on_a_current_snapshot_starts_no_heavy_package(folder: Path) -> None:
    code = f"""
        import sys
        import geoglot.archive.archive as archive_module
        from geoglot.archive.filters import Filter
        from geoglot.types import Bbox, TimeRange
        import numpy as np
        class Encoder:
            def __init__(self, card): self.card = card
            def encode_texts(self, texts): return np.eye(8, dtype=np.float32)[: len(texts)]
        from geoglot.models.card import Card
        card = Card("hashes", "1", 8, 16, ("en",), (0.1, 30.0), (100.0,), ("a", "b"), files={{"image": ("none", "1")}})
        archive = archive_module.Archive.open({str(folder)!r}, Encoder(card))
        wanted = Filter(bbox=Bbox(-180, -90, 180, 90), time=TimeRange(), scenes=("scene *",), sensors=("naip",))
        print(len(archive.search("boats", wanted).matches), len(archive.search("boats").matches))
        heavy = ("lancedb", "lance", "pyarrow", "rasterio", "torch", "shapely", "pandas", "onnxruntime", "pyproj")
        print(sorted({{name.split(".")[0] for name in sys.modules}} & set(heavy)))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300, check=True
    )
    counts, heavy = run.stdout.splitlines()
    assert all(int(count) for count in counts.split())
    assert heavy == "[]"


def test_create_then_open(tmp_path: Path) -> None:
    Archive.create(tmp_path / "a", card(), {"ground_m": (100.0,)})
    archive = Archive.open(tmp_path / "a", HashEncoder())
    assert archive.manifest.grid == {"ground_m": [100.0]}
    result = archive.search("boats")
    assert (result.matches, result.nothing_matches, result.total, result.path) == ((), True, 0, "exact")
    info = archive.info()
    assert (info.scenes, info.chips, info.acquired, info.bbox_lonlat, info.gsd_m) == (0, 0, None, None, None)
    with pytest.raises(ArchiveNotFoundError):
        Archive.open(tmp_path / "b")


def test_another_model_is_refused_with_advice(folder: Path) -> None:
    with pytest.raises(ArchiveMismatchError, match="hashes") as caught:
        Archive.open(folder, HashEncoder(card("2")))
    assert "new archive" in caught.value.hint
    assert "hashes" not in caught.value.hint  # the same name: to use "hashes" would be no advice
    other = replace(card("2"), name="other")
    with pytest.raises(ArchiveMismatchError) as caught:
        Archive.open(folder, HashEncoder(other))
    assert "with 'other', or use model 'hashes'" in caught.value.hint
    manifest = Archive.open(folder).manifest
    manifest.check(card(), {"ground_m": (100.0,)})
    with pytest.raises(ArchiveMismatchError, match=re.escape("ground_m: [100.0] there, [50] given")):
        manifest.check(card(), {"ground_m": [50]})


def test_more_like_this_needs_no_model(folder: Path) -> None:
    chip = SCENES[8].chips[2]
    plain = Archive.open(folder)
    matches = plain.search([Term(1.0, "chip", chip.chip_id)], merge=False).matches
    assert matches[0].score == pytest.approx(1.0)
    assert chip.chip_id in {match.chip.chip_id for match in matches if match.score > 0.9999}
    assert all(0 <= match.confidence <= 1 for match in matches)
    with pytest.raises(UsageError, match="without a model"):
        plain.search("boats")
    with pytest.raises(UsageError, match="without a model"):
        plain.prepare()


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (-1, 0), (1, -1)])
def test_pages_out_of_range(folder: Path, limit: int, offset: int) -> None:
    with pytest.raises(UsageError, match="limit"):
        Archive.open(folder, HashEncoder()).search("boats", limit=limit, offset=offset)


def test_info_counts(folder: Path) -> None:
    info = Archive.open(folder).info()
    dates = [w.info.acquired for w in SCENES if w.info.acquired]
    boxes = [chip.bbox_lonlat for w in SCENES for chip in w.chips if chip.bbox_lonlat]
    assert (info.scenes, info.chips) == (len(SCENES), sum(len(w.chips) for w in SCENES))
    assert info.acquired == TimeRange(min(dates), max(dates))
    sensors = [w.info.sensor for w in SCENES if w.info.sensor]
    assert info.sensors == {name: sensors.count(name) for name in sensors}
    assert (info.undated, info.unplaced) == (len(SCENES) - len(dates), sum(w.info.gsd_m is None for w in SCENES))
    assert info.bbox_lonlat is not None
    assert info.bbox_lonlat.south == min(box.south for box in boxes)
    assert info.snapshot == "on disk"
    assert info.size_bytes > 1000


def test_an_archive_answers_from_the_state_it_was_opened_on(folder: Path) -> None:
    archive = Archive.open(folder, HashEncoder())
    before = archive.search("boats", limit=1000)
    assert archive.newest() is archive
    new = scene(50)
    with Store.open(folder, write=True) as store:
        store.replace_scene(new.info, new.chips, new.vectors)
        finish(store)
    assert archive.search("boats", limit=1000).matches == before.matches
    assert archive.newest().search("boats").total == before.total + len(new.chips)


@pytest.mark.parametrize("harm", ["cut", "delete", "garbage", "all", "foreign"])
def test_a_damaged_snapshot_is_made_anew(folder: Path, harm: str) -> None:
    expected = Archive.open(folder, HashEncoder()).search("boats", limit=1000).matches
    (path,) = (folder / "snapshot").iterdir()
    if harm == "all":
        shutil.rmtree(path.parent)
    elif harm == "foreign":
        path.rename(path.with_name("0123456789abcdef"))
    else:
        vectors = path / "vectors.npy"
        content = vectors.read_bytes()
        vectors.unlink()
        if harm != "delete":
            vectors.write_bytes(content[:-4] if harm == "cut" else b"garbage")
    again = Archive.open(folder, HashEncoder())
    assert again.info().snapshot == "on disk"
    assert again.search("boats", limit=1000).matches == expected
    assert len(list((folder / "snapshot").iterdir())) == 1


def test_a_snapshot_that_cannot_be_kept_is_held_in_memory(folder: Path) -> None:
    expected = Archive.open(folder, HashEncoder()).search("boats", limit=1000).matches
    shutil.rmtree(folder / "snapshot")
    (folder / "snapshot").touch()  # a file in its place: cannot be written, also not by root
    archive = Archive.open(folder, HashEncoder())
    assert archive.info().snapshot == "in memory"
    assert archive.search("boats", limit=1000).matches == expected


def test_check_finds_what_is_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [problem for problem in Archive.open(folder).check() if "is gone" in problem]
    assert len(gone) == len(SCENES)  # these scenes' files never were
    monkeypatch.setattr("geoglot.archive.archive._is_gone", lambda _uri: False)
    assert Archive.open(folder).check() == []
    with Store.open(folder, write=True) as store:
        store.remove_scenes([SCENES[9].info.scene_id])
    (problem,) = Archive.open(folder).check()
    assert problem.startswith(f"{len(SCENES[9].chips)} chips are left")
    archive = Archive.open(folder)
    np.load(archive._snapshot.folder / "vectors.npy", mmap_mode="r+")[3] *= -1  # type: ignore[operator]
    assert any("snapshot differs" in problem for problem in archive.check())
    np.load(archive._snapshot.folder / "vectors.npy", mmap_mode="r+")[3] *= -1  # type: ignore[operator]
    assert not any("snapshot differs" in problem for problem in archive.check())
    np.load(archive._snapshot.folder / "scene_text.npy", mmap_mode="r+")[:] = 0  # type: ignore[operator]
    assert any("snapshot differs" in problem for problem in archive.check())
    with Store.open(folder, write=True) as store:
        store._chips.delete(f"scene_id = '{SCENES[8].info.scene_id}'")
        (problem,) = archive.check()
        assert "scene 8.tif" in problem
        assert "has 0" in problem


def test_threads_share_an_archive(folder: Path) -> None:
    archive = Archive.open(folder, HashEncoder())
    expected = {text: archive.search(text).matches for text in "abcd"}
    wrong: list[str] = []

    def ask(text: str) -> None:
        for _ in range(10):
            if archive.search(text).matches != expected[text]:
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(text,)) for text in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dense", [0.0, 2.0])
def test_both_ways_to_score_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, dense: float) -> None:
    monkeypatch.setattr(ranking, "DENSE", dense)
    monkeypatch.setattr(ranking, "GATHER_ROWS", 7)
    wanted = Filter(gsd_m=(0.0, 15.0))
    query = HashEncoder().encode_texts(["boats"])[0]
    found = Archive.open(folder, HashEncoder()).search("boats", wanted, limit=1000)
    expected = slow_search(SCENES, query, wanted, merge=True)
    assert [m.chip.chip_id for m in found.matches] == [a.chip_id for a in expected]


def test_the_approximate_path_says_so_and_finds_the_same_here(tmp_path: Path) -> None:
    scenes = [scene(number, chips=40) for number in range(40)]
    folder = build(tmp_path / "a", scenes, finish=False)
    with Store.open(folder, write=True) as store:
        finish(store, index_rows=100)
        assert store.has_index()
        finish(store, index_rows=100)
    archive = Archive.open(folder, HashEncoder())
    polygon = shapely.box(-100, -60, 120, 60)
    for wanted in (
        Filter(),
        Filter(bbox=Bbox(100, -80, 20, 80)),
        Filter(polygon=polygon),
        Filter(sensors=("naip",)),
        Filter(gsd_m=(5.0, 50.0), bbox=Bbox(-120, -80, 150, 80)),
    ):
        exact = archive.search("boats", wanted, limit=10)
        approximate = archive.search("boats", wanted, limit=10, exact_limit=50)
        assert (exact.path, approximate.path) == ("exact", "ann")
        assert approximate.total == exact.total
        assert approximate.considered <= exact.total
        assert approximate.matches == exact.matches  # so few chips that every part of the index is probed


def test_without_an_index_everything_is_compared(folder: Path) -> None:
    result = Archive.open(folder, HashEncoder()).search("boats", exact_limit=1)
    assert (result.path, result.considered) == ("exact", result.total)


def test_unknown_chip(folder: Path) -> None:
    with pytest.raises(QueryError, match="no chip"):
        Archive.open(folder).search("chip:0000-0-0-1-1")


def test_a_folders_size_is_that_of_its_files_also_while_some_go_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    for name, size in (("one", 10), ("inner/two", 200), ("gone", 3_000)):
        (tmp_path / name).write_bytes(bytes(size))
    assert folder_bytes(tmp_path) == sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) == 3_210
    listed = os.scandir

    def scandir(folder: Path) -> list[os.DirEntry[str]]:
        entries = list(listed(folder))
        (tmp_path / "gone").unlink(missing_ok=True)  # between the listing and the look
        return entries

    monkeypatch.setattr(os, "scandir", scandir)
    assert folder_bytes(tmp_path) == 210
    assert folder_bytes(tmp_path / "absent") == 0
