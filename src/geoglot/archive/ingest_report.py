"""The report of an ingest: a value for people and programs, kept as JSON in the archive's `runs` folder."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geoglot.errors import GeoglotError, StorageError

RUNS_FOLDER = "runs"


@dataclass(frozen=True, slots=True)
class Failure:
    """A scene that was skipped.

    Attributes:
        uri: Its path or URL.
        error: Name of the error's class, e.g. "UnreadableSceneError".
        message: What happened.
        hint: What to do, or an empty string.
    """

    uri: str
    error: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, uri: str, error: GeoglotError) -> Failure:
        """From what was raised."""
        return cls(uri, type(error).__name__, str(error), error.hint)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingest has come.

    Attributes:
        done, scenes: Scenes finished (written, failed or unchanged), and all that were listed.
        chips: Chips encoded so far.
        uri: The scene that is being written.
        elapsed_s: Since the start.
    """

    done: int
    scenes: int
    chips: int
    uri: str
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The report of an ingest; with `dry_run`, what it would do.

    Attributes:
        archive: Path of the archive.
        started: ISO 8601, UTC.
        model: Name, version and fingerprint of the encoder's card.
        grid: The chip grid as plain data.
        seen: How many scenes the specs list.
        added, replaced, unchanged, removed: URIs of scenes.
        failed: Scenes that were skipped, with the reason. What the archive held of them before, it still holds.
        chips: Chips written.
        chips_empty: Chips left out because too few of their pixels are valid.
        elapsed_s: From the first listing to the last write.
        seconds: Time each stage worked ("read", "encode", "write"); they overlap, so their sum may exceed elapsed_s.
        dry_run: Nothing was read or written.
    """

    archive: str
    started: str
    model: dict[str, str]
    grid: dict[str, Any]
    seen: int
    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    chips: int = 0
    chips_empty: int = 0
    elapsed_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    dry_run: bool = False

    @property
    def chips_per_s(self) -> float:
        """Chips written per second of the whole run."""
        return self.chips / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "chips_per_s": round(self.chips_per_s, 2)}


def write_report(report: IngestReport) -> Path:
    """Write `<archive>/runs/<UTC time>.json`; each run has a file of its own.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    folder = Path(report.archive) / RUNS_FOLDER
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    try:
        folder.mkdir(exist_ok=True)
        path.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot write the run report {path}: {error.strerror}", hint="Make room; what was indexed is kept."
        ) from error
    return path


class StageClock:
    """Seconds per stage; each stage runs in one thread, so that no two threads touch the same name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Count the time spent in the block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started
