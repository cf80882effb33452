"""Ingest: what ends up in the archive, whatever happens on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from geoglot.archive import ingest_plan
from geoglot.archive import ingest_stages as stages_module
from geoglot.archive.ingest import ingest
from geoglot.archive.ingest_report import IngestReport, Progress
from geoglot.archive.staging import StagedScene
from geoglot.archive.store import Store
from geoglot.errors import (
    ArchiveBusyError,
    ArchiveMismatchError,
    SceneTooLargeError,
    SourceError,
    StorageError,
    UnreadableSceneError,
)
from geoglot.imagery.chips import read_chips
from geoglot.imagery.grid import ChipGrid
from geoglot.imagery.scene import Limits, open_scene
from geoglot.imagery.sources import find_sources
from geoglot.models.card import Card

DIM, SIDE = 8, 16
GRID = ChipGrid(ground_m=(320.0, 640.0), min_px=8, overlap=0.25)

Array = NDArray[Any]


class MeanColours:
    """A deterministic encoder: mean colours of the four quarters, projected and normalised; counts its batches."""

    def __init__(self, version: str = "1") -> None:
        files = {"image": ("none", version)}
        self.card = Card("mean-colours", version, DIM, SIDE, ("en",), (1.0, 30.0), (320.0, 640.0), files=files)
        self.batches: list[int] = []
        self._weights = np.random.default_rng(0).normal(size=(12, DIM))

    def encode_images(self, images: Array) -> Array:
        """[N, S, S, 3] -> [N, D]."""
        assert images.dtype == np.uint8
        assert images.shape[1:] == (SIDE, SIDE, 3)
        self.batches.append(len(images))
        quarters = images.reshape(len(images), 2, SIDE // 2, 2, SIDE // 2, 3).mean(axis=(2, 4)).reshape(-1, 12)
        vectors = (quarters / 255 + 0.01) @ self._weights
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """Not needed here."""
        raise NotImplementedError


def draw(path: Path, seed: int, *, side: int = 100, west: float = 500_000.0) -> Path:
    """A small georeferenced scene of smooth noise at 10 m."""
    coarse = np.random.default_rng(seed).integers(1, 255, (3, side // 10, side // 10), dtype=np.uint8)
    pixels = np.kron(coarse, np.ones((10, 10), np.uint8))
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32636"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", transform=from_origin(west, 100_000.0, 10, 10), **profile) as out:
        out.write(pixels)
    return path


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    folder = tmp_path / "scenes with ümlaut 東"
    for seed in range(4):
        draw(folder / f"s{seed}.tif", seed, side=100 + 40 * seed, west=500_000 + 5000 * seed)
    return folder


def contents(archive: Path) -> dict[str, Array]:
    """Chip id -> vector of everything visible, straight from the tables."""
    with Store.open(archive) as store:
        tokens = {record.token for record in store.scenes().values()}
        rows = store._chips.to_arrow().to_pylist()
        visible = [row for row in rows if row["token"] in tokens]
        found = {"-".join(str(row[k]) for k in ("scene_id", "x0", "y0", "x1", "y1")): row["vector"] for row in visible}
        assert len(found) == len(visible), "a chip is there twice"
        assert len(visible) == sum(record.chips for record in store.scenes().values())
    return {key: np.array(vector, np.float32) for key, vector in found.items()}


def obvious(folder: Path, grid: ChipGrid = GRID) -> dict[str, Array]:
    """The slow twin: one scene, one chip at a time, no threads, no batches."""
    encoder, found = MeanColours(), {}
    for source in find_sources(folder):
        with open_scene(source) as scene:
            for chip, image in read_chips(scene, grid, SIDE):
                found[chip.chip_id] = encoder.encode_images(image[None])[0]
    return found


def assert_same(left: dict[str, Array], right: dict[str, Array]) -> None:
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_allclose(left[key], right[key], atol=1e-6)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("geoglot-ingest")] == []


def test_ingest_equals_the_slow_twin(tmp_path: Path, scenes: Path) -> None:
    encoder = MeanColours()
    report = ingest(tmp_path / "a", scenes, encoder, GRID, batch=7)
    assert_same(contents(tmp_path / "a"), obvious(scenes))
    assert report.chips == len(obvious(scenes)) == sum(encoder.batches)
    assert set(encoder.batches[:-1]) == {7}, "batches span scenes"
    assert len(report.added) == report.seen == 4
    assert report.failed == report.replaced == report.removed == report.unchanged == ()
    assert set(report.seconds) == {"read", "encode", "write"}


def test_the_report_is_kept_as_json(tmp_path: Path, scenes: Path) -> None:
    report = ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    (path,) = (tmp_path / "a" / "runs").glob("*.json")
    assert json.loads(path.read_text("utf-8")) == json.loads(json.dumps(report.to_dict()))
    assert report.to_dict()["model"]["name"] == "mean-colours"
    ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    assert len(list((tmp_path / "a" / "runs").iterdir())) == 2


def test_a_second_run_does_nothing(tmp_path: Path, scenes: Path) -> None:
    ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    before, encoder = contents(tmp_path / "a"), MeanColours()
    report = ingest(tmp_path / "a", scenes, encoder)  # no grid: the archive's own
    assert len(report.unchanged) == report.seen == 4
    assert (report.added, report.replaced, report.removed, report.chips, encoder.batches) == ((), (), (), 0, [])
    assert_same(contents(tmp_path / "a"), before)


def test_changed_added_and_removed_scenes(tmp_path: Path, scenes: Path) -> None:
    ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    draw(scenes / "s1.tif", 77, side=180)
    (scenes / "s2.tif").unlink()
    draw(scenes / "new.tif", 5)
    rehearsal = ingest(tmp_path / "a", scenes, MeanColours(), GRID, dry_run=True)
    report = ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    for done in (rehearsal, report):
        assert done.added == (str(scenes / "new.tif"),)
        assert done.replaced == (str(scenes / "s1.tif"),)
        assert done.removed == (str(scenes / "s2.tif"),)
        assert done.unchanged == (str(scenes / "s0.tif"), str(scenes / "s3.tif"))
    assert (rehearsal.dry_run, rehearsal.chips, report.dry_run) == (True, 0, False)
    assert_same(contents(tmp_path / "a"), obvious(scenes))


def test_a_rehearsal_writes_nothing(tmp_path: Path, scenes: Path) -> None:
    report = ingest(tmp_path / "a", scenes, MeanColours(), GRID, dry_run=True)
    assert len(report.added) == 4
    assert not (tmp_path / "a").exists()


def test_scenes_outside_the_given_specs_are_left_alone(tmp_path: Path, scenes: Path) -> None:
    other = draw(tmp_path / "other" / "o.tif", 9)
    sub = draw(scenes / "sub" / "t.tif", 10)
    ingest(tmp_path / "a", [scenes, other], MeanColours(), GRID)
    other.unlink()
    sub.unlink()
    assert ingest(tmp_path / "a", str(scenes / "*.tif"), MeanColours()).removed == ()
    assert ingest(tmp_path / "a", scenes, MeanColours(), prune=False).removed == ()
    assert ingest(tmp_path / "a", scenes, MeanColours()).removed == (str(sub),)
    with Store.open(tmp_path / "a") as store:
        assert str(other) in {record.info.uri for record in store.scenes().values()}


def test_a_glob_drops_what_it_would_have_listed(tmp_path: Path, scenes: Path) -> None:
    pattern = str(scenes / "s?.tif")
    ingest(tmp_path / "a", pattern, MeanColours(), GRID)
    (scenes / "s0.tif").unlink()
    assert ingest(tmp_path / "a", pattern, MeanColours()).removed == (str(scenes / "s0.tif"),)


def _item_collection(path: Path, rasters: list[Path]) -> Path:
    def feature(raster: Path) -> dict[str, Any]:
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": raster.stem,
            "geometry": None,
            "properties": {"datetime": "2020-05-01T00:00:00Z"},
            "links": [],
            "assets": {"visual": {"href": str(raster), "type": "image/tiff", "roles": ["visual"]}},
        }

    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature(r) for r in rasters]}), "utf-8")
    return path


def test_a_stac_document_drops_what_it_no_longer_lists(tmp_path: Path, scenes: Path) -> None:
    rasters = [scenes / f"s{i}.tif" for i in range(3)]
    document = _item_collection(tmp_path / "items.json", rasters)
    ingest(tmp_path / "a", document, MeanColours(), GRID)
    ingest(tmp_path / "a", scenes / "s3.tif", MeanColours())
    _item_collection(document, rasters[1:])
    assert ingest(tmp_path / "a", document, MeanColours(), prune=False).removed == ()
    assert ingest(tmp_path / "a", [document, rasters[0]], MeanColours()).removed == (), "listed by another spec"
    _item_collection(document, rasters)
    ingest(tmp_path / "a", document, MeanColours())
    _item_collection(document, rasters[1:])
    report = ingest(tmp_path / "a", document, MeanColours())
    assert report.removed == (str(rasters[0]),)
    with Store.open(tmp_path / "a") as store:
        assert {r.info.name for r in store.scenes().values()} == {"s1.tif", "s2.tif", "s3.tif"}
        assert {r.info.acquired.year for r in store.scenes().values() if r.info.acquired} == {2020}


def test_bad_scenes_are_reported_and_the_rest_is_indexed(tmp_path: Path, scenes: Path) -> None:
    twin = obvious(scenes)
    whole = draw(scenes / "torn.tif", 3, side=400).read_bytes()
    (scenes / "torn.tif").write_bytes(whole[: len(whole) // 2])
    (scenes / "empty.tif").write_bytes(b"")
    (scenes / "text.tif").write_text("not a raster")
    draw(scenes / "huge.tif", 4, side=300)
    report = ingest(tmp_path / "a", scenes, MeanColours(), GRID, limits=Limits(max_pixels=250 * 250))
    errors = {Path(failure.uri).name: failure.error for failure in report.failed}
    assert errors == {
        "torn.tif": SceneTooLargeError.__name__,
        "empty.tif": "EmptySceneError",
        "text.tif": UnreadableSceneError.__name__,
        "huge.tif": SceneTooLargeError.__name__,
    }
    assert all(failure.message for failure in report.failed)
    assert_same(contents(tmp_path / "a"), twin)
    again = ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    assert {Path(f.uri).name: f.error for f in again.failed}["torn.tif"] == UnreadableSceneError.__name__
    assert [Path(uri).name for uri in again.added] == ["huge.tif"]


def test_a_scene_that_breaks_half_way_leaves_no_chip_and_keeps_its_old_state(tmp_path: Path, scenes: Path) -> None:
    ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    before = contents(tmp_path / "a")
    whole = draw(scenes / "s3.tif", 50, side=800).read_bytes()
    (scenes / "s3.tif").write_bytes(whole[: len(whole) * 2 // 3])
    encoder = MeanColours()
    report = ingest(tmp_path / "a", scenes, encoder, GRID, batch=2)
    assert [(Path(f.uri).name, f.error) for f in report.failed] == [("s3.tif", "UnreadableSceneError")]
    assert sum(encoder.batches) > 0, "the scene broke before its first chip: the test shows nothing"
    assert_same(contents(tmp_path / "a"), before)


@pytest.mark.parametrize("times", [1, 2])
def test_a_scene_that_changes_is_read_once_more_then_reported(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    left = times

    def meddle(scene: Any, grid: ChipGrid, size_px: int) -> Iterator[Any]:
        nonlocal left
        for count, item in enumerate(read_chips(scene, grid, size_px)):
            if scene.info.name == "s1.tif" and left and count == 1:
                left -= 1
                draw(scenes / "s1.tif", 200 + left, side=150 + 50 * left)
            yield item

    monkeypatch.setattr(stages_module, "read_chips", meddle)
    report = ingest(tmp_path / "a", scenes, MeanColours(), GRID, batch=3)
    if times == 1:
        assert report.failed == ()
        assert_same(contents(tmp_path / "a"), obvious(scenes))
    else:
        assert [(Path(f.uri).name, f.error) for f in report.failed] == [("s1.tif", "SceneChangedError")]
        (scenes / "s1.tif").unlink()
        assert_same(contents(tmp_path / "a"), obvious(scenes))


def test_a_scene_that_vanishes_after_the_listing_is_reported(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddle(source: Any, *bounds: Any) -> Any:
        if source.uri.endswith("s0.tif"):
            (scenes / "s2.tif").unlink()
        return open_scene(source, *bounds)

    monkeypatch.setattr(stages_module, "open_scene", meddle)
    report = ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    assert [(Path(f.uri).name, f.error) for f in report.failed] == [("s2.tif", "SourceError")]
    assert len(report.added) == 3


def test_another_model_or_grid_is_refused_and_changes_nothing(tmp_path: Path, scenes: Path) -> None:
    ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    before = contents(tmp_path / "a")
    draw(scenes / "new.tif", 5)
    for encoder, grid in ((MeanColours("2"), None), (MeanColours(), ChipGrid(ground_m=(500.0,)))):
        for dry_run in (False, True):
            with pytest.raises(ArchiveMismatchError) as caught:
                ingest(tmp_path / "a", scenes, encoder, grid, dry_run=dry_run)
            assert caught.value.hint
    assert_same(contents(tmp_path / "a"), before)
    ingest(tmp_path / "a", scenes, MeanColours())  # the lock was let go


def test_nothing_to_index_makes_no_archive(tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    for spec in (tmp_path / "void", tmp_path / "absent", []):
        with pytest.raises(SourceError):
            ingest(tmp_path / "a", spec, MeanColours(), GRID)
    assert not (tmp_path / "a").exists()


class Breaking(MeanColours):
    """Fails at the nth batch."""

    def __init__(self, error: BaseException, after: int) -> None:
        super().__init__()
        self._error, self._after = error, after

    def encode_images(self, images: Array) -> Array:
        """As above, until it breaks."""
        if len(self.batches) == self._after:
            raise self._error
        return super().encode_images(images)


def test_an_encoder_that_fails_ends_the_run_and_the_next_goes_on(tmp_path: Path, scenes: Path) -> None:
    with pytest.raises(RuntimeError, match="out of order"):
        ingest(tmp_path / "a", scenes, Breaking(RuntimeError("out of order"), 30), GRID, batch=2)
    whole = obvious(scenes)
    partly = contents(tmp_path / "a")
    assert 0 < len(partly) < len(whole)
    assert_same(partly, {key: whole[key] for key in partly})
    report = ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    assert 0 < len(report.unchanged) < 4
    assert_same(contents(tmp_path / "a"), whole)


def test_a_reader_that_fails_unexpectedly_ends_the_run(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: Any, *bounds: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(stages_module, "open_scene", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        ingest(tmp_path / "a", scenes, MeanColours(), GRID)


@pytest.mark.parametrize("error", [StorageError("disk full"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interrupt_keeps_what_was_committed(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    commit, count = StagedScene.commit, 0

    def second_fails(self: StagedScene) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise error
        commit(self)

    with monkeypatch.context() as patch:
        patch.setattr(StagedScene, "commit", second_fails)
        with pytest.raises(type(error)):
            ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    with Store.open(tmp_path / "a") as store:
        assert [record.info.name for record in store.scenes().values()] == ["s0.tif"]
    ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    assert_same(contents(tmp_path / "a"), obvious(scenes))


def test_a_large_scene_is_written_in_pieces_but_shown_at_once(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    add = Store.add_chips

    def spy(self: Store, info: Any, chips: Any, vectors: Any, token: str) -> None:
        assert self.scenes() == {}
        sizes.append(len(chips))
        add(self, info, chips, vectors, token)

    monkeypatch.setattr(Store, "add_chips", spy)
    monkeypatch.setattr(StagedScene.__init__, "__kwdefaults__", {"piece": 10})
    for name in ("s1.tif", "s2.tif", "s3.tif"):
        (scenes / name).unlink()
    report = ingest(tmp_path / "a", scenes, MeanColours(), GRID, batch=4)
    assert len(sizes) > 1
    assert max(sizes) < 10 + 4
    assert sum(sizes) == report.chips
    assert_same(contents(tmp_path / "a"), obvious(scenes))


def test_progress_is_told_in_the_calling_thread_and_only_grows(tmp_path: Path, scenes: Path) -> None:
    told: list[Progress] = []

    def note(progress: Progress) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(progress)

    (scenes / "bad.tif").write_text("no raster")
    report = ingest(tmp_path / "a", scenes, MeanColours(), GRID, on_progress=note)
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert [p.chips for p in told] == sorted(p.chips for p in told)
    assert (told[-1].done, told[-1].scenes, told[-1].chips) == (5, 5, report.chips)


def test_a_second_writer_is_refused(tmp_path: Path, scenes: Path) -> None:
    ingest(tmp_path / "a", scenes, MeanColours(), GRID)
    holder = textwrap.dedent(
        """
        import sys
        from geoglot.archive.store import Store
        with Store.open(sys.argv[1], write=True):
            print("held", flush=True)
            sys.stdin.read()
        """
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ArchiveBusyError, match=str(process.pid)) as caught:
            ingest(tmp_path / "a", scenes, MeanColours())
        assert caught.value.hint
        process.communicate()
    assert isinstance(ingest(tmp_path / "a", scenes, MeanColours()), IngestReport)


def test_reading_runs_ahead_of_the_encoder(tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next_scene = threading.Event()

    def note(source: Any, *bounds: Any) -> Any:
        if source.uri.endswith("s2.tif"):
            next_scene.set()
        return open_scene(source, *bounds)

    class Waiting(MeanColours):
        def encode_images(self, images: Array) -> Array:
            assert next_scene.wait(20), "the reader waits for the encoder"
            return super().encode_images(images)

    monkeypatch.setattr(stages_module, "open_scene", note)
    assert len(ingest(tmp_path / "a", scenes, Waiting(), GRID, batch=4).added) == 4


def test_what_cannot_be_looked_at_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path / "locked" / "a.tif")
    assert ingest_plan._gone([str(tmp_path)], [uri]) == {uri}

    def locked(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", locked)
    assert ingest_plan._gone([str(tmp_path)], [uri]) == set()
