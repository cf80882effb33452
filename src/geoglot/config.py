"""A TOML table as a checked frozen dataclass: one reader for recipes, model cards and region builds.

A field that is itself a dataclass is a table (`[loop]`), a tuple of dataclasses an array of tables (`[[data]]`), a
`Literal` one of few words. What a type cannot say, such as a range, the dataclass checks in its `__post_init__`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from geoglot.errors import UnknownNameError, UsageError

T = TypeVar("T")

LARGEST = 16 << 20
"""Bytes of a TOML file; a card with its table of measurements has a few thousand."""


def load_config(kind: type[T], file: Path, **overrides: Any) -> T:
    """Read a TOML file as `kind`; overrides win.

    Raises:
        UnknownNameError: A key that `kind` does not have; suggests the nearest.
        UsageError: The file cannot be read, a value is missing, of the wrong type, or refused by the dataclass.
    """
    return from_table(kind, read_toml(file) | overrides)


def read_toml(file: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UsageError: The file cannot be read, or is not TOML.
    """
    try:
        if (size := file.stat().st_size) > LARGEST:
            raise UsageError(f"config {file} has {size:,} bytes; the limit is {LARGEST:,}")
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read config {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"config {file} is not TOML: {error}") from error


def from_table(kind: type[T], table: Mapping[str, Any], where: str = "config") -> T:
    """A dataclass from plain values, as TOML or JSON hold them: tables to dataclasses, lists to tuples.

    Args:
        kind: The dataclass.
        table: Field -> value; a field with a default may be left out.
        where: What the table is called in errors.

    Raises:
        UnknownNameError: A key that `kind` does not have, or a word that is none of a `Literal`; suggests the nearest.
        UsageError: A value is missing, of the wrong type, or refused by the dataclass.
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise UnknownNameError(f"{where} key", key, known)
    required = [name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING]
    if missing := [name for name in required if name not in table]:
        raise UsageError(f"the {where} lacks {', '.join(missing)}")
    hints = get_type_hints(kind)
    return kind(**{key: _typed(hints[key], value, key, where) for key, value in table.items()})


def _typed(hint: Any, value: Any, key: str, where: str) -> Any:
    """A value as the type that a field has, or an error that names the field."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):
        return _of_one(inner, value, key, where)
    if origin is Literal:
        if value not in inner:
            raise UnknownNameError(key, str(value), inner)
        return value
    if origin is tuple:
        return tuple(_typed(one, item, key, where) for one, item in _items(inner, value, key))
    if origin in (dict, Mapping):
        _check(isinstance(value, Mapping), key, value, "a table")
        return {name: _typed(inner[1], item, f"{key}.{name}", where) for name, item in value.items()}
    if is_dataclass(hint) and not isinstance(value, hint):  # type: ignore[arg-type]
        _check(isinstance(value, Mapping), key, value, "a table")
        return from_table(hint, value, where)  # type: ignore[arg-type]
    if hint is float and type(value) is int:
        return float(value)
    if hint in (int, float, str, bool):
        _check(type(value) is hint, key, value, hint.__name__)
    return value


def _of_one(options: tuple[Any, ...], value: Any, key: str, where: str) -> Any:
    """The value as the first of several types that takes it; the error of the last one when none does."""
    if value is None and NoneType in options:
        return None
    *others, last = [option for option in options if option is not NoneType]
    for option in others:
        try:
            return _typed(option, value, key, where)
        except UsageError:
            continue
    return _typed(last, value, key, where)


def _items(inner: tuple[Any, ...], value: Any, key: str) -> Iterable[tuple[Any, Any]]:
    """(type, value) of each item of a list, for `tuple[X, ...]` or `tuple[X, Y]`."""
    _check(isinstance(value, list | tuple), key, value, "a list")
    kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
    if len(kinds) != len(value):
        raise UsageError(f"{key} = {value} must have {len(kinds)} values")
    return zip(kinds, value, strict=True)


def _check(fits: bool, key: str, value: Any, kind: str) -> None:
    if not fits:
        raise UsageError(f"{key} = {value!r} is not {kind}")
