"""Files that are whole or not there: replace one atomically, lock one between processes, take its checksum."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from geoglot.errors import StorageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

ABANDONED_S = 3600.0
"""A scratch folder this old belongs to a process that was killed while it wrote."""


@contextmanager
def replacing(path: Path, *, hint: str = "Free some space or choose another folder.") -> Iterator[Path]:
    """Replace a file so that a crash at any moment leaves the old or the new one; several processes may do it at once.

    Yields:
        A path of the same name in a scratch folder beside `path`, to write to. It takes the place of `path` at the end
        of the block, flushed to disk; where the block fails, `path` stays as it is.

    Raises:
        StorageError: The disk is full or the folder cannot be written; carries `hint`.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        try:
            yield scratch / path.name
            with (scratch / path.name).open("rb+") as stream:
                os.fsync(stream.fileno())
            (scratch / path.name).replace(path)
        finally:
            _remove(scratch)
            _remove_abandoned(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}", hint=hint) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a small file as `replacing` does.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(content)


def _remove(scratch: Path) -> None:
    from shutil import rmtree

    rmtree(scratch, ignore_errors=True)


def _remove_abandoned(path: Path) -> None:
    prefix, now = f".{path.name}.", time.time()
    for entry in path.parent.iterdir():
        if entry.name.startswith(prefix) and entry.suffix == ".part" and now - entry.lstat().st_mtime > ABANDONED_S:
            _remove(entry)


def take_lock(path: Path, *, wait_s: float = 0.0) -> BaseFileLock | None:
    """The lock on a file, held until `release()` or the end of the process, however it ends; None if another has it.

    Args:
        path: Made if it is not there; its content is left alone. Only its folder must exist.
        wait_s: How long to wait for whoever holds it.

    Raises:
        StorageError: The folder cannot be written.
    """
    from filelock import FileLock, Timeout  # 0.1 s

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        return None
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}", hint="Check the folder's permissions.") from error
    return lock


def is_locked(path: Path) -> bool:
    """True when a process holds the lock right now. Never makes the file; one that we may not open counts as free."""
    if not path.is_file():
        return False
    try:
        lock = take_lock(path)
    except StorageError:
        return False
    if lock is None:
        return True
    lock.release()
    return False


def sha256(path: Path) -> str:
    """Hex digest of a file; constant memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
