"""The header of a safetensors file, checked before anything else looks at the file.

The format: 8 bytes with the header's length, little endian; the header, JSON from name to {dtype, shape, data_offsets};
the tensors' bytes. https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from geoglot.errors import ModelFileError

MAX_HEADER = 100_000_000  # the reference implementation's own limit
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a safetensors file.

    Attributes:
        shapes: Tensor name -> shape.
        metadata: The writer's own words.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header; the tensors' bytes stay untouched.

    Raises:
        ModelFileError: The header is cut off, is no JSON, names a tensor twice, or its offsets do not cover the rest of
            the file exactly once.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            _refuse(path, f"its header should have {length:,} bytes, the file has {size:,}")
        text = file.read(length)
    table = _parse(path, text)
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its metadata is not a table of texts")
    _check_offsets(path, [_span(path, name, entry) for name, entry in table.items()], size - 8 - length)
    return Header({name: tuple(entry["shape"]) for name, entry in table.items()}, metadata)


def _refuse(path: Path, why: str) -> NoReturn:
    raise ModelFileError(f"{path} is damaged or no safetensors file: {why}", hint="Copy or download it again.")


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            _refuse(path, "a name stands in its header twice")
        return table

    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"its header is not JSON ({error})")
    if not isinstance(table, dict):
        _refuse(path, "its header is not a table")
    return table


def _span(path: Path, name: str, entry: Any) -> tuple[int, int]:
    """First byte and end of a tensor, which must fit its shape and number format."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"the entry of {name!r} is not dtype, shape and data_offsets")
    if entry["dtype"] not in BYTES:
        _refuse(path, f"{name!r} has the number format {entry['dtype']!r}, known are {', '.join(BYTES)}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        _refuse(path, f"{name!r} has the shape {shape!r} at {offsets!r}")
    if offsets[1] - offsets[0] != prod(shape) * BYTES[entry["dtype"]]:
        _refuse(path, f"{name!r} of shape {shape!r} does not fit into bytes {offsets!r}")
    return offsets[0], offsets[1]


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _check_offsets(path: Path, spans: list[tuple[int, int]], size: int) -> None:
    end = 0
    for first, last in sorted(spans):
        if first != end:
            _refuse(path, f"its tensors leave a hole or overlap at byte {min(first, end)}")
        end = last
    if end != size:
        _refuse(path, f"its tensors take {end:,} bytes, the file has {size:,} for them")
