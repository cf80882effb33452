"""The store: whole scenes or none, whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_archives import DIM, Written, build, card, scene

from geoglot.archive.archive import Archive, open_snapshot
from geoglot.archive.manifest import MANIFEST_FILE, Manifest
from geoglot.archive.snapshot import newest_version
from geoglot.archive.snapshot_writer import finish, freeze
from geoglot.archive.store import Store, new_token
from geoglot.errors import (
    ArchiveBusyError,
    ArchiveDamagedError,
    ArchiveError,
    ArchiveNotFoundError,
    ArchiveVersionError,
    StorageError,
    UsageError,
)
from geoglot.types import Window

OLD, NEW = scene(1, seed=0), scene(1, seed=1, fingerprint="2")
OTHER = scene(2)


def visible(folder: Path) -> dict[str, tuple[str, int]]:
    """Scene name -> (fingerprint, chips), as a reader sees it in the tables."""
    with Store.open(folder) as store:
        snapshot = freeze(store)
    records = [snapshot.record(i) for i in range(snapshot.scene_count)]
    counts = np.diff(snapshot.arrays.scene_start).tolist()
    assert [record.chips for record in records] == counts
    return {r.info.name: (r.info.fingerprint, count) for r, count in zip(records, counts, strict=True)}


def seen(*written: Written) -> dict[str, tuple[str, int]]:
    return {w.info.name: (w.info.fingerprint, len(w.chips)) for w in written}


def write(store: Store, written: Written) -> None:
    store.replace_scene(written.info, written.chips, written.vectors)


@pytest.mark.parametrize("before", [[], [OLD, OTHER]])
def test_killed_between_chips_and_row(tmp_path: Path, before: list[Written]) -> None:
    folder = build(tmp_path / "a", before)
    with Store.open(folder, write=True) as store:
        store.add_chips(NEW.info, NEW.chips, NEW.vectors, new_token())  # and no show_scene: killed here
        assert visible(folder) == seen(*before)
    with Store.open(folder, write=True) as store:
        assert (NEW.info.scene_id in store.scenes()) == bool(before)
        write(store, NEW)
        assert visible(folder) == seen(*before, NEW)  # the later of one name wins in the dict
        finish(store)
        assert store.count_rows() == sum(count for _, count in visible(folder).values())
    assert visible(folder) == seen(*before, NEW)


def test_killed_after_the_row(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [OLD, OTHER])
    with Store.open(folder, write=True) as store:
        write(store, NEW)  # no finish
    assert visible(folder) == seen(NEW, OTHER)
    assert len(open_snapshot(folder)) == len(NEW.chips) + len(OTHER.chips)


def test_killed_between_remove_and_finish(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [OLD, OTHER])
    with Store.open(folder, write=True) as store:
        assert store.remove_scenes([OLD.info.scene_id, "unknown"]) == 1
    assert visible(folder) == seen(OTHER)
    with Store.open(folder, write=True) as store:
        assert store.count_rows() == len(OLD.chips) + len(OTHER.chips)
        finish(store)
        assert store.count_rows() == len(OTHER.chips)


@pytest.mark.parametrize("step", ["_delete_leftovers", "_compact", "write_snapshot"])
def test_killed_in_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    folder = build(tmp_path / "a", [OLD, OTHER])
    with Store.open(folder, write=True) as store, monkeypatch.context() as patch:
        write(store, NEW)

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        if step == "write_snapshot":
            patch.setattr("geoglot.archive.snapshot_writer._move", killed)
        else:
            patch.setattr(Store, step, killed)
        with pytest.raises(KeyboardInterrupt):
            finish(store)
    assert visible(folder) == seen(NEW, OTHER)
    assert len(open_snapshot(folder)) == len(NEW.chips) + len(OTHER.chips)


def test_a_reader_during_a_writing_sees_whole_scenes(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [OLD])
    with Store.open(folder) as reader, Store.open(folder, write=True) as writer:
        write(writer, NEW)
        finish(writer)
        assert len(freeze(reader)) == len(OLD.chips)  # the state it was opened on
        write(writer, OTHER)
        assert len(open_snapshot(folder)) == len(NEW.chips) + len(OTHER.chips)
        assert open_snapshot(folder).folder is None  # not kept while a writer is at work
    assert open_snapshot(folder).folder is not None


def test_scenes_without_chips_are_remembered(tmp_path: Path) -> None:
    empty = scene(7, chips=0)
    folder = build(tmp_path / "a", [empty])
    assert visible(folder) == seen(empty)
    assert len(open_snapshot(folder)) == 0
    with Store.open(folder) as store:
        record = store.scenes()[empty.info.scene_id]
        assert (record.info, record.chips) == (empty.info, 0)


def test_an_empty_archive(tmp_path: Path) -> None:
    snapshot = open_snapshot(build(tmp_path / "a", []))
    assert (len(snapshot), snapshot.scene_count) == (0, 0)
    assert snapshot.folder is not None


def test_finishing_twice_changes_nothing(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [OLD])
    before = open_snapshot(folder)
    with Store.open(folder, write=True) as store:
        finish(store)
    assert open_snapshot(folder).key == before.key


def test_versions_are_read_without_the_database(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [OLD, OTHER])
    with Store.open(folder) as store:
        assert (newest_version(folder, "scenes"), newest_version(folder, "chips")) == store.versions()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [OLD])
    with Store.open(folder, write=True):
        with pytest.raises(ArchiveBusyError, match=str(os.getpid())):
            Store.open(folder, write=True)
        assert len(Store.open(folder).scenes()) == 1
    Store.open(folder, write=True).close()


CHILD = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {here!r})
    from small_archives import scene
    from geoglot.archive.store import Store
    store = Store.open({folder!r}, write=True)
    {body}
"""


def child(folder: Path, body: str) -> list[str]:
    here = str(Path(__file__).parent)
    return [sys.executable, "-c", textwrap.dedent(CHILD).format(here=here, folder=str(folder), body=body)]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_kill_nine_releases_the_lock_and_keeps_whole_scenes(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [OLD])
    body = textwrap.dedent("""
        for i in range(100, 10_000):
            w = scene(i)
            store.replace_scene(w.info, w.chips, w.vectors)
            print(i, flush=True)
    """)
    with subprocess.Popen(child(folder, body), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        with pytest.raises(ArchiveBusyError, match=str(process.pid)):
            Store.open(folder, write=True)
        process.send_signal(signal.SIGKILL)
    names = visible(folder)
    assert len(names) >= 4
    with Store.open(folder, write=True) as store:
        finish(store)
        assert store.count_rows() == sum(count for _, count in visible(folder).values())
    assert visible(folder) == names


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits")
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [OLD])
    body = textwrap.dedent("""
        import resource, signal
        from geoglot.errors import StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        for limit in (0, 200):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
            w = scene(5)
            try:
                store.replace_scene(w.info, w.chips, w.vectors)
            except StorageError as error:
                print("refused", error.hint)
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        w = scene(6)
        store.replace_scene(w.info, w.chips, w.vectors)
    """)
    done = subprocess.run(child(folder, body), capture_output=True, text=True, timeout=500, check=True)
    assert done.stdout.count("refused Free some space") == 2
    assert visible(folder) == seen(OLD, scene(6))


def test_bad_scenes_are_refused(tmp_path: Path) -> None:
    info, chips, vectors = OLD.info, OLD.chips, OLD.vectors
    nan, long = vectors.copy(), vectors * 2
    nan[1, 2] = np.nan
    moved = replace(chips[0], window=Window(0, 0, 1, 1))
    bad: list[tuple[Any, Any]] = [
        (chips, nan),
        (chips, long),
        (chips, vectors[:-1]),
        (chips, vectors[:, :4]),
        ([moved, *chips[1:]], vectors),
        ([chips[1], *chips[1:]], vectors),
        (OTHER.chips, OTHER.vectors),
        ([], vectors),
    ]
    folder = build(tmp_path / "a", [])
    with Store.open(folder, write=True) as store:
        for some, of_them in bad:
            with pytest.raises(UsageError):
                store.replace_scene(info, some, of_them)
        assert store.count_rows() == 0
    with pytest.raises(UsageError, match="not open for writing"):
        write(Store.open(folder), OLD)


def test_creating_where_something_is(tmp_path: Path) -> None:
    manifest = Manifest.of(card(), {})
    folder = build(tmp_path / "a", [])
    with pytest.raises(ArchiveError, match="already"):
        Store.create(folder, manifest)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(UsageError, match="not empty"):
        Store.create(tmp_path / "photos", manifest)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        Store.create(tmp_path / "file", manifest)


def test_killed_while_creating(tmp_path: Path) -> None:
    folder = build(tmp_path / "räume 東", [OLD], finish=False)
    (folder / MANIFEST_FILE).unlink()
    with Store.create(folder, Manifest.of(card(), {})) as store:
        assert not store.scenes()
        assert store.count_rows() == 0


def test_opening_what_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveNotFoundError):
        Store.open(tmp_path)
    folder = build(tmp_path / "a", [OLD])
    path = folder / MANIFEST_FILE
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "format_version": 99, "surprise": 1, "geoglot": "9.9"}))
    with pytest.raises(ArchiveVersionError, match="99") as caught:
        Store.open(folder)
    assert "9.9" in caught.value.hint
    for text in ("", "{", "[]", "{}", json.dumps({**raw, "dim": "x"}), json.dumps({**raw, "created": "?"})):
        path.write_text(text)
        with pytest.raises(ArchiveDamagedError):
            Store.open(folder)
    path.write_text(json.dumps(raw))
    assert raw["dim"] == DIM
    (folder / "lance" / "chips.lance").rename(folder / "gone")
    with pytest.raises(ArchiveDamagedError):
        Store.open(folder)


@pytest.mark.parametrize("harm", ["delete", "cut"])
def test_missing_data_is_told_not_thrown(tmp_path: Path, harm: str) -> None:
    folder = build(tmp_path / "a", [OLD, OTHER])
    for path in (folder / "lance" / "chips.lance" / "data").iterdir():
        content = path.read_bytes()
        path.unlink()
        if harm == "cut":
            path.write_bytes(content[: len(content) // 2])
    (problem,) = Archive.open(folder).check()
    assert "cannot be read" in problem
    assert ".rs" not in problem
    with Store.open(folder, write=True) as store:
        store.remove_scenes([OLD.info.scene_id])
        with pytest.raises(ArchiveDamagedError, match="cannot be read") as caught:
            finish(store)
    assert "new archive" in caught.value.hint
    shutil.rmtree(folder / "snapshot")
    with pytest.raises(ArchiveDamagedError, match="cannot be read"):
        Archive.open(folder)
