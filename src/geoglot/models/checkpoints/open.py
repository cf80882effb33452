"""Open a file or folder of weights, whatever it is, without running code."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from geoglot.errors import ModelFileError, ModelNotFoundError, UsageError
from geoglot.files import sha256 as hash_of
from geoglot.models.checkpoints.header import read_header
from geoglot.models.checkpoints.torchscript import read_torchscript
from geoglot.models.checkpoints.unwrap import unwrap
from geoglot.models.checkpoints.zipped import MALFORMED, check_archive, load_archive, refuse

WEIGHTS = ("model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")
INDEX = "model.safetensors.index.json"
CONFIGS = ("open_clip_config.json", "config.json")
_AGAIN = "Copy or download it again."
_RESAVE = "Load it with the PyTorch that wrote it and save the state dict again, best as safetensors."
# First bytes of what people mistake for weights, where they stand, what it is, what to do.
_OTHERS = (
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the file it points to", "Fetch it with: git lfs pull"),
    (b"<", 0, "a web page", "Download the file itself, not the page about it."),
    (b"ustar", 257, "a tar archive; PyTorch's oldest format is one, and is never opened", _RESAVE),
    (b"\x80", 0, "a bare pickle (PyTorch before 1.6, or NumPy), which is never opened", _RESAVE),
    (b"\x1f\x8b", 0, "a gzip archive", "Unpack it first."),
)


@dataclass(frozen=True, slots=True)
class Opened:
    """The content of a file or folder.

    Attributes:
        path: What was asked for.
        tensors: As the file names them, unwrapped.
        container: How they were kept, for people.
        classes: Names of module classes; only a TorchScript archive knows them.
        metadata: Of a safetensors file.
        config: The configuration beside the weights, when a folder was given.
        notes: What was left out or renamed on the way.
    """

    path: Path
    tensors: dict[str, Tensor]
    container: str
    classes: frozenset[str] = frozenset()
    metadata: dict[str, str] | None = None
    config: Path | None = None
    notes: tuple[str, ...] = ()


def read_tensors(path: str | Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """All tensors of a file or folder of weights under the names they have there, trainer's wrapping taken off.

    Never runs code. safetensors and PyTorch zip archives are mapped, not copied.

    Args:
        path: A file, or a folder as Hugging Face and open_clip write it.
        sha256: What the file's checksum must be; lower-case hex.

    Raises:
        ModelNotFoundError: There is nothing there.
        ModelFileError: It is damaged, not complete, of an unknown kind, or would run code.
    """
    return open_checkpoint(path, sha256=sha256).tensors


def open_checkpoint(path: str | Path, *, sha256: str | None = None) -> Opened:
    """Like `read_tensors`, with all that is known about the file."""
    path = Path(path)
    if path.is_dir():
        if sha256 is not None:
            raise UsageError(f"a checksum was given for the folder {path}", hint="Give the file's own path.")
        return _open_folder(path)
    if not path.is_file():
        raise ModelNotFoundError(f"no file or folder of weights at {path}", hint="Check the path.")
    if sha256 is not None:
        _check_sum(path, sha256)
    try:
        return _open_file(path)
    except OSError as error:
        refuse(path, f"it cannot be read ({error})", "Check the file's rights and the disk.")


def _check_sum(path: Path, expected: str) -> None:
    if (digest := hash_of(path)) != expected.lower():
        raise ModelFileError(f"{path} has the checksum {digest}, not {expected}", hint=_AGAIN)


def _open_folder(folder: Path) -> Opened:
    config = next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is not None:
        return replace(_open_file(weights), path=folder, config=config)
    if (folder / INDEX).is_file():
        tensors, notes = unwrap(_read_shards(folder), folder)
        return Opened(folder, tensors, "safetensors in parts", config=config, notes=notes)
    looked = ", ".join((*WEIGHTS, INDEX))
    raise ModelFileError(f"no weights in {folder}; looked for {looked}", hint="Give the file's own path.")


def _read_shards(folder: Path) -> dict[str, Tensor]:
    try:
        parts = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        names = sorted(set(parts.values()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        refuse(folder / INDEX, f"it is no index of weights ({error})")
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            refuse(folder, f"its index names the part {name!r}, which is not there")
        tensors |= _read_safetensors(folder / name)
    if missing := sorted(set(parts) - set(tensors)):
        refuse(folder, f"the parts lack {', '.join(missing[:5])}")
    return tensors


def _open_file(path: Path) -> Opened:
    with path.open("rb") as file:
        start = file.read(512)
    if start[:2] == b"PK":
        return _open_archive(path)
    if start[8:9] != b"{":  # every safetensors header begins with one
        _refuse_other(path, start)
    metadata = read_header(path).metadata
    tensors, notes = unwrap(_read_safetensors(path), path)
    return Opened(path, tensors, "safetensors", metadata=metadata, notes=notes)


def _refuse_other(path: Path, start: bytes) -> NoReturn:
    for bytes_, place, what, hint in _OTHERS:
        if start[place : place + len(bytes_)] == bytes_:
            raise ModelFileError(f"{path} is {what}", hint=hint)
    raise ModelFileError(f"{path} is neither safetensors nor a PyTorch archive", hint=_AGAIN)


def _open_archive(path: Path) -> Opened:
    archive = check_archive(path)
    content: Any
    if archive.code:
        content, classes = read_torchscript(archive)
        container = "TorchScript archive"
    else:
        content, classes, container = load_archive(archive), frozenset[str](), "PyTorch archive"
    tensors, notes = unwrap(content, path)
    return Opened(path, tensors, container, classes, notes=notes)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, *MALFORMED) as error:
        refuse(path, f"safetensors refuses it ({error})")
