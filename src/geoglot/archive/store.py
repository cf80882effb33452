"""The durable store: two LanceDB tables, `scenes` and `chips`, written one scene at a time.

A scene is written in two commits; each is atomic, and the second makes the scene visible:

    1. add its chips, marked with a fresh token
    2. write its row in `scenes`, which names that token

A chip is visible only if its token is the one in its scene's row. So at each crash point a reader sees all of a scene
or none of it, and of a scene that is being replaced either all of the old or all of the new one:

    killed before 1             old scene, or none         nothing was written
    killed between 1 and 2      old scene, or none         the new chips are leftovers; the next ingest writes again
    killed after 2              new scene                  the old chips are leftovers
    remove: killed before its one commit (the row)         scene still there
    remove: killed after it                                scene gone; its chips are leftovers
    tidy, write_snapshot: killed at any point              same scenes; leftovers, compaction or snapshot as far as done

Leftovers are deleted only by `tidy`. Between two calls of it chips are only ever added, so a reader that reads `scenes`
first and `chips` next finds every chip it needs; it checks the counts and reads again if a `tidy` came in between.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.manifest import MANIFEST_FILE, Manifest, read_manifest, write_manifest
from geoglot.archive.records import SceneRecord, info_from_json, info_to_json
from geoglot.errors import ArchiveBusyError, ArchiveDamagedError, ArchiveError, StorageError, UsageError
from geoglot.files import is_locked, take_lock
from geoglot.types import Chip, SceneInfo, chip_id

if TYPE_CHECKING:
    import lancedb
    import pyarrow as pa
    from filelock import BaseFileLock

LANCE = "lance"
LOCK_FILE = "writer.lock"
HOLDER_FILE = "writer.pid"
"""Whoever holds the lock writes its process id there, for the message to others."""
PATIENCE_S = 0.5
"""A reader that asks `writer_active` holds the lock for microseconds; a writer waits this long before it gives up."""
COMPACT_EVERY = 500
"""Scenes per compaction while writing: each commit lists every fragment, so an unbounded number makes commits slow."""
KEEP_VERSIONS = timedelta(minutes=10)
"""How long superseded files stay for readers that are in the middle of reading them."""
UNIT_TOLERANCE = 1e-3
_CANNOT_WRITE = re.compile(r"os error (13|27|28|30|122)\b")
"""In LanceDB's messages: permission denied, file too large, no space left, read-only, quota exceeded."""
_RUST_SOURCE = re.compile(r", /\S+\.rs:\d")
"""Where LanceDB's messages go on with a place in its own source code."""


class Store:
    """The scenes and chips of one archive folder. Make one with `create` or `open`; a context manager.

    A writer holds the folder's lock until `close`; readers need no lock and may be many.
    """

    def __init__(self, folder: Path, manifest: Manifest, lock: BaseFileLock | None) -> None:
        self.folder = folder
        self.manifest = manifest
        self._lock = lock
        self._scenes, self._chips = self._tables()
        self._records = self._read_scenes()
        self._since_compaction = 0

    @classmethod
    def create(cls, folder: str | Path, manifest: Manifest) -> Store:
        """Make an empty archive and open it for writing.

        Raises:
            ArchiveError: There is one already.
            UsageError: The folder holds other things.
            StorageError: The folder cannot be written.
            ArchiveBusyError: Another process is creating one there.
        """
        folder = Path(folder)
        if (folder / MANIFEST_FILE).exists():
            raise ArchiveError(f"there is an archive at {folder} already", hint="Open it, or choose another folder.")
        _claim(folder)
        lock = _lock_for_writing(folder)
        try:
            if (folder / MANIFEST_FILE).exists():  # another process was quicker between the check and the lock
                raise ArchiveError(f"there is an archive at {folder} already", hint="Open it instead.")
            with storage_errors(folder):
                connection = _connect(folder)
                connection.create_table("scenes", schema=scene_schema(), mode="overwrite")
                connection.create_table("chips", schema=chip_schema(manifest.dim), mode="overwrite")
            write_manifest(folder, manifest)  # last: its presence says that the archive is whole
            return cls(folder, manifest, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, folder: str | Path, *, write: bool = False) -> Store:
        """Open an existing archive.

        Args:
            folder: The archive.
            write: Take the writer's lock.

        Raises:
            ArchiveNotFoundError, ArchiveVersionError, ArchiveDamagedError: See read_manifest.
            ArchiveBusyError: `write`, and another process is writing.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        lock = _lock_for_writing(folder) if write else None
        try:
            return cls(folder, manifest, lock)
        except BaseException:
            if lock:
                lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock. What was committed stays; a second call does nothing."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def scenes(self) -> Mapping[str, SceneRecord]:
        """Every scene that is wholly in the archive, by scene_id."""
        return dict(self._records)

    def replace_scene(self, info: SceneInfo, chips: Sequence[Chip], vectors: NDArray[np.float32]) -> None:
        """Write a scene with all its chips, in place of what was there under its scene_id. About 10 ms for a new one.

        Args:
            info: The scene.
            chips: N of them, in any order; none if the whole scene is empty.
            vectors: float32 [N, D], unit norm.

        Raises:
            UsageError: Vectors not finite, not unit or of the wrong shape; a chip of another scene, or twice.
            StorageError: The disk is full; what was committed before is unharmed.
        """
        token = new_token()
        self.add_chips(info, chips, vectors, token)
        self.show_scene(info, len(chips), token)

    def add_chips(self, info: SceneInfo, chips: Sequence[Chip], vectors: NDArray[np.float32], token: str) -> None:
        """Commit some of a scene's chips, invisible until `show_scene` names their token; may be called often.

        Raises:
            UsageError, StorageError: As replace_scene; a chip given in two calls is not noticed.
        """
        self._need_lock()
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        _check_scene(info, chips, vectors, self.manifest.dim)
        if chips:
            with storage_errors(self.folder):
                self._chips.add(chip_rows(chips, vectors, token))

    def show_scene(self, info: SceneInfo, chips: int, token: str) -> None:
        """Make a scene visible with the chips added under this token, in place of what was there before.

        Args:
            info: The scene.
            chips: How many were added in all.
            token: From `new_token`, used for this scene only.

        Raises:
            StorageError: The disk is full; what was committed before is unharmed.
        """
        self._need_lock()
        with storage_errors(self.folder):
            self._commit(SceneRecord(info, chips, datetime.now(UTC), token))
        self._since_compaction += 1
        if self._since_compaction >= COMPACT_EVERY:
            self._compact()

    def _commit(self, record: SceneRecord) -> None:
        row = scene_row(record)
        if record.info.scene_id in self._records:
            merge = self._scenes.merge_insert("scene_id")
            merge.when_matched_update_all().when_not_matched_insert_all().execute(row)
        else:
            self._scenes.add(row)
        self._records[record.info.scene_id] = record

    def remove_scenes(self, scene_ids: Iterable[str]) -> int:
        """Drop scenes, all in one commit; ids that are not there are ignored. Returns how many were dropped."""
        self._need_lock()
        gone = sorted(self._records.keys() & set(scene_ids))
        if gone:
            with storage_errors(self.folder):
                self._scenes.delete(f"scene_id IN ({quoted(gone)})")
            for scene_id in gone:
                del self._records[scene_id]
        return len(gone)

    def tidy(self, *, index_rows: int) -> None:
        """Delete leftovers, compact, and build the approximate index above `index_rows` chips.

        Raises:
            StorageError: The disk is full; nothing is lost.
        """
        self._need_lock()
        with storage_errors(self.folder):
            self._delete_leftovers()
            self._compact()
            if self.count_rows() > index_rows:
                self._index_vectors()

    def _delete_leftovers(self) -> None:
        if self._chips.count_rows() == sum(record.chips for record in self._records.values()):
            return
        tokens = self._chips.search().select(["token"]).to_arrow()["token"].unique().to_pylist()
        dead = set(tokens) - {record.token for record in self._records.values()}
        if dead:
            self._chips.delete(f"token IN ({quoted(sorted(dead))})")

    def _compact(self) -> None:
        with storage_errors(self.folder):
            for table in (self._scenes, self._chips):
                table.optimize(cleanup_older_than=KEEP_VERSIONS)
        self._since_compaction = 0

    def _index_vectors(self) -> None:
        if self.has_index():
            return  # `optimize` keeps it up to date
        from lancedb.index import IvfRq

        self._chips.create_index("vector", config=IvfRq(distance_type="cosine"))

    def has_index(self) -> bool:
        """True when the approximate index exists."""
        return any("vector" in index.columns for index in self._chips.list_indices())

    def read_chips(self, columns: Sequence[str]) -> pa.Table:
        """Columns of all rows of `chips`, leftovers too, with the row ids as `_rowid`."""
        with _reading_errors(self.folder):
            return self._chips.search().select(list(columns)).with_row_id(True).to_arrow()

    def read_vectors(self, batch_rows: int) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.float32]]]:
        """Batches of (row ids [M], vectors float32 [M, D]) over all rows of `chips`; bounded memory."""
        query = self._chips.search().select(["vector"]).with_row_id(True)
        with _reading_errors(self.folder):
            batches = iter(query.to_batches(batch_size=batch_rows))
        while True:
            with _reading_errors(self.folder):
                batch = next(batches, None)
            if batch is None:
                return
            vectors = batch["vector"].flatten().to_numpy().reshape(batch.num_rows, self.manifest.dim)
            yield batch["_rowid"].to_numpy(), vectors

    def nearest(
        self,
        query: NDArray[np.float32],
        limit: int,
        where: str | None,
        columns: Sequence[str],
        *,
        probes: int,
        refine: int,
    ) -> list[dict[str, Any]]:
        """Rows that the approximate index finds near a query, nearest first; the filter runs before the search."""
        search = self._chips.search(query, vector_column_name="vector").distance_type("cosine")
        if where is not None:
            search = search.where(where, prefilter=True)
        search = search.nprobes(probes).refine_factor(refine).limit(limit).select([*columns, "_distance"])
        with _reading_errors(self.folder):
            return [dict(row) for row in search.to_list()]

    def count_rows(self) -> int:
        """Rows of `chips`, leftovers too."""
        return int(self._chips.count_rows())

    def versions(self) -> tuple[int, int]:
        """Versions of the tables (scenes, chips) that this store reads."""
        return int(self._scenes.version), int(self._chips.version)

    def _need_lock(self) -> None:
        if self._lock is None:
            raise UsageError("the store is not open for writing", hint="Store.open(folder, write=True)")

    def _tables(self) -> tuple[Any, Any]:
        """(scenes, chips), in this order: see the module's text."""
        with _reading_errors(self.folder):
            connection = _connect(self.folder)
            return connection.open_table("scenes"), connection.open_table("chips")

    def _read_scenes(self) -> dict[str, SceneRecord]:
        with _reading_errors(self.folder):
            rows = self._scenes.to_arrow().to_pylist()
            return {row["scene_id"]: _record(row) for row in rows}


def _lock_for_writing(folder: Path) -> BaseFileLock:
    lock = take_lock(folder / LOCK_FILE, wait_s=PATIENCE_S)
    if lock is None:
        raise ArchiveBusyError(
            f"process {_holder(folder)} is writing to {folder}",
            hint="Wait until it is done; searching is possible meanwhile.",
        )
    with storage_errors(folder):
        (folder / HOLDER_FILE).write_text(f"{os.getpid()}\n", "ascii")
    return lock


def _holder(folder: Path) -> str:
    try:
        return (folder / HOLDER_FILE).read_text("ascii").strip() or "(unknown)"
    except (OSError, UnicodeDecodeError):
        return "(unknown)"


def writer_active(folder: Path) -> bool:
    """True when a process is writing to the archive right now."""
    return is_locked(folder / LOCK_FILE)


def new_token() -> str:
    """A mark for the chips of one writing of one scene."""
    return secrets.token_hex(8)


def _connect(folder: Path) -> lancedb.DBConnection:
    os.environ.setdefault("LANCEDB_LOG", "error")  # read at import: hides a warning per query and per created table
    import lancedb

    return lancedb.connect(str(folder / LANCE))


def _claim(folder: Path) -> None:
    """Make the folder, or accept one that is empty or holds the beginnings of an archive."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(p.name for p in folder.iterdir() if p.name not in {LANCE, LOCK_FILE, HOLDER_FILE})
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {error}", hint="Choose another folder.") from error
    if [name for name in others if not name.startswith(f".{MANIFEST_FILE}.")]:
        raise UsageError(f"{folder} is not an archive and not empty ({others[0]} …)", hint="Choose an empty folder.")


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what LanceDB raises when it cannot write, or read what should be there, into our errors.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
        ArchiveDamagedError: A file of the tables is missing or cut short.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) or _CANNOT_WRITE.search(str(error)):
            raise StorageError(
                f"cannot write to {folder}: {_RUST_SOURCE.split(str(error))[0]}",
                hint="Free some space and run again; committed scenes are kept.",
            ) from error
        raise _damaged(folder, error) from error


@contextmanager
def _reading_errors(folder: Path) -> Iterator[None]:
    """As `storage_errors`, where nothing is written.

    Raises:
        ArchiveDamagedError: A file of the tables is missing or cut short.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> ArchiveDamagedError:
    reason = _RUST_SOURCE.split(str(error))[0]
    return ArchiveDamagedError(
        f"the tables of {folder} cannot be read: {reason}", hint="Index the scenes again into a new archive."
    )


def _check_scene(info: SceneInfo, chips: Sequence[Chip], vectors: NDArray[np.float32], dim: int) -> None:
    if vectors.shape != (len(chips), dim) and not (len(chips) == 0 and vectors.size == 0):
        raise UsageError(f"{len(chips)} chips need vectors of shape ({len(chips)}, {dim}), not {vectors.shape}")
    norms = np.linalg.norm(vectors.reshape(len(chips), dim), axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1) <= UNIT_TOLERANCE))  # NaN fails the comparison too
    if bad.size:
        raise UsageError(f"vector {bad[0]} of scene {info.name} has norm {norms[bad[0]]}; it must be finite and unit")
    for chip in chips:
        if chip.scene_id != info.scene_id or chip.chip_id != chip_id(info.scene_id, chip.window):
            raise UsageError(f"chip {chip.chip_id} does not belong to scene {info.scene_id}")
    if len({chip.window for chip in chips}) != len(chips):
        raise UsageError(f"scene {info.name} has the same chip twice")


def scene_schema() -> pa.Schema:
    """Columns of the `scenes` table; `info` is JSON."""
    import pyarrow as pa

    kinds = {
        "scene_id": pa.string(),
        "token": pa.string(),
        "chips": pa.int64(),
        "ingested": pa.timestamp("us", tz="UTC"),
        "info": pa.string(),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


def chip_schema(dim: int) -> pa.Schema:
    """Columns of the `chips` table; positions are null without a georeference; a ring is lon, lat, lon, …."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("scene_id", pa.string(), nullable=False),
            pa.field("token", pa.string(), nullable=False),
            *(pa.field(name, pa.int32(), nullable=False) for name in ("x0", "y0", "x1", "y1")),
            *(pa.field(name, pa.float64()) for name in ("ground_m", "west", "south", "east", "north")),
            pa.field("rings", pa.list_(pa.list_(pa.float64()))),
            pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
        ]
    )


def scene_row(record: SceneRecord) -> pa.Table:
    """One row of `scenes`."""
    import pyarrow as pa

    row = {
        "scene_id": record.info.scene_id,
        "token": record.token,
        "chips": record.chips,
        "ingested": record.ingested,
        "info": json.dumps(info_to_json(record.info), ensure_ascii=False),
    }
    return pa.Table.from_pylist([row], schema=scene_schema())


def _record(row: dict[str, Any]) -> SceneRecord:
    info = info_from_json(json.loads(row["info"]))
    return SceneRecord(info, row["chips"], row["ingested"].astimezone(UTC), row["token"])


def chip_rows(chips: Sequence[Chip], vectors: NDArray[np.float32], token: str) -> pa.Table:
    """Rows of `chips`; vectors float32 [N, D]."""
    import pyarrow as pa

    schema = chip_schema(vectors.shape[1])
    boxes = [c.bbox_lonlat.lonlat if c.bbox_lonlat else (None,) * 4 for c in chips]
    columns: dict[str, Any] = {
        "scene_id": [c.scene_id for c in chips],
        "token": [token] * len(chips),
        **{name: [getattr(c.window, name) for c in chips] for name in ("x0", "y0", "x1", "y1")},
        "ground_m": [c.ground_m for c in chips],
        **{name: [box[i] for box in boxes] for i, name in enumerate(("west", "south", "east", "north"))},
        "rings": [[[v for point in ring for v in point] for ring in c.footprint_lonlat] for c in chips],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
    }
    return pa.table(columns, schema=schema)


def quoted(values: Sequence[str]) -> str:
    """A list of SQL text literals."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
