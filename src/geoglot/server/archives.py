"""The archives of a server: opened once, followed as they grow, replaced whole and never changed.

A request takes one `Archive` and works on it to its end, whatever happens to the pool meanwhile.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geoglot.archive.archive import Archive
from geoglot.archive.manifest import read_manifest
from geoglot.errors import ArchiveError, GeoglotError, NotThereError, UsageError
from geoglot.imagery.reach import Reach
from geoglot.models.encoder import DualEncoder
from geoglot.models.load import load_encoder

HELD = 3
"""States of an archive that are held, so that the pages of one answer come from one state."""
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,63})=(.+)")
_log = logging.getLogger("geoglot.server")


@dataclass(frozen=True, slots=True)
class ServedArchive:
    """An archive under the name of its collection.

    Attributes:
        states: The newest first.
        trouble: Why it cannot be used now; None when it can.
    """

    name: str
    states: tuple[Archive, ...]
    trouble: GeoglotError | None = None

    @property
    def archive(self) -> Archive:
        """The newest state.

        Raises:
            ArchiveError: It is gone, or cannot be read.
        """
        if self.trouble is not None:
            raise self.trouble
        return self.states[0]

    def at(self, state: str | None) -> tuple[Archive, bool]:
        """The archive at a state, and whether that state was still there; else at the newest."""
        newest = self.archive
        found = next((held for held in self.states if held.state == state), None)
        return newest if found is None else found, found is not None or state is None


def named_archives(words: Sequence[str]) -> dict[str, Path]:
    """`PATH` or `NAME=PATH` to names and folders; a folder's own name serves where none is given.

    Raises:
        UsageError: Two have the same name, or a name cannot be made.
    """
    found: dict[str, Path] = {}
    for word in words:
        match = None if Path(word).is_dir() else _NAMED.fullmatch(word)
        path = Path(match[2] if match else word)
        name = match[1] if match else re.sub(r"[^A-Za-z0-9_-]+", "-", path.resolve().name).strip("-_")[:64]
        if not name or name in found:
            raise UsageError(f"{word!r} needs a name of its own, not {name!r}", hint=f"Write NAME={path}")
        found[name] = path
    return found


class ArchivePool:
    """Archives by name. Made once; `follow` looks whether they have grown.

    Args:
        archives: Name -> folder.
        load: Makes an encoder from a model's name; archives of one model share it.
    """

    def __init__(self, archives: dict[str, Path], load: Callable[[str], DualEncoder] = load_encoder) -> None:
        self._encoders: dict[str, DualEncoder] = {}
        self._load = load
        self._paths = dict(archives)
        self._entries = {name: ServedArchive(name, (self._open(path),)) for name, path in archives.items()}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def _open(self, path: Path) -> Archive:
        model = read_manifest(path).model
        if model not in self._encoders:
            self._encoders[model] = self._load(model)
        archive = Archive.open(path, self._encoders[model])
        archive.prepare()
        return archive

    def hold_to(self, reach: Reach) -> None:
        """Let scenes be opened only within a reach: those of the states at hand, and so of the later ones."""
        for entry in self._entries.values():
            for state in entry.states:
                state.reach = reach

    def entries(self) -> tuple[ServedArchive, ...]:
        """All of them, in the order they were given."""
        return tuple(self._entries.values())

    def served(self, name: str) -> ServedArchive:
        """One by name.

        Raises:
            NotThereError: There is none.
        """
        if name not in self._entries:
            known = ", ".join(self._entries)
            raise NotThereError(f"there is no collection {name[:80]!r}", hint=f"Known: {known}.")
        return self._entries[name]

    def follow(self) -> None:
        """Move each archive to its newest state; note which cannot be used."""
        for name, served in list(self._entries.items()):
            fresh = self._followed(served)
            if fresh is not served:
                self._entries[name] = fresh

    def _followed(self, served: ServedArchive) -> ServedArchive:
        try:
            read_manifest(self._paths[served.name])
            newest = served.states[0].newest()
        except (ArchiveError, OSError) as error:
            if served.trouble is None:
                _log.error("archive is out of use", extra={"collection": served.name, "error": str(error)})
            return replace(served, trouble=_as_archive_error(error))
        if newest is served.states[0]:
            return served if served.trouble is None else replace(served, trouble=None)
        _log.info("archive has grown", extra={"collection": served.name, "state": newest.state})
        return ServedArchive(served.name, (newest, *served.states[: HELD - 1]))

    def start(self, every_s: float) -> None:
        """Follow in a thread of its own until `stop`."""

        def loop() -> None:
            while not self._stop.wait(every_s):
                self.follow()

        self._thread = threading.Thread(target=loop, name="follow", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End following."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)


def _as_archive_error(error: ArchiveError | OSError) -> GeoglotError:
    if isinstance(error, ArchiveError):
        return error
    return ArchiveError(f"the archive cannot be read: {error.strerror or error}", hint="The operator must look at it.")
