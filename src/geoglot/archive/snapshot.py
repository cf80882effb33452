"""The snapshot: an archive as flat arrays that a query maps into memory without starting the database.

It is derived data in `<archive>/snapshot/<key>/`, one .npy file per array, where the key is a hash of the two tables'
newest Lance manifests (small files with a fresh transaction id in each). So a folder with the right name is current, a
folder with another name is old, and nothing has to be kept in step. If there is none, `snapshot_writer` makes it.

Rows are chips sorted by (scene_id, x0, y0, x1, y1): the order does not depend on the order of ingest, a scene's chips
are one contiguous run, and a chip is found by its id with two binary searches.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.records import SceneRecord, info_from_json
from geoglot.errors import ArchiveDamagedError, UsageError
from geoglot.types import Bbox, Chip, Ring, Window, chip_id

SNAPSHOT = "snapshot"
META_FILE = "meta.json"
LAYOUT = 1
NO_DATE = np.iinfo(np.int64).min
"""`acquired` of a scene without a date; microseconds since 1970 otherwise."""
_LAST_VERSION = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Arrays:
    """S scenes, N chips, R rings of P points in all, K sensors. Read-only; may be mapped files.

    Attributes:
        scene_ids: str [S], sorted.
        scene_text, scene_text_start: uint8 [T], int64 [S + 1]: one JSON record per scene, read when it is needed.
        scene_start: int64 [S + 1], chips of scene i are rows scene_start[i] to scene_start[i + 1].
        gsd_m: float64 [S], NaN without a georeference.
        acquired: int64 [S], microseconds since 1970 UTC, or NO_DATE.
        sensor: int32 [S], index into `sensors`, or -1.
        sensors: str [K], sorted.
        windows: int32 [N, 4], x0 y0 x1 y1.
        ground_m: float64 [N], NaN without a georeference.
        boxes: float64 [4, N], west south east north; NaN without a georeference.
        chip_rings: int64 [N + 1], ring_start: int64 [R + 1], points: float64 [P, 2]: the footprints.
        vectors: float32 [N, D], unit norm.
    """

    scene_ids: NDArray[np.str_]
    scene_text: NDArray[np.uint8]
    scene_text_start: NDArray[np.int64]
    scene_start: NDArray[np.int64]
    gsd_m: NDArray[np.float64]
    acquired: NDArray[np.int64]
    sensor: NDArray[np.int32]
    sensors: NDArray[np.str_]
    windows: NDArray[np.int32]
    ground_m: NDArray[np.float64]
    boxes: NDArray[np.float64]
    chip_rings: NDArray[np.int64]
    ring_start: NDArray[np.int64]
    points: NDArray[np.float64]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of an archive; safe to share between threads.

    Attributes:
        key: Names the state; 16 hex digits.
        arrays: See Arrays.
        folder: Where the arrays lie; None if they are held in memory because the folder cannot be written now.
    """

    key: str
    arrays: Arrays
    folder: Path | None = None

    def __len__(self) -> int:
        """How many chips."""
        return len(self.arrays.windows)

    @property
    def scene_count(self) -> int:
        """How many scenes, those without chips included."""
        return len(self.arrays.scene_ids)

    def scene_of(self, row: int) -> int:
        """Index of the scene that a chip belongs to."""
        return int(np.searchsorted(self.arrays.scene_start, row, side="right")) - 1

    def record(self, scene: int) -> SceneRecord:
        """The scene of an index; parses its record each time (about 20 µs).

        Raises:
            ArchiveDamagedError: The record cannot be read.
        """
        start, stop = self.arrays.scene_text_start[scene : scene + 2]
        try:
            raw = json.loads(self.arrays.scene_text[start:stop].tobytes())
            return SceneRecord(
                info_from_json(raw["info"]), raw["chips"], datetime.fromisoformat(raw["ingested"]), raw["token"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveDamagedError(
                f"scene {scene} of snapshot {self.folder} cannot be read: {error!r}",
                hint=f"Delete the folder {SNAPSHOT!r} inside the archive; it is rebuilt.",
            ) from error

    def chip(self, row: int) -> Chip:
        """The chip of a row."""
        a = self.arrays
        window = Window(*(int(v) for v in a.windows[row]))
        scene_id = str(a.scene_ids[self.scene_of(row)])
        box = [float(v) for v in a.boxes[:, row]]
        placed = not np.isnan(box[0])
        return Chip(
            chip_id(scene_id, window),
            scene_id,
            window,
            None if np.isnan(a.ground_m[row]) else float(a.ground_m[row]),
            Bbox(*box) if placed else None,
            self._footprint(row),
        )

    def _footprint(self, row: int) -> tuple[Ring, ...]:
        a = self.arrays
        first, last = a.chip_rings[row : row + 2]
        starts = a.ring_start[first : last + 1]
        rings = (a.points[start:stop].tolist() for start, stop in pairwise(starts))
        return tuple(tuple((lon, lat) for lon, lat in ring) for ring in rings)

    def find_scene(self, scene_id: str) -> int | None:
        """Index of a scene, or None."""
        ids = self.arrays.scene_ids
        at = int(np.searchsorted(ids, scene_id))
        return at if at < len(ids) and ids[at] == scene_id else None

    def find(self, scene_id: str, box_px: tuple[int, int, int, int]) -> int | None:
        """Row of a chip, or None."""
        scene = self.find_scene(scene_id)
        if scene is None:
            return None
        start, stop = (int(v) for v in self.arrays.scene_start[scene : scene + 2])
        windows = self.arrays.windows
        at = bisect_left(range(start, stop), box_px, key=lambda row: tuple(windows[row].tolist())) + start
        return at if at < stop and tuple(windows[at].tolist()) == box_px else None

    def after(self, name: str) -> int:
        """The first row behind a chip in the order of rows, whether the chip is there (any more) or not.

        Raises:
            UsageError: The name is not a chip_id.
        """
        place = chip_place(name)
        if place is None:
            raise UsageError(f"{name!r} is not a chip_id", hint="Copy one from an answer.")
        scene_id, box_px = place
        scene = int(np.searchsorted(self.arrays.scene_ids, scene_id))
        start = int(self.arrays.scene_start[scene])
        if scene == self.scene_count or self.arrays.scene_ids[scene] != scene_id:
            return start
        stop = int(self.arrays.scene_start[scene + 1])
        windows = self.arrays.windows
        return bisect_right(range(start, stop), box_px, key=lambda row: tuple(windows[row].tolist())) + start

    def find_chip(self, name: str) -> int | None:
        """Row of a chip by its chip_id, or None."""
        place = chip_place(name)
        return None if place is None else self.find(*place)


def chip_place(name: str) -> tuple[str, tuple[int, int, int, int]] | None:
    """(scene_id, box_px) of a chip_id; None when it is not one."""
    scene_id, *numbers = name.rsplit("-", 4)
    if len(numbers) != 4 or not all(n.isascii() and n.isdecimal() and len(n) <= 10 for n in numbers):
        return None
    x0, y0, x1, y1 = (int(n) for n in numbers)
    return scene_id, (x0, y0, x1, y1)


def microseconds(instant: datetime | None) -> int:
    """Microseconds since 1970 UTC of an aware instant; NO_DATE for None. Exact, unlike timestamp()."""
    if instant is None:
        return int(NO_DATE)
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def newest_version(folder: Path, table: str) -> int:
    """The newest version of a Lance table, from its folder's listing: no database is started.

    Lance names manifests `<2^64 - 1 - version, 20 digits>.manifest` (its "V2" naming) or `<version>.manifest` ("V1").

    Raises:
        ArchiveDamagedError: The table is not there.
    """
    path = _versions_folder(folder, table)
    try:
        stems = [entry.name.removesuffix(".manifest") for entry in path.iterdir() if entry.suffix == ".manifest"]
    except OSError as error:
        raise ArchiveDamagedError(
            f"table {path.parent} is missing: {error}", hint="Index the scenes again into a new archive."
        ) from error
    versions = [_LAST_VERSION - int(s) if len(s) == 20 else int(s) for s in stems if s.isdecimal()]
    if not versions:
        raise ArchiveDamagedError(
            f"table {path.parent} has no version", hint="Index the scenes again into a new archive."
        )
    return max(versions)


def state_key(folder: Path, versions: tuple[int, int] | None = None) -> str:
    """Name of the state of (scenes, chips) at these versions; default the newest. Reads two small files.

    Raises:
        ArchiveDamagedError: A table or a version is missing.
    """
    newest = versions or (newest_version(folder, "scenes"), newest_version(folder, "chips"))
    digest = hashlib.sha256(f"layout {LAYOUT}".encode())
    for table, version in zip(("scenes", "chips"), newest, strict=True):
        digest.update(_manifest_bytes(folder, table, version))
    return digest.hexdigest()[:16]


def _manifest_bytes(folder: Path, table: str, version: int) -> bytes:
    for name in (f"{_LAST_VERSION - version:020d}", str(version)):
        path = _versions_folder(folder, table) / f"{name}.manifest"
        if path.is_file():
            return path.read_bytes()
    raise ArchiveDamagedError(f"version {version} of table {table!r} in {folder} is gone", hint="Try again.")


def _versions_folder(folder: Path, table: str) -> Path:
    return folder / "lance" / f"{table}.lance" / "_versions"


def load_snapshot(folder: Path, key: str) -> Snapshot | None:
    """Map the snapshot of a state; None if there is none or it is not whole. About 2 ms, whatever its size."""
    path = folder / SNAPSHOT / key
    try:
        shapes = json.loads((path / META_FILE).read_text("utf-8"))["shapes"]
        arrays = {f.name: _map(path / f"{f.name}.npy", shapes[f.name]) for f in fields(Arrays)}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, cut short or foreign: derived data, so the caller makes it anew
    return Snapshot(key, Arrays(**arrays), path)


def _map(path: Path, shape: list[int]) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if list(array.shape) != shape:
        raise ValueError(f"{path} has shape {array.shape}, not {shape}")
    return array.view(np.ndarray)
