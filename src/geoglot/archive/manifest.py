"""The manifest: which model, preprocessing and chip grid an archive was built with (`archive.json`)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geoglot.errors import (
    ArchiveDamagedError,
    ArchiveMismatchError,
    ArchiveNotFoundError,
    ArchiveVersionError,
)
from geoglot.files import write_atomically
from geoglot.models.card import Card
from geoglot.version import __version__

FORMAT_VERSION = 1
MANIFEST_FILE = "archive.json"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of how an archive was made.

    Attributes:
        model: The model's name, as a user types it.
        fingerprint: Card.fingerprint; vectors are comparable only when it is equal.
        dim: D, the width of the vectors.
        image_px: S, the side of the model's input.
        grid: The chip grid as plain JSON values.
        created: UTC, whole seconds.
        geoglot: Version that created the archive.
        format_version: Layout of the folder; a newer one is refused.
    """

    model: str
    fingerprint: str
    dim: int
    image_px: int
    grid: dict[str, Any] = field(default_factory=dict)
    created: datetime = field(default_factory=_now)
    geoglot: str = __version__
    format_version: int = FORMAT_VERSION

    @classmethod
    def of(cls, card: Card, grid: dict[str, Any]) -> Manifest:
        """The manifest of a new archive; the grid is normalised to what JSON gives back (tuples become lists)."""
        return cls(card.name, card.fingerprint, card.dim, card.image_px, json.loads(json.dumps(grid)))

    def check(self, card: Card, grid: dict[str, Any] | None = None) -> None:
        """Refuse a model, or a chip grid if one is given, that differs from the archive's.

        Raises:
            ArchiveMismatchError: Says what differs, and what to do.
        """
        mine = (self.fingerprint, self.dim, self.image_px)
        if mine != (card.fingerprint, card.dim, card.image_px):
            raise ArchiveMismatchError(
                f"the archive was built with model {self.model!r} ({self.fingerprint}, {self.dim} wide, "
                f"{self.image_px} px), not {card.name!r} ({card.fingerprint}, {card.dim} wide, {card.image_px} px)",
                hint=f"Index the scenes again into a new archive{self._or_the_old_model(card)}.",
            )
        if grid is not None and (given := json.loads(json.dumps(grid))) != self.grid:
            differ = sorted(k for k in self.grid.keys() | given.keys() if self.grid.get(k) != given.get(k))
            listing = ", ".join(f"{k}: {self.grid.get(k)!r} there, {given.get(k)!r} given" for k in differ)
            raise ArchiveMismatchError(
                f"the archive was built with another chip grid ({listing})",
                hint="Leave the grid options out to use the archive's, or index into a new archive.",
            )

    def _or_the_old_model(self, card: Card) -> str:
        """A model may change and keep its name; then nothing else is left to choose."""
        return "" if self.model == card.name else f" with {card.name!r}, or use model {self.model!r}"


def read_manifest(folder: Path) -> Manifest:
    """Read `archive.json` of an archive folder.

    Raises:
        ArchiveNotFoundError: There is none.
        ArchiveVersionError: Written by a newer geoglot.
        ArchiveDamagedError: It cannot be read.
    """
    path = folder / MANIFEST_FILE
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveNotFoundError(
            f"no archive at {folder}", hint="Make one with `geoglot index`, or give its path with --archive."
        ) from error
    except (OSError, ValueError) as error:
        raise ArchiveDamagedError(
            f"{path} cannot be read: {error}", hint="Index the scenes again into a new archive."
        ) from error
    return _parse(path, raw)


def _parse(path: Path, raw: Any) -> Manifest:
    try:
        version = int(raw["format_version"])
        if version > FORMAT_VERSION:
            raise ArchiveVersionError(
                f"{path.parent} has format version {version}; geoglot {__version__} reads up to {FORMAT_VERSION}",
                hint=f"Upgrade geoglot (the archive was written by {raw.get('geoglot', 'a newer one')}).",
            )
        raw = {**raw, "created": datetime.fromisoformat(raw["created"]), "format_version": version}
        manifest = Manifest(**raw)
        if not (isinstance(manifest.grid, dict) and isinstance(manifest.dim, int) and manifest.dim > 0):
            raise ValueError("grid or dim has the wrong type")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArchiveDamagedError(
            f"{path} is not a valid manifest: {error!r}", hint="Index the scenes again into a new archive."
        ) from error
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `archive.json` whole or not at all.

    Raises:
        StorageError: The folder cannot be written.
    """
    raw = {**asdict(manifest), "created": manifest.created.isoformat()}
    write_atomically(folder / MANIFEST_FILE, json.dumps(raw, indent=1, ensure_ascii=False).encode())
