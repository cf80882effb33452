"""Ingest: scenes -> chips -> vectors -> store, each stage running ahead of the next.

Reading and encoding run in threads of their own; the calling thread writes, so that the store and `on_progress` are
only ever touched by the caller. Each scene becomes visible in one commit, so a run may end at any moment, even by
kill -9, and be repeated: what was committed is skipped, what was in flight is read again.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from geoglot.archive.ingest_plan import (
    Listing,
    Plan,
    Spec,
    dropped_uris,
    list_sources,
    make_plan,
    merged_listings,
    read_listings,
    write_listings,
)
from geoglot.archive.ingest_report import Failure, IngestReport, Progress, StageClock, write_report
from geoglot.archive.ingest_stages import (
    BATCH,
    Bounds,
    ChipRead,
    ChipsEncoded,
    Mark,
    SceneDone,
    SceneFailed,
    SceneStarts,
    encode_chips,
    read_scenes,
)
from geoglot.archive.manifest import Manifest, read_manifest
from geoglot.archive.snapshot_writer import finish
from geoglot.archive.staging import StagedScene
from geoglot.archive.store import Store
from geoglot.errors import ArchiveMismatchError, ArchiveNotFoundError, UnknownNameError
from geoglot.imagery.addresses import Source
from geoglot.imagery.grid import ChipGrid
from geoglot.imagery.limits import Limits
from geoglot.imagery.reach import Reach, given
from geoglot.models.card import Card
from geoglot.models.encoder import DualEncoder
from geoglot.pipeline import Stages
from geoglot.types import SceneInfo

BELT_BYTES = 8 << 20
"""Pixels that may wait for the encoder; the same again for vectors that wait for the store. 220 chips of 112 px, half
a second of encoding; a longer belt only costs memory."""

CHIP_BYTES = 1500
"""The memory of a Chip beside its vector, about: five objects, two strings, a ring of five points."""


def ingest(
    archive_path: str | Path,
    specs: Spec | Iterable[Spec],
    encoder: DualEncoder,
    grid: ChipGrid | None = None,
    *,
    prune: bool = True,
    dry_run: bool = False,
    limits: Limits | None = None,
    reach: Reach | None = None,
    batch: int = BATCH,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Bring an archive up to date with folders, files, globs or STAC documents; make the archive if there is none.

    Unchanged scenes are skipped, changed ones replaced. A scene that cannot be used is skipped and stands in the
    report's `failed`; what the archive held of it before stays searchable.

    Args:
        archive_path: Folder of the archive.
        specs: One or many of what `find_sources` takes, or sources.
        encoder: Must be the model that the archive was built with.
        grid: How scenes are cut; default: the archive's own grid, or `default_grid` for a new archive.
        prune: Drop scenes whose file is gone from an indexed folder or glob, or that a STAC document no longer lists.
        dry_run: Only say what would be done; reads no pixels and writes nothing.
        limits: Largest scenes to accept; default `Limits()`.
        reach: Where scenes may lie; default: folders, and servers, that the specs name, and public servers.
        batch: Chips per call of the encoder.
        on_progress: Called in the calling thread as chips and scenes are written.

    Returns:
        The report, which is also written to `<archive>/runs/`.

    Raises:
        SourceError: A spec stands for nothing.
        ArchiveMismatchError: The archive was built with another model or grid.
        ArchiveBusyError: Another process is writing to it.
        StorageError: The disk is full; what was committed is kept.
    """
    folder = Path(archive_path)
    specs = [specs] if isinstance(specs, (str, Path, Source)) else list(specs)
    reach = reach or given(*(spec.uri if isinstance(spec, Source) else str(spec) for spec in specs))
    run = _Run(folder, list_sources(specs, reach), prune, Bounds(limits or Limits(), reach), on_progress)
    if dry_run:
        return run.rehearse(encoder.card, grid)
    with _open_or_create(folder, encoder.card, grid) as store:
        run.carry_out(store, encoder, batch)
        report = run.report(encoder.card, store.manifest)
        write_report(report)
    return report


def default_grid(card: Card) -> ChipGrid:
    """The grid of a new archive: the standard one with the ground sizes that suit the model."""
    return ChipGrid(ground_m=card.ground_m) if card.ground_m else ChipGrid()


def _open_or_create(folder: Path, card: Card, grid: ChipGrid | None) -> Store:
    """The archive, open for writing and fit for this model and grid."""
    try:
        store = Store.open(folder, write=True)
    except ArchiveNotFoundError:
        return Store.create(folder, _new_manifest(card, grid))
    try:
        _check(store.manifest, card, grid)
    except ArchiveMismatchError:
        store.close()
        raise
    return store


def _new_manifest(card: Card, grid: ChipGrid | None) -> Manifest:
    return Manifest.of(card, (grid or default_grid(card)).to_dict())


def _check(manifest: Manifest, card: Card, grid: ChipGrid | None) -> None:
    manifest.check(card, grid.to_dict() if grid else None)


class _Run:
    """One ingest on its way: what was planned and what came of it."""

    def __init__(
        self,
        folder: Path,
        listing: Listing,
        prune: bool,
        bounds: Bounds,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._folder = folder
        self._listing = listing
        self._prune = prune
        self._bounds = bounds
        self._on_progress = on_progress
        self._started = time.perf_counter()
        self._started_at = datetime.now(UTC)
        self._clock = StageClock()
        self._plan = Plan()
        self._written: list[str] = []
        self._removed: tuple[str, ...] = ()
        self._failed: list[Failure] = []
        self._chips = self._encoded = self._empty = 0

    def rehearse(self, card: Card, grid: ChipGrid | None) -> IngestReport:
        """Plan only; the report says what would be done."""
        try:
            manifest = read_manifest(self._folder)
        except ArchiveNotFoundError:
            manifest = _new_manifest(card, grid)
            self._make_plan([])
        else:
            _check(manifest, card, grid)
            with Store.open(self._folder) as store:
                self._make_plan(record.info for record in store.scenes().values())
        self._written = [source.uri for source in self._plan.todo]
        self._removed = self._plan.removed
        return self.report(card, manifest, dry_run=True)

    def carry_out(self, store: Store, encoder: DualEncoder, batch: int) -> None:
        """Plan, write, remove, tidy up."""
        scenes = store.scenes()
        listings = self._make_plan(record.info for record in scenes.values())
        # First with all that was ever listed: if this run is killed, the next still knows what to drop.
        self._remember(listings, keep=True)
        self._write_scenes(store, encoder, batch)
        with self._clock.time("write"):
            gone = set(self._plan.removed)
            store.remove_scenes(key for key, record in scenes.items() if record.info.uri in gone)
            self._removed = self._plan.removed
            self._remember(listings, keep=not self._prune)
            finish(store)

    def _make_plan(self, scenes: Iterable[SceneInfo]) -> dict[str, tuple[str, ...]]:
        listings = read_listings(self._folder)
        dropped = dropped_uris(listings, self._listing)
        self._plan = make_plan(self._listing, scenes, dropped, self._bounds.reach, prune=self._prune)
        self._failed += self._plan.failed
        return listings

    def _remember(self, listings: dict[str, tuple[str, ...]], *, keep: bool) -> None:
        if self._listing.documents:
            write_listings(self._folder, merged_listings(listings, self._listing, keep=keep))

    def _write_scenes(self, store: Store, encoder: DualEncoder, batch: int) -> None:
        grid, size = ChipGrid.from_dict(store.manifest.grid), encoder.card.image_px
        with Stages(BELT_BYTES) as stages:
            read = stages.ahead(read_scenes(self._plan.todo, grid, size, self._bounds, self._clock), _weigh)
            encoded = stages.ahead(encode_chips(read, encoder, self._clock, batch), _weigh)
            staged: StagedScene | None = None
            for event in encoded:
                staged = self._write(event, store, staged)

    def _write(self, event: Mark | ChipsEncoded, store: Store, staged: StagedScene | None) -> StagedScene | None:
        """Take one event; returns the scene that is open after it. One that is let go of was never visible."""
        match event:
            case SceneStarts(info):
                return StagedScene(store, info)
            case ChipsEncoded(chips, vectors) if staged:
                with self._clock.time("write"):
                    staged.append(chips, vectors)
                self._encoded += len(chips)
                self._tell(staged.info.uri)
                return staged
            case SceneDone(uri, empty) if staged:
                with self._clock.time("write"):
                    staged.commit()
                self._written.append(uri)
                self._chips += staged.count
                self._empty += empty
                self._tell(uri)
            case SceneFailed(failure):
                self._failed.append(failure)
                self._tell(failure.uri)
        return None

    def _tell(self, uri: str) -> None:
        if self._on_progress:
            done = len(self._plan.unchanged) + len(self._written) + len(self._failed)
            elapsed_s = time.perf_counter() - self._started
            self._on_progress(Progress(done, len(self._listing.sources), self._encoded, uri, elapsed_s))

    def report(self, card: Card, manifest: Manifest, *, dry_run: bool = False) -> IngestReport:
        """The report so far."""
        return IngestReport(
            archive=str(self._folder),
            started=self._started_at.isoformat(timespec="seconds"),
            model={"name": card.name, "version": card.version, "fingerprint": card.fingerprint},
            grid=manifest.grid,
            seen=len(self._listing.sources),
            added=tuple(uri for uri in self._written if uri in self._plan.added),
            replaced=tuple(uri for uri in self._written if uri in self._plan.replaced),
            unchanged=self._plan.unchanged,
            removed=self._removed,
            failed=tuple(self._failed),
            chips=self._chips,
            chips_empty=self._empty,
            elapsed_s=time.perf_counter() - self._started,
            seconds=dict(self._clock.seconds),
            dry_run=dry_run,
        )


def _weigh(event: Mark | ChipRead | ChipsEncoded) -> int:
    match event:
        case ChipRead(_, image):
            return image.nbytes + CHIP_BYTES
        case ChipsEncoded(chips, vectors):
            return vectors.nbytes + CHIP_BYTES * len(chips)
        case _:
            return CHIP_BYTES


def remove_scenes(archive_path: str | Path, names: Sequence[str]) -> tuple[SceneInfo, ...]:
    """Drop scenes and their chips, all in one commit; the files themselves are not touched.

    Args:
        archive_path: Folder of the archive.
        names: Scene ids, file names, paths or URLs, or shell patterns of these. A folder stands for all it holds.

    Returns:
        The scenes dropped, sorted by path.

    Raises:
        UnknownNameError: A name stands for no scene; then nothing is dropped.
        ArchiveBusyError: Another process is writing.
    """
    with Store.open(archive_path, write=True) as store:
        scenes = [record.info for record in store.scenes().values()]
        gone = {info.scene_id: info for name in names for info in _named(name, scenes)}
        store.remove_scenes(gone)
        finish(store)
    return tuple(sorted(gone.values(), key=lambda info: info.uri))


def _named(name: str, scenes: Sequence[SceneInfo]) -> list[SceneInfo]:
    """Scenes of that very name first: a file may well be called `a[1].tif`."""
    path = Path(name).expanduser().absolute()
    exact, patterns = {name, str(path)}, (name, str(path))
    named = [i for i in scenes if exact & {i.scene_id, i.name, i.uri} or path in Path(i.uri).parents]
    if not named:
        named = [i for i in scenes if any(fnmatch.fnmatchcase(t, p) for t in (i.name, i.uri) for p in patterns)]
    if not named:
        raise UnknownNameError("scene", name, [info.name for info in scenes[:200]])
    return named
