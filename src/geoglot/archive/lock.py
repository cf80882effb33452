"""One writer at a time: a lock on `writer.lock` that the system lets go when its process ends, however it ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from geoglot.errors import ArchiveBusyError, StorageError

LOCK_FILE = "writer.lock"
# A reader that asks `writer_active` holds the lock for microseconds; a writer waits this long before it gives up.
PATIENCE_S = 0.5
_FAR = 1 << 30  # Windows locks byte ranges: one far behind the text, so that others can still read who holds it

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class WriterLock:
    """Held from construction until `release`. Not inherited by programs that this process starts.

    Raises:
        ArchiveBusyError: Another process (or another writer of this one) holds it; names the process id.
        StorageError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK_FILE
        try:
            self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error}", hint="Check the folder's permissions.") from error
        self._take(self._handle, path)
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def _take(self, handle: int, path: Path) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return _lock(handle)
            except OSError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                self.release()
                raise ArchiveBusyError(
                    f"process {_holder(path)} is writing to {path.parent}",
                    hint="Wait until it is done; searching is possible meanwhile.",
                ) from None

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def writer_active(folder: Path) -> bool:
    """True when a writer holds the lock right now. Never creates the file."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDWR)
    except OSError:
        return False  # no file: nobody ever wrote; not ours to open: nothing here can be written by us anyway
    try:
        _lock(handle)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _holder(path: Path) -> str:
    try:
        return path.read_text("ascii").strip() or "(unknown)"
    except (OSError, UnicodeDecodeError):
        return "(unknown)"
