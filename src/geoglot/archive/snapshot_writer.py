"""Make a snapshot out of the tables. Starts the database; queries on a current snapshot never come here."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.ranking import EXACT_LIMIT
from geoglot.archive.records import SceneRecord, info_to_json
from geoglot.archive.snapshot import META_FILE, SNAPSHOT, Arrays, Snapshot, load_snapshot, microseconds, state_key
from geoglot.archive.store import Store, writer_active
from geoglot.errors import ArchiveDamagedError, StorageError

if TYPE_CHECKING:
    import pyarrow as pa

ATTEMPTS = 5
BATCH_ROWS = 2048
ABANDONED_S = 3600.0
"""A temporary folder this old belongs to a process that was killed while it wrote a snapshot."""
COLUMNS = ("scene_id", "token", "x0", "y0", "x1", "y1", "ground_m", "west", "south", "east", "north", "rings")


def freeze_newest(folder: Path) -> Snapshot:
    """Read the newest state, and keep it as a snapshot unless a writer is at work or the folder cannot be written.

    Raises:
        ArchiveDamagedError: The tables cannot be read or contradict each other.
    """
    for attempt in range(ATTEMPTS):
        with Store.open(folder) as store:
            try:
                if writer_active(folder):
                    return freeze(store)
                with suppress(StorageError):  # read-only folder or full disk: then this process keeps it in memory
                    return write_snapshot(store)
                return freeze(store)
            except ArchiveDamagedError:
                # The writer's `tidy` deleted leftovers between our two tables: the newest state is whole again.
                if attempt == ATTEMPTS - 1:
                    raise
        time.sleep(0.05 * 2**attempt)
    raise AssertionError("unreachable")


def finish(store: Store, *, index_rows: int = EXACT_LIMIT) -> None:
    """End a writing: tidy the tables and write the snapshot that queries read.

    Args:
        store: Open for writing.
        index_rows: Build the approximate index above this many chips; up to it queries compare every chip anyway,
            and the index would only cost time (175 s for 1,000,000 x 512 on 2 cores) and space.

    Raises:
        StorageError: The disk is full; nothing is lost, and queries work without a snapshot, slower.
    """
    store.tidy(index_rows=index_rows)
    write_snapshot(store)


def write_snapshot(store: Store) -> Snapshot:
    """Keep the store's state as a snapshot and delete older ones; does nothing if it is there already.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
        ArchiveDamagedError: The tables contradict each other.
    """
    key = state_key(store.folder, store.versions())
    if (current := load_snapshot(store.folder, key)) is not None:
        return current
    home = store.folder / SNAPSHOT
    temporary = home / f"{key}.{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        snapshot = freeze(store, temporary)
        save_arrays(snapshot.arrays, temporary)
        _move(temporary, home / key)
    except OSError as error:
        raise StorageError(
            f"cannot write a snapshot to {home}: {error}",
            hint="The archive itself is whole, only slower to search. Free some space, or make the folder writable.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _tidy(home, key)
    return load_snapshot(store.folder, key) or snapshot


def _move(temporary: Path, path: Path) -> None:
    if path.exists():  # damaged, or another process was quicker; ours is as good
        shutil.rmtree(path)
    temporary.rename(path)


def _tidy(home: Path, keep: str) -> None:
    for path in home.iterdir():
        old = "." not in path.name or time.time() - path.stat().st_mtime > ABANDONED_S
        if path.name != keep and old:
            shutil.rmtree(path, ignore_errors=True)  # on Windows a mapped file stays until its reader ends


def save_arrays(arrays: Arrays, folder: Path) -> None:
    """Write all arrays but the vectors, whose `vectors.npy` is filled straight from the table, and `meta.json`."""
    shapes = {}
    for field in fields(Arrays):
        array = getattr(arrays, field.name)
        shapes[field.name] = list(array.shape)
        if field.name != "vectors":
            with (folder / f"{field.name}.npy").open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
                stream.flush()
                os.fsync(stream.fileno())
    (folder / META_FILE).write_text(json.dumps({"shapes": shapes}), "utf-8")


def freeze(store: Store, folder: Path | None = None) -> Snapshot:
    """The store's state as arrays; vectors in memory, or in `vectors.npy` of a folder.

    Raises:
        ArchiveDamagedError: A scene has not the chips that its row promises.
        OSError: The folder cannot be written.
    """
    records = [record for _, record in sorted(store.scenes().items())]
    chips = store.read_chips(COLUMNS)
    rows, scene = _visible(chips, records)
    counts = np.bincount(scene, minlength=len(records))
    _check_counts(store.folder, records, counts)
    chips = chips.take(rows)
    arrays = replace(_scene_arrays(records, counts, chips), vectors=_allocate(len(rows), store.manifest.dim, folder))
    _read_vectors(store, chips["_rowid"].to_numpy(), arrays.vectors)
    return Snapshot(state_key(store.folder, store.versions()), arrays)


def _visible(chips: pa.Table, records: list[SceneRecord]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of chips whose token is their scene's, sorted by (scene, window), and their scenes' indices."""
    place = {record.token: i for i, record in enumerate(records)}
    tokens = chips["token"].combine_chunks().dictionary_encode()
    lookup = np.array([place.get(token, -1) for token in tokens.dictionary.to_pylist()], dtype=np.int64)
    scene = lookup[tokens.indices.to_numpy()] if len(lookup) else np.empty(0, np.int64)
    windows = [chips[name].to_numpy() for name in ("y1", "x1", "y0", "x0")]
    order = np.lexsort((*windows, scene))
    order = order[scene[order] >= 0]
    return order, scene[order]


def _check_counts(folder: Path, records: list[SceneRecord], counts: NDArray[np.int64]) -> None:
    for record, count in zip(records, counts, strict=True):
        if record.chips != count:
            raise ArchiveDamagedError(
                f"scene {record.info.name} of {folder} should have {record.chips} chips and has {count}",
                hint="Index the scenes again into a new archive.",
            )


def _scene_arrays(records: list[SceneRecord], counts: NDArray[np.int64], chips: pa.Table) -> Arrays:
    infos = [record.info for record in records]
    texts = [_text(record) for record in records]
    sensors = sorted({info.sensor for info in infos if info.sensor})
    chip_rings, ring_start, points = _rings(chips["rings"])
    return Arrays(
        scene_ids=np.array([info.scene_id for info in infos], dtype=np.str_),
        scene_text=np.frombuffer(b"".join(texts), dtype=np.uint8),
        scene_text_start=_starts([len(text) for text in texts]),
        scene_start=_starts(counts),
        gsd_m=np.array([np.nan if info.gsd_m is None else info.gsd_m for info in infos], dtype=np.float64),
        acquired=np.array([microseconds(info.acquired) for info in infos], dtype=np.int64),
        sensor=np.array([sensors.index(info.sensor) if info.sensor else -1 for info in infos], dtype=np.int32),
        sensors=np.array(sensors, dtype=np.str_),
        windows=np.stack([chips[name].to_numpy() for name in ("x0", "y0", "x1", "y1")], axis=1),
        ground_m=_floats(chips["ground_m"]),
        boxes=np.stack([_floats(chips[name]) for name in ("west", "south", "east", "north")]),
        chip_rings=chip_rings,
        ring_start=ring_start,
        points=points,
        vectors=np.empty((0, 0), np.float32),
    )


def _text(record: SceneRecord) -> bytes:
    raw = {
        "info": info_to_json(record.info),
        "chips": record.chips,
        "ingested": record.ingested.isoformat(),
        "token": record.token,
    }
    return json.dumps(raw, ensure_ascii=False).encode()


def _starts(lengths: Any) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int64)


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(column, float("nan")).to_numpy(), dtype=np.float64)


def _rings(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(chip_rings, ring_start, points) of a list<list<double>> column."""
    import pyarrow.compute as pc

    chip_rings = _starts(pc.list_value_length(column).to_numpy())
    rings = pc.list_flatten(column)
    ring_start = _starts(pc.list_value_length(rings).to_numpy()) // 2
    return chip_rings, ring_start, np.asarray(pc.list_flatten(rings).to_numpy(), np.float64).reshape(-1, 2)


def _allocate(rows: int, dim: int, folder: Path | None) -> NDArray[np.float32]:
    if folder is None:
        return np.empty((rows, dim), np.float32)
    path = folder / "vectors.npy"
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(stream, header)
        _reserve(stream, rows * dim * 4)
    return np.load(path, mmap_mode="r+")  # type: ignore[no-any-return]


def _reserve(stream: Any, size: int) -> None:
    """Claim the disk space now: writing to a mapped hole on a full disk would kill the process instead of raising."""
    start = stream.tell()
    stream.flush()
    if hasattr(os, "posix_fallocate"):
        if size:
            os.posix_fallocate(stream.fileno(), start, size)
        return
    block = bytes(1 << 20)
    for at in range(0, size, len(block)):
        stream.write(block[: size - at])


def _read_vectors(store: Store, row_ids: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Fill out[i] with the vector of the table's row row_ids[i], batch by batch."""
    order = np.argsort(row_ids)
    ordered = row_ids[order]
    filled = 0
    for ids, vectors in store.read_vectors(BATCH_ROWS):
        at = np.minimum(np.searchsorted(ordered, ids), max(len(ordered) - 1, 0))
        hit = ordered[at] == ids if len(ordered) else np.zeros(len(ids), bool)
        out[order[at[hit]]] = vectors[hit]
        filled += int(hit.sum())
    if filled != len(out):
        raise ArchiveDamagedError(
            f"{len(out) - filled} of {len(out)} vectors are missing", hint="Index the scenes again into a new archive."
        )
    if isinstance(out, np.memmap):
        out.flush()
