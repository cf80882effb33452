"""One file that carries a model to a machine without a network: a plain tar of its folder, with checksums.

A bundle may come from a stranger. Only plain files with plain names directly in the tar are accepted, each once, within
a size limit, and nothing takes a place in the store before every checksum was compared.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

from geoglot.errors import ModelFileError, UsageError
from geoglot.files import replacing, sha256
from geoglot.models.card import CARD_FILE, Card, read_card
from geoglot.models.zoo.registry import find_card
from geoglot.models.zoo.store import place, writing

SUMS_FILE = "SHA256SUMS"  # as `sha256sum -c` reads it; covers the card, too
MAX_FILES = 64
MAX_BYTES = 20_000_000_000
MAX_CARD_BYTES = 10_000_000


def bundle(name: str, out: Path | None = None) -> Path:
    """Write a model into one tar; checks every file first. The same model gives the same bytes.

    Args:
        name: See `find_card`; the model must be on this machine.
        out: The file, or a folder for `<name>.tar`; default here.

    Raises:
        ModelNotFoundError, ModelFileError: No such model, or not whole.
        UsageError: The file is there already.
        StorageError: It cannot be written.
    """
    card = find_card(name)
    card.file(next(iter(card.files), "weights"))
    card.verify()
    target = (out or Path()) / f"{card.name}.tar" if out is None or out.is_dir() else out
    if target.exists():
        raise UsageError(f"{target} is there already", hint="Delete it, or choose another name with --output.")
    files = [card.folder / CARD_FILE, *(card.file(role) for role in card.files)]
    sums = "".join(f"{sha256(path)}  {path.name}\n" for path in files).encode()
    with replacing(target) as part, tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, SUMS_FILE, sums)
        for path in files:
            _add_file(tar, path)
    return target


def _header(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_header(name, len(content)), io.BytesIO(content))


def _add_file(tar: tarfile.TarFile, path: Path) -> None:
    with path.open("rb") as stream:
        tar.addfile(_header(path.name, path.stat().st_size), stream)


def is_bundle(path: Path) -> bool:
    """Whether a path is a tar file, told by its content."""
    return path.is_file() and tarfile.is_tarfile(path)


def unpack(path: Path, *, force: bool = False) -> Card:
    """Put the model of a bundle into the store.

    Args:
        path: The tar.
        force: Replace a model of the same name.

    Raises:
        ModelFileError: Not a bundle, damaged, or a tar that reaches for other places.
        UsageError: A model of that name is there already.
        StorageError, ModelBusyError: As they say.
    """
    name = _name_in(path)
    if place(name).exists() and not force:
        raise UsageError(f"model {name!r} is here already: {place(name)}", hint="Add --force to replace it.")
    with writing(name) as folder:
        for info, stream in _members(path):
            with (folder / info.name).open("wb") as target:
                _copy(path, stream, target)
        _check(path, folder, name)
    return read_card(place(name))


def _name_in(path: Path) -> str:
    """The model's name, from the card inside."""
    for info, stream in _members(path):
        if info.name == CARD_FILE:
            if info.size > MAX_CARD_BYTES:
                _refuse(path, f"its {CARD_FILE} has {info.size:,} bytes")
            with tempfile.TemporaryDirectory() as scratch:
                with (Path(scratch) / CARD_FILE).open("wb") as target:
                    _copy(path, stream, target)
                return read_card(Path(scratch)).name
    _refuse(path, f"it holds no {CARD_FILE}")


def _copy(path: Path, stream: IO[bytes], target: IO[bytes]) -> None:
    try:
        shutil.copyfileobj(stream, target, 1 << 20)
    except (tarfile.TarError, EOFError) as error:
        _refuse(path, f"it is damaged ({error})")


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """The files of a bundle; refuses everything else before it is opened."""
    seen: set[str] = set()
    total = 0
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if not info.isreg() or info.issparse():
                    _refuse(path, f"{info.name!r} in it is not a plain file")
                if Path(info.name).name != info.name or "\\" in info.name or info.name in (".", "..") or not info.name:
                    _refuse(path, f"{info.name!r} in it reaches for another folder")
                if info.name.lower() in seen:
                    _refuse(path, f"{info.name!r} is in it twice")
                seen.add(info.name.lower())
                total += info.size
                if len(seen) > MAX_FILES or total > MAX_BYTES:
                    _refuse(path, f"it holds more than {MAX_FILES} files or {MAX_BYTES:,} bytes")
                stream = tar.extractfile(info)
                if stream is not None:
                    yield info, stream
    except (tarfile.TarError, EOFError) as error:
        _refuse(path, f"it is damaged ({error})")
    except FileNotFoundError as error:
        raise ModelFileError(f"there is no file {path}") from error


def _check(path: Path, folder: Path, name: str) -> None:
    """Every file against the list, the list against the files, the card against the files it names."""
    sums = folder / SUMS_FILE
    if not sums.is_file():
        _refuse(path, f"it holds no {SUMS_FILE}")
    lines = [line.partition("  ") for line in sums.read_text("utf-8", "replace").splitlines()]
    listed = {file: digest for digest, _, file in lines}
    there = {file.name for file in folder.iterdir()} - {SUMS_FILE}
    card = read_card(folder)
    named = {CARD_FILE, *(file for file, _ in card.files.values())}
    if card.name != name or set(listed) != there or there != named:
        _refuse(path, f"its card, its {SUMS_FILE} and its files do not agree")
    for file, digest in listed.items():
        if sha256(folder / file) != digest:
            _refuse(path, f"{file} in it is damaged")
    card.verify()
    sums.unlink()


def _refuse(path: Path, why: str) -> NoReturn:
    raise ModelFileError(
        f"{path} is not a bundle that can be unpacked: {why}", hint="Copy it again, or make a new one."
    )
