"""Where models live on this machine: one folder each under `<home>/models`, made whole or not at all.

A model is written into a hidden folder beside its place and renamed when it is complete, so a reader never sees half a
model, and an interrupted write leaves only something that the next write of that model clears away.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geoglot.errors import ModelBusyError, StorageError, UsageError
from geoglot.files import take_lock
from geoglot.models.card import CARD_FILE

HOME_VARIABLE = "GEOGLOT_HOME"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def home() -> Path:
    """$GEOGLOT_HOME, or geoglot's folder among the platform's data folders."""
    if named := os.environ.get(HOME_VARIABLE):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "geoglot"


def place(name: str) -> Path:
    """The folder of a model, there or not.

    Raises:
        UsageError: The name cannot be a folder's name everywhere.
    """
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise UsageError(
            f"{name!r} cannot be a model's name", hint="Use small letters, digits, dots, hyphens and underscores."
        )
    return home() / "models" / name


def is_installed(name: str) -> bool:
    """Whether a model of this name lies in the store."""
    return bool(_NAME.fullmatch(name)) and (home() / "models" / name / CARD_FILE).is_file()


def installed_models() -> tuple[str, ...]:
    """Names of the models in the store, sorted."""
    folder = home() / "models"
    found = folder.iterdir() if folder.is_dir() else ()
    return tuple(sorted(path.name for path in found if is_installed(path.name)))


def downloads(name: str) -> Path:
    """Where files of a model wait until it is whole; kept when a download breaks off, so that it can go on."""
    return home() / "downloads" / place(name).name


@contextmanager
def writing(name: str) -> Iterator[Path]:
    """A folder to write a model into; it takes the model's place when the block ends well, and vanishes otherwise.

    Raises:
        ModelBusyError: Another process is writing this model.
        StorageError: The store cannot be written.
    """
    target = place(name)
    with locked(name):
        work = _fresh(target)
        try:
            yield work
            _swap(work, target)
        except OSError as error:
            raise StorageError(f"cannot write {error.filename or target}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time per model. The system lets go when the process ends, however it ends.

    Raises:
        ModelBusyError: Another process holds it.
        StorageError: The store cannot be written.
    """
    target = place(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = take_lock(target.parent / f".{name}.lock")
    except OSError as error:
        raise StorageError(
            f"cannot write {target.parent}: {error.strerror or error}", hint=f"Set {HOME_VARIABLE} to another folder."
        ) from error
    if lock is None:
        raise ModelBusyError(f"another process is writing model {name!r}", hint="Wait until it is done.")
    try:
        yield
    finally:
        lock.release()


def _fresh(target: Path) -> Path:
    """An empty hidden folder beside the model's place; leftovers of earlier ones go. Needs the lock."""
    for old in target.parent.glob(f".{target.name}.part-*"):
        shutil.rmtree(old, ignore_errors=True)
    work = target.parent / f".{target.name}.part-{secrets.token_hex(4)}"
    try:
        work.mkdir()
    except OSError as error:
        raise StorageError(f"cannot write {work.parent}: {error.strerror or error}") from error
    return work


def _swap(work: Path, target: Path) -> None:
    old = target.parent / f".{target.name}.part-old"
    if target.exists():
        target.rename(old)
    work.rename(target)
    shutil.rmtree(old, ignore_errors=True)
