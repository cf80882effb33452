from __future__ import annotations

import json
import logging
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pair_files import picture, rs5m_members, write_tar

from geoglot.data.batches import BatchPlan
from geoglot.data.decode import Prepare, Prepared
from geoglot.data.loader import Feed, Loaded, Workshop
from geoglot.data.pairs import Pair, PairSet
from geoglot.data.sources import DataSource, open_source
from geoglot.errors import TrainingError


def letters(texts: list[str]) -> NDArray[np.int64]:
    return np.array([[ord(c) for c in text[-2:].rjust(2)] for text in texts], np.int64)


def folder_of(folder: Path, count: int, broken: tuple[int, ...] = ()) -> list[PairSet]:
    rows = []
    for index in range(count):
        raw = picture(index)
        (folder / f"{index}.png").write_bytes(raw[:50] if index in broken else raw)
        rows.append({"image": f"{index}.png", "captions": [f"a {index}", f"b {index}", f"c {index}"]})
    (folder / "t.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    return [open_source(DataSource("t.jsonl"), folder)]


def feed(sets: list[PairSet], batch: int = 8, **more: object) -> Feed:
    captions = int(more.pop("captions", 1))  # type: ignore[call-overload]
    workshop = Workshop(sets, Prepare(8, (0.5, 1.0), captions), letters, 0)
    return Feed(workshop, BatchPlan(sets, [0.0] * len(sets), batch, 0), **more)  # type: ignore[arg-type]


def take(one: Feed, count: int) -> list[Loaded]:
    with one:
        return list(islice(one, count))


def same(left: list[Loaded], right: list[Loaded]) -> bool:
    return all(
        np.array_equal(a.images, b.images)
        and np.array_equal(a.texts, b.texts)
        and np.array_equal(a.image_ids, b.image_ids)
        for a, b in zip(left, right, strict=True)
    )


def test_batches_do_not_depend_on_workers(tmp_path: Path) -> None:
    sets = folder_of(tmp_path, 20)
    plain = take(feed(sets, workers=1, ahead=1), 6)
    assert same(plain, take(feed(sets, workers=4, ahead=5), 6))
    assert plain[0].images.shape == (8, 8, 8, 3)
    assert plain[0].texts.shape == (8, 1, 2)
    epochs = np.concatenate([b.image_ids for b in plain[:5]])
    assert len(np.unique(epochs[:20])) == 20


@pytest.mark.slow
def test_processes_bring_what_threads_bring(tmp_path: Path) -> None:
    sets = folder_of(tmp_path, 20)
    assert same(take(feed(sets), 3), take(feed(sets, kind="process", workers=1), 3))


def test_shares_make_up_the_batch(tmp_path: Path) -> None:
    sets = folder_of(tmp_path, 20)
    whole = take(feed(sets, batch=9), 4)
    parts = [take(feed(sets, batch=9, rank=r, size=3), 4) for r in range(3)]
    for index, batch in enumerate(whole):
        assert np.array_equal(batch.images, np.concatenate([p[index].images for p in parts]))


def test_captions_are_chosen_anew_each_epoch(tmp_path: Path) -> None:
    sets = folder_of(tmp_path, 8)
    batches = take(feed(sets, batch=8), 12)
    first = {int(i): set() for i in batches[0].image_ids}
    for batch in batches:
        for image, text in zip(batch.image_ids, batch.texts, strict=True):
            first[int(image)].add(tuple(text.ravel()))
    read = {ident: sets[0].read(list(sets[0].image_ids).index(ident)).captions for ident in first}
    assert all(len(read[ident]) == 3 for ident in first)
    several = take(feed(folder_of(tmp_path, 8), captions=2), 1)[0]
    assert several.texts.shape == (8, 2, 2)


def test_corrupt_samples_are_left_out_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sets = folder_of(tmp_path, 20, broken=(3, 11))
    one = feed(sets, batch=10)
    with caplog.at_level(logging.WARNING):
        batches = take(one, 6)
    assert sum(len(b.image_ids) for b in batches) == 60 - 6
    assert one.corrupt.count == 6
    assert len(one.corrupt.names) == 2
    assert any("3.png" in reason for reason in one.corrupt.names.values())
    assert len([r for r in caplog.records if "left out" in r.message]) == 2
    good = take(feed(folder_of(tmp_path, 20), batch=10), 6)
    for broken, whole in zip(batches, good, strict=True):
        kept = np.isin(whole.image_ids, broken.image_ids)
        assert np.array_equal(whole.images[kept], broken.images), "the others must be what they would have been"


def test_ruin_ends_the_run(tmp_path: Path) -> None:
    sets = folder_of(tmp_path, 20, broken=tuple(range(20)))
    with pytest.raises(TrainingError, match="8 of 8 samples are corrupt"):
        take(feed(sets), 1)
    sets = folder_of(tmp_path, 20, broken=(1, 2, 3))
    with pytest.raises(TrainingError, match="samples are corrupt"):
        take(feed(sets, batch=20), 40)
    take(feed(sets, batch=20, corrupt_share=0.5), 40)


def test_shards_with_a_damaged_image(tmp_path: Path) -> None:
    members = rs5m_members(range(9))
    members[5] = (members[5][0], members[5][1][:40])
    write_tar(tmp_path / "a.tar", members)
    one = feed([open_source(DataSource("a.tar"), tmp_path)], batch=9)
    assert len(take(one, 1)[0].image_ids) == 8
    assert "a.tar:pub11_00000001" in next(iter(one.corrupt.names.values()))


def test_decoding_runs_ahead_of_the_caller(tmp_path: Path) -> None:
    """While the caller is busy with the first batch, the next ones are made; then it stops: memory is bounded."""
    done: list[str] = []

    class Noting(Prepare):
        def __call__(self, pair: Pair, rng: np.random.Generator) -> Prepared:
            ready = super().__call__(pair, rng)
            done.append(pair.name)
            return ready

    sets = folder_of(tmp_path, 20)
    one = Feed(Workshop(sets, Noting(8), letters, 0), BatchPlan(sets, [0.0], 8, 0), workers=2, ahead=3)
    with one:
        batches = iter(one)
        next(batches)
        waited = time.monotonic()
        while len(done) < 24 and time.monotonic() < waited + 60:
            time.sleep(0.01)
        assert len(done) == 24
        next(batches)
        next(batches)
    assert one.wait_s > 0
    assert len(done) <= 40
