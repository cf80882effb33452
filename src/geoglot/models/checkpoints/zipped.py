"""PyTorch's zip archives: checked as zip files first, then as pickles, and only then given to PyTorch.

`torch.save` writes one folder: data.pkl (the pickle), data/0, data/1 ... (the tensors' bytes), all uncompressed. A
pickle is a program. Three locks stand before it: its list of imports must be a subset of ALLOWED; PyTorch's own
restricted reader (`weights_only=True`) runs it; and nothing that was refused is tried again in another way.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch

from geoglot.errors import ModelFileError

MAX_ENTRIES = 20_000
MAX_PICKLE = 64 << 20
RUNS_CODE = (
    "geoglot never loads such a file. Load it where you trust it, and save the state dict alone: "
    "torch.save(model.state_dict(), ...) or safetensors."
)

_STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
_SCALARS = (np.float64, np.float32, np.int64, np.int32, np.bool_)
_SCALAR = cast(Callable[..., Any], np.float64(0).__reduce__()[0])  # what a pickled NumPy number names
NUMPY_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (np.dtype, "numpy.dtype"),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # the name before NumPy 2
    (_SCALAR, "numpy._core.multiarray.scalar"),
    *((kind, f"numpy.dtypes.{kind.__name__}") for kind in (type(np.dtype(scalar)) for scalar in _SCALARS)),
]
ALLOWED = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.Size",
        "torch.device",
        "_codecs.encode",  # the bytes of a NumPy scalar
        *(f"torch.{kind}Storage" for kind in _STORAGES),
        *(entry[1] for entry in NUMPY_GLOBALS if isinstance(entry, tuple)),
    }
)
# What a reader of hostile bytes may raise; PyTorch names no narrower set.
MALFORMED = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, EOFError, ArithmeticError),
    *(pickle.PickleError, struct.error, zipfile.BadZipFile, zipfile.LargeZipFile, MemoryError),
    OSError,  # a place before the file's start
)


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip file that passed the checks.

    Attributes:
        path: Where it lies.
        root: The one folder inside, without slash.
        names: Entries below the root.
        code: True for a TorchScript archive, which holds a program beside its tensors.
    """

    path: Path
    root: str
    names: frozenset[str]
    code: bool


def check_archive(path: Path) -> Archive:
    """Check that a zip file is what PyTorch writes: one folder, few entries, stored uncompressed, checksums right.

    Only the program of a TorchScript archive may be compressed: it is never opened. Cost: the file is read once.

    Raises:
        ModelFileError: It is not, or it is cut off or damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return _check_entries(path, file)
    except MALFORMED as error:
        refuse(path, f"it is no whole zip archive ({error})")


def refuse(path: Path, why: str, hint: str = "Copy or download it again.") -> NoReturn:
    """Raises ModelFileError."""
    raise ModelFileError(f"{path} cannot be used: {why}", hint=hint)


def _check_entries(path: Path, file: zipfile.ZipFile) -> Archive:
    entries = [entry for entry in file.infolist() if not entry.is_dir()]
    if len(entries) > MAX_ENTRIES:
        refuse(path, f"it has {len(entries):,} entries, more than {MAX_ENTRIES:,}")
    names = [entry.filename for entry in entries]
    roots = {name.partition("/")[0] for name in names}
    if len(set(names)) < len(names) or len(roots) != 1:
        refuse(path, "it is not an archive that PyTorch writes: one folder, and every name once", "Unpack it first.")
    root = roots.pop()
    inside = frozenset(name.partition("/")[2] for name in names)
    if "data.pkl" not in inside or any(part == ".." for name in names for part in name.split("/")):
        refuse(path, "it is not an archive that PyTorch writes: no data.pkl", "Unpack it first.")
    code = "constants.pkl" in inside
    if sum(entry.compress_size for entry in entries) > path.stat().st_size:
        refuse(path, "its entries overlap")
    for entry in entries:
        _check_entry(path, file, entry, skip=code and entry.filename.startswith(f"{root}/code/"))
    return Archive(path, root, inside, code)


def _check_entry(path: Path, file: zipfile.ZipFile, entry: zipfile.ZipInfo, *, skip: bool) -> None:
    if skip:
        return
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        refuse(path, f"{entry.filename!r} in it is compressed or encrypted, which PyTorch never does")
    if entry.filename.endswith(".pkl") and entry.file_size > MAX_PICKLE:
        refuse(path, f"{entry.filename!r} in it has {entry.file_size:,} bytes, more than {MAX_PICKLE:,}")
    with file.open(entry) as content:  # the zip reader compares the checksum at the end
        while content.read(1 << 20):
            pass


def read_entry(archive: Archive, name: str) -> bytes:
    """One uncompressed entry below the root.

    Raises:
        ModelFileError: There is none of that name.
    """
    try:
        with zipfile.ZipFile(archive.path) as file:
            return file.read(f"{archive.root}/{name}")
    except MALFORMED as error:
        refuse(archive.path, f"its entry {name!r} cannot be read ({error})")


def imports(path: Path, program: bytes) -> set[str]:
    """Dotted names of all that a pickle would import. Nothing is run.

    Raises:
        ModelFileError: It is malformed, or imports in a way that PyTorch never writes.
    """
    found = set()
    try:
        for operation, argument, _ in pickletools.genops(program):
            if operation.name in {"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "OBJ"}:
                refuse(path, f"its pickle uses {operation.name}, which PyTorch never writes", RUNS_CODE)
            if operation.name == "GLOBAL":
                found.add(str(argument).replace(" ", ".", 1))
    except MALFORMED as error:
        refuse(path, f"its pickle is damaged ({error})")
    return found


def load_archive(archive: Archive) -> Any:
    """The object that `torch.save` was given; tensors are mapped from the file, not copied.

    Raises:
        ModelFileError: The pickle wants something that is not in ALLOWED, or is damaged.
    """
    strange = sorted(imports(archive.path, read_entry(archive, "data.pkl")) - ALLOWED)
    if strange:
        refuse(archive.path, f"it is a pickle that would run or build {', '.join(strange[:5])}", RUNS_CODE)
    try:
        with torch.serialization.safe_globals(NUMPY_GLOBALS):
            return torch.load(archive.path, map_location="cpu", weights_only=True, mmap=True)
    except MALFORMED as error:
        first = str(error).strip().partition("\n")[0]
        refuse(archive.path, f"PyTorch's restricted reader refuses it ({first or type(error).__name__})")
