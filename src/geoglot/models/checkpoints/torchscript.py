"""The tensors of a TorchScript archive (as OpenAI ships CLIP), read as data.

PyTorch can only run such an archive as a whole, program included. Here a small stack machine walks over the pickle's
operations. It imports nothing and calls nothing: a class becomes its name, an object becomes a table, a tensor is taken
from its entry. What the machine does not know is refused.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geoglot.models.checkpoints.zipped import MALFORMED, RUNS_CODE, Archive, refuse

_DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
}
_LISTS = {f"torch.jit._pickle.build_{kind}list" for kind in ("int", "bool", "double", "tensor")}
_PUSH = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None}
_MAX_OBJECTS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Name:
    """A class or function that the pickle names; never looked up."""

    dotted: str


@dataclass(eq=False, slots=True)
class _Object:
    """An instance of a class of the archive: its name and its attributes."""

    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)


class _Mark:
    pass


def read_torchscript(archive: Archive) -> tuple[dict[str, Tensor], frozenset[str]]:
    """All tensors of the module tree by dotted name, and the names of the module classes.

    Raises:
        ModelFileError: The pickle is damaged or holds something else than modules, tensors and plain values.
    """
    try:
        with zipfile.ZipFile(archive.path) as file:
            root = _Machine(archive, file).run(file.read(f"{archive.root}/data.pkl"))
    except MALFORMED as error:
        refuse(archive.path, f"the data of its TorchScript archive is damaged ({error!r})")
    if not isinstance(root, _Object):
        refuse(archive.path, f"its TorchScript archive holds a {type(root).__name__}, not a module")
    return _flatten(root)


def _flatten(root: _Object) -> tuple[dict[str, Tensor], frozenset[str]]:
    tensors: dict[str, Tensor] = {}
    kinds: set[str] = set()
    seen: set[int] = set()
    todo: list[tuple[str, _Object]] = [("", root)]
    while todo:
        prefix, module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        kinds.add(module.kind.rpartition(".")[2])
        for name, value in module.attributes.items():
            if isinstance(value, Tensor):
                tensors[prefix + name] = value
            elif isinstance(value, _Object):
                todo.append((f"{prefix}{name}.", value))
    return tensors, frozenset(kinds)


class _Machine:
    """Runs the operations that TorchScript's writer uses, on plain values."""

    def __init__(self, archive: Archive, file: zipfile.ZipFile) -> None:
        self.archive = archive
        self.file = file
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[tuple[str, str], Tensor] = {}

    def run(self, program: bytes) -> Any:
        for count, (operation, argument, _) in enumerate(pickletools.genops(program)):
            if count > _MAX_OBJECTS:
                raise ValueError(f"more than {_MAX_OBJECTS:,} operations")
            self.step(operation.name, argument)
        return self.stack.pop()

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSH:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name == "GLOBAL":
            self.stack.append(_Name(str(argument).replace(" ", ".", 1)))
        elif name in {"BINPUT", "LONG_BINPUT"}:
            self.memo[argument] = self.stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[argument])
        elif name not in {"PROTO", "STOP"}:
            handler = getattr(self, f"on_{name.lower()}", None)
            if handler is None:
                raise ValueError(f"the operation {name} has no place in it")
            handler()

    def after_mark(self) -> list[Any]:
        """Take the objects since the last mark off the stack, and the mark."""
        place = max(i for i, value in enumerate(self.stack) if value is _Mark)
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def on_mark(self) -> None:
        self.stack.append(_Mark)

    def on_empty_tuple(self) -> None:
        self.stack.append(())

    def on_empty_list(self) -> None:
        self.stack.append([])

    def on_empty_dict(self) -> None:
        self.stack.append({})

    def on_tuple(self) -> None:
        self.stack.append(tuple(self.after_mark()))

    def on_tuple1(self) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def on_tuple2(self) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def on_tuple3(self) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def on_append(self) -> None:
        self.extend([self.stack.pop()])

    def on_appends(self) -> None:
        self.extend(self.after_mark())

    def extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("an element is added to what is no list")
        self.stack[-1].extend(values)

    def on_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.put([key, value])

    def on_setitems(self) -> None:
        self.put(self.after_mark())

    def put(self, pairs: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise TypeError("a value is put into what is no table")
        self.stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    def on_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, _Name) or not kind.dotted.startswith("__torch__.") or arguments != ():
            refuse(self.archive.path, f"its data makes {getattr(kind, 'dotted', kind)!r}", RUNS_CODE)
        self.stack.append(_Object(kind.dotted))

    def on_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Object) or type(state) is not dict:
            raise TypeError("attributes are given to what is no module")
        if not all(isinstance(name, str) for name in state):
            raise TypeError("an attribute's name is no text")
        self.stack[-1].attributes = state

    def on_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        name = function.dotted if isinstance(function, _Name) else repr(function)
        if name == "torch._utils._rebuild_tensor_v2":
            self.stack.append(_view(*arguments[:4]))
        elif name == "collections.OrderedDict" and arguments == ():
            self.stack.append({})
        elif name in _LISTS or name == "torch.jit._pickle.restore_type_tag":
            self.stack.append(arguments[0])
        else:
            refuse(self.archive.path, f"its data would call {name}", RUNS_CODE)

    def on_binpersid(self) -> None:
        """A flat storage: ("storage", class, key, device, number of elements)."""
        word, kind, key, _, count = self.stack.pop()
        if word != "storage" or not isinstance(kind, _Name) or not str(key).isalnum():
            raise ValueError(f"a storage named {key!r}")
        if (kind.dotted, key) not in self.storages:
            content = bytearray(self.file.read(f"{self.archive.root}/data/{key}"))
            flat = torch.frombuffer(content, dtype=_DTYPES[kind.dotted])
            if flat.numel() != count:
                raise ValueError(f"storage {key} has {flat.numel()} elements, not {count}")
            self.storages[kind.dotted, key] = flat
        self.stack.append(self.storages[kind.dotted, key])


def _view(flat: Tensor, offset: int, shape: Iterable[int], stride: Iterable[int]) -> Tensor:
    size, steps = tuple(shape), tuple(stride)
    last = offset + sum((n - 1) * step for n, step in zip(size, steps, strict=True)) if all(size) else offset
    if min((offset, *size, *steps)) < 0 or last >= max(flat.numel(), 1):
        raise ValueError(f"a tensor of shape {size} reaches beyond its storage")
    return flat.as_strided(size, steps, offset)
