"""An archive as its readers see it: open it, ask it, look after it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.answers import SearchResult
from geoglot.archive.background import load_scorer
from geoglot.archive.filters import Filter, Selection, select
from geoglot.archive.heat import Frame, heat_map
from geoglot.archive.listing import ChipVectors, Listing, list_chips
from geoglot.archive.manifest import Manifest, read_manifest
from geoglot.archive.query import Term, parse_terms, query_vector
from geoglot.archive.ranking import EXACT_LIMIT, ExactRanker, Hit, Ranker, Scan, hits
from geoglot.archive.records import SceneRecord
from geoglot.archive.snapshot import NO_DATE, Arrays, Snapshot, load_snapshot, state_key
from geoglot.errors import ArchiveDamagedError, UsageError
from geoglot.imagery.reach import PUBLIC, Reach
from geoglot.models.card import Card
from geoglot.models.encoder import DualEncoder
from geoglot.scoring.calibration import Scorer
from geoglot.types import Bbox, Chip, Match, SceneInfo, TimeRange

if TYPE_CHECKING:
    from geoglot.archive.store import Store

BEST_OF = 20
"""Hits among which the best confidence is looked for: the highest cosine need not have the highest margin."""
UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """An archive in numbers.

    Attributes:
        path: Its folder.
        manifest: Model, preprocessing and chip grid.
        scenes, chips: How many.
        undated, unplaced: Scenes without a date; without a georeference.
        acquired: From the first to the last scene's date; None if no scene has one.
        gsd_m: (finest, coarsest) of the scenes; None if none is known.
        bbox_lonlat: Around all chips; -180 to 180 if any of them crosses the antimeridian; None if none has a place.
        sensors: Name -> scenes.
        size_bytes: Of all its files.
        snapshot: "on disk", or "in memory" when it could not be written.
    """

    path: Path
    manifest: Manifest
    scenes: int
    chips: int
    undated: int
    unplaced: int
    acquired: TimeRange | None
    gsd_m: tuple[float, float] | None
    bbox_lonlat: Bbox | None
    sensors: dict[str, int]
    size_bytes: int
    snapshot: str


class Archive:
    """One state of an archive, open for questions. Instances may be shared between threads.

    It goes on answering from the state it was opened on while others write; `newest` opens the next one.
    """

    def __init__(
        self, path: Path, manifest: Manifest, snapshot: Snapshot, encoder: DualEncoder | None, reach: Reach = PUBLIC
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.encoder = encoder
        self.reach = reach
        self._lock = threading.Lock()
        self._snapshot = snapshot
        self._scan = Scan(snapshot.arrays.vectors)
        self._scorer: Scorer | None = None
        self._store: Store | None = None

    @classmethod
    def create(cls, path: str | Path, card: Card, grid: dict[str, Any]) -> None:
        """Make an empty archive for a model and a chip grid (plain JSON values).

        Raises:
            ArchiveError: There is one already.
            UsageError: The folder holds other things.
            StorageError: The folder cannot be written.
        """
        from geoglot.archive.snapshot_writer import finish
        from geoglot.archive.store import Store

        with Store.create(path, Manifest.of(card, grid)) as store:
            finish(store)

    @classmethod
    def open(cls, path: str | Path, encoder: DualEncoder | None = None, reach: Reach = PUBLIC) -> Archive:
        """Open an archive's newest state. About 5 ms when its snapshot is current.

        Args:
            path: The archive.
            encoder: The model to ask with; without one only chips can be asked for ("more like this").
            reach: Where its scenes may lie, when they are opened again for their pixels.

        Raises:
            ArchiveNotFoundError, ArchiveVersionError, ArchiveDamagedError: See read_manifest.
            ArchiveMismatchError: The archive was built with another model.
        """
        path = Path(path)
        return cls(path, _manifest_for(path, encoder), open_snapshot(path), encoder, reach)

    def newest(self) -> Archive:
        """The archive at its newest settled state: this very object if there is none newer, else another one, prepared.

        For servers: while a writer is at work its commits are not followed one by one (each would cost a reading of
        the whole archive, see open_snapshot); they are seen when it has written the snapshot, or has ended without.

        Raises:
            ArchiveError: The archive is gone, or cannot be read.
        """
        key = state_key(self.path)
        if key == self._snapshot.key:
            return self
        snapshot = load_snapshot(self.path, key)
        if snapshot is None:
            from geoglot.archive.store import writer_active

            if writer_active(self.path) or state_key(self.path) != key:
                return self
            snapshot = open_snapshot(self.path)
        fresh = Archive(self.path, _manifest_for(self.path, self.encoder), snapshot, self.encoder, self.reach)
        if self.encoder is not None:
            fresh.prepare()
        return fresh

    @property
    def chip_count(self) -> int:
        """How many chips."""
        return len(self._snapshot)

    @property
    def state(self) -> str:
        """Names the state that is open; 16 hex digits."""
        return self._snapshot.key

    def prepare(self) -> None:
        """Measure the background now, so that the first search need not; needs an encoder."""
        if self.encoder is None:
            raise UsageError("the archive was opened without a model", hint="Archive.open(path, load_encoder(name))")
        if self.calibrated:
            self._measured_scorer()

    def scenes(self) -> Iterator[SceneRecord]:
        """Every scene, sorted by scene_id."""
        snapshot = self._snapshot
        return (snapshot.record(i) for i in range(snapshot.scene_count))

    def chip(self, chip_id: str) -> Chip | None:
        """A chip by its id."""
        snapshot = self._snapshot
        row = snapshot.find_chip(chip_id)
        return None if row is None else snapshot.chip(row)

    def chip_vector(self, chip_id: str) -> NDArray[np.float32] | None:
        """The unit vector of a chip, float32 [D], by its id."""
        snapshot = self._snapshot
        row = snapshot.find_chip(chip_id)
        return None if row is None else np.array(snapshot.arrays.vectors[row])

    def scene(self, scene_id: str) -> SceneInfo | None:
        """A scene by its id."""
        snapshot = self._snapshot
        at = snapshot.find_scene(scene_id)
        return None if at is None else snapshot.record(at).info

    def list_scenes(self, limit: int, after: str = "") -> tuple[SceneInfo, ...]:
        """At most `limit` scenes behind a scene_id, sorted by scene_id."""
        snapshot = self._snapshot
        start = int(np.searchsorted(snapshot.arrays.scene_ids, after, side="right")) if after else 0
        return tuple(snapshot.record(i).info for i in range(start, min(start + limit, snapshot.scene_count)))

    def list_chips(self, filter: Filter = Filter(), *, limit: int = 20, after: str = "") -> Listing:  # noqa: B008
        """Chips that a filter leaves, without a question, sorted by chip: scene_id, then window.

        Args:
            filter: Which chips.
            limit: Most chips to give, at least 1.
            after: A chip_id; only what comes behind it is listed, whether it is still there or not.

        Raises:
            UnknownNameError: The filter names a sensor or scene that is not there.
            UsageError: `limit` below 1, or `after` is not a chip_id.
        """
        return list_chips(self._snapshot, filter, limit, after)

    def heat(self, terms: str | Sequence[Term], frame: Frame, filter: Filter = Filter()) -> NDArray[np.float32]:  # noqa: B008
        """How much better than usual each place fits a question: float32 [H, W], see geoglot.archive.heat.

        Raises:
            QueryError, UnknownNameError, UsageError: As search.
        """
        snapshot = self._snapshot
        terms = parse_terms(terms) if isinstance(terms, str) else terms
        return heat_map(snapshot, query_vector(terms, self.encoder, snapshot), frame, filter)

    def query_vector(self, terms: Sequence[Term]) -> NDArray[np.float32]:
        """The unit vector that terms stand for, float32 [D].

        Raises:
            QueryError, UsageError: As search.
        """
        return query_vector(terms, self.encoder, self._snapshot)

    def vectors(self, filter: Filter = Filter()) -> ChipVectors:  # noqa: B008  frozen
        """The chips that a filter leaves, with their vectors.

        Raises:
            UnknownNameError: The filter names a sensor or scene that is not there.
        """
        return ChipVectors(self._snapshot, select(self._snapshot, filter).indices(len(self._snapshot)))

    def search(
        self,
        terms: str | Sequence[Term],
        filter: Filter = Filter(),  # noqa: B008  frozen
        *,
        limit: int = 20,
        offset: int = 0,
        merge: bool = True,
        exact_limit: int = EXACT_LIMIT,
        point: int = 0,
    ) -> SearchResult:
        """Ask. Filters run first; then all that is left is ranked.

        Args:
            terms: A query text (grammar: geoglot.archive.query) or terms.
            filter: Which chips may be found.
            limit: Most matches to give, at least 1.
            offset: How many of the best to leave out; `offset=limit` is the second page.
            merge: Fold hits that overlap a better hit of the same scene into it.
            exact_limit: Most chips to compare one by one before the approximate index is used.
            point: Look again, closer, at so many of the best chips: they are read from their scenes, ranked anew by
                what is found inside, and say where (`Match.spot`). See geoglot.archive.rerank.

        Raises:
            QueryError: The query cannot be run (EmptyQueryError, UnknownWordsError among them).
            UnknownNameError: The filter names a sensor or scene that is not there.
            UsageError: A number out of range, no encoder for a text, or pointing with a model that cannot.
            SourceError, SceneError: Of a scene that must be read again.
        """
        started = time.perf_counter()
        if limit < 1 or offset < 0 or point < 0:
            raise UsageError(
                f"limit {limit}, offset {offset}, point {point}: limit must be at least 1, the others at least 0"
            )
        snapshot = self._snapshot
        terms = parse_terms(terms) if isinstance(terms, str) else terms
        query = query_vector(terms, self.encoder, snapshot)
        selection = select(snapshot, filter)
        ranker, path = self._ranker(snapshot, query, selection, filter, exact_limit)
        skip = 0 if point else offset
        page = list(islice(hits(snapshot, ranker, selection, merge=merge), skip, max(offset + limit, point)))
        matches, nothing = self._matches(snapshot, query, ranker, page, skip)
        if point:
            matches = self._pointed(matches, query, point)[offset : offset + limit]
        return SearchResult(
            matches,
            nothing,
            selection.count,
            path,
            ranker.considered,
            time.perf_counter() - started,
            selection.undated,
            selection.unplaced,
            self.calibrated,
        )

    def _pointed(self, matches: tuple[Match, ...], query: NDArray[np.float32], count: int) -> tuple[Match, ...]:
        from geoglot.archive.rerank import pointed
        from geoglot.models.encoder import dense

        if self.encoder is None:
            raise UsageError("the archive was opened without a model", hint="Archive.open(path, load_encoder(name))")
        return (*pointed(matches[:count], query, dense(self.encoder), self.reach), *matches[count:])

    def _ranker(
        self,
        snapshot: Snapshot,
        query: NDArray[np.float32],
        selection: Selection,
        filter: Filter,
        exact_limit: int,
    ) -> tuple[Ranker, Any]:
        if selection.count > exact_limit:
            store = self._open_store()
            if store.has_index():
                from geoglot.archive.ann import AnnRanker

                return AnnRanker(store, snapshot, query, selection, filter), "ann"
        return ExactRanker(self._scan, query, selection), "exact"

    def _open_store(self) -> Store:
        from geoglot.archive.store import Store

        with self._lock:
            if self._store is None:
                self._store = Store.open(self.path)
            return self._store

    def _matches(
        self, snapshot: Snapshot, query: NDArray[np.float32], ranker: Ranker, page: list[Hit], offset: int
    ) -> tuple[tuple[Match, ...], bool]:
        """Matches with their confidences, and whether nothing matches; without a calibration neither is known."""
        likely: list[float | None] = [None] * len(page)
        nothing = False
        if self.calibrated:
            scorer, vectors = self._measured_scorer(), snapshot.arrays.vectors
            best = scorer.confidences(vectors[ranker.top(BEST_OF)[0]], query)
            nothing = not (len(best) and float(best.max()) >= scorer.calibration.threshold)
            rows = np.array([hit.row for hit in page], dtype=np.int64)
            likely = list(scorer.confidences(vectors[rows], query).tolist())
        return tuple(
            Match(
                offset + i + 1,
                hit.score,
                confidence,
                snapshot.chip(hit.row),
                snapshot.record(snapshot.scene_of(hit.row)).info,
                hit.merged,
            )
            for i, (hit, confidence) in enumerate(zip(page, likely, strict=True))
        ), nothing

    @property
    def calibrated(self) -> bool:
        """Whether answers carry confidences; False for a model whose card has no calibration."""
        return self.encoder is None or self.encoder.card.calibrated

    def _measured_scorer(self) -> Scorer:
        with self._lock:
            if self._scorer is None:
                self._scorer = load_scorer(self._snapshot, self.encoder)
            return self._scorer

    def info(self) -> ArchiveInfo:
        """Counts and extents. Reads every chip's box."""
        snapshot = self._snapshot
        a = snapshot.arrays
        dates = a.acquired[a.acquired != NO_DATE]
        gsd_m = a.gsd_m[~np.isnan(a.gsd_m)]
        return ArchiveInfo(
            self.path,
            self.manifest,
            snapshot.scene_count,
            len(snapshot),
            int(np.count_nonzero(a.acquired == NO_DATE)),
            int(np.count_nonzero(np.isnan(a.gsd_m))),
            TimeRange(_instant(dates.min()), _instant(dates.max())) if len(dates) else None,
            (float(gsd_m.min()), float(gsd_m.max())) if len(gsd_m) else None,
            _extent(a.boxes),
            {name: int(np.count_nonzero(a.sensor == i)) for i, name in enumerate(a.sensors.tolist())},
            folder_bytes(self.path),
            "on disk" if snapshot.folder else "in memory",
        )

    def check(self) -> list[str]:
        """Everything that is wrong, in sentences; empty when all is well. Reads the whole archive.

        Looks for: scenes with more or fewer chips than they should have, leftovers of interrupted work, vectors that
        are not unit, a snapshot that differs from the tables, and scenes whose file is gone.
        """
        from geoglot.archive.snapshot_writer import freeze
        from geoglot.archive.store import Store

        problems = []
        with Store.open(self.path) as store:
            try:
                fresh = freeze(store)
            except ArchiveDamagedError as error:
                return [str(error)]
            if leftovers := store.count_rows() - len(fresh):
                problems.append(f"{leftovers} chips are left from interrupted or replaced work; indexing deletes them")
        norms = np.linalg.norm(fresh.arrays.vectors, axis=1)
        if bad := int(np.count_nonzero(~(np.abs(norms - 1) <= UNIT_TOLERANCE))):
            problems.append(f"{bad} vectors are not unit")
        if fresh.key == self._snapshot.key and not _same(fresh.arrays, self._snapshot.arrays):
            problems.append("the snapshot differs from the tables; delete the folder snapshot in the archive")
        infos = [fresh.record(i).info for i in range(fresh.scene_count)]
        return problems + [f"scene {i.name}: its file {i.uri} is gone" for i in infos if _is_gone(i.uri)]


def open_snapshot(folder: Path) -> Snapshot:
    """The archive's newest state: mapped if its snapshot is there, otherwise read from the tables (seconds a million).

    Raises:
        ArchiveDamagedError: The tables cannot be read or contradict each other.
    """
    if (snapshot := load_snapshot(folder, state_key(folder))) is not None:
        return snapshot
    from geoglot.archive.snapshot_writer import freeze_newest

    return freeze_newest(folder)


def _manifest_for(path: Path, encoder: DualEncoder | None) -> Manifest:
    manifest = read_manifest(path)
    if encoder is not None:
        manifest.check(encoder.card)
    return manifest


def _same(a: Arrays, b: Arrays) -> bool:
    pairs = ((getattr(a, f.name), getattr(b, f.name)) for f in fields(Arrays))
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in pairs)


def _is_gone(uri: str) -> bool:
    return "://" not in uri and not uri.startswith("/vsi") and not os.path.exists(uri)  # noqa: PTH110  any text


def _instant(microseconds: Any) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; files that go away meanwhile, as a growing archive's do, count as nothing."""
    total = 0
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return 0
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            total += folder_bytes(Path(entry.path))
            continue
        with suppress(FileNotFoundError):
            total += entry.stat(follow_symlinks=False).st_size
    return total


def _extent(boxes: NDArray[np.float64]) -> Bbox | None:
    west, south, east, north = boxes[:, ~np.isnan(boxes[0])]
    if not len(west):
        return None
    crossing = bool((west > east).any())
    sides = (-180.0, 180.0) if crossing else (float(west.min()), float(east.max()))
    return Bbox(sides[0], float(south.min()), sides[1], float(north.max()))
