"""Recipe configs: plain TOML into a frozen dataclass; an unknown key is an error that suggests the nearest.

A field that is itself a dataclass is a table (`[loop]`), a tuple of dataclasses an array of tables (`[[data]]`).
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from geoglot.errors import UnknownNameError, UsageError

T = TypeVar("T")


def load_config(kind: type[T], path: Path, **overrides: Any) -> T:
    """Read a TOML file as `kind`; overrides win.

    Raises:
        UnknownNameError: A key that `kind` does not have.
        UsageError: The file cannot be read, a value is missing or refused by the dataclass.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8")) | overrides
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read config {path}: {error}") from error
    return build_config(kind, values)


def build_config(kind: type[T], values: Mapping[str, Any]) -> T:
    """Plain values, as TOML or JSON hold them, as `kind`.

    Raises:
        UnknownNameError, UsageError: As `load_config`.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in values:
        if key not in fields:
            raise UnknownNameError("config key", key, fields)
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"the config lacks {', '.join(missing)}")
    return kind(**{key: _as(hints[key], value, key) for key, value in values.items()})


def _as(hint: Any, value: Any, key: str) -> Any:
    """A table as its dataclass, a list as a tuple, an integer as the float that was asked for."""
    if isinstance(hint, UnionType):  # `Kind | None`
        hint = next((one for one in get_args(hint) if one is not type(None)), hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build_config(hint, value)
    if isinstance(value, list):
        inner = get_args(hint) if get_origin(hint) is tuple else ()
        each = inner if inner and inner[-1] is not Ellipsis else (inner[:1] or (None,)) * len(value)
        if len(each) != len(value):
            raise UsageError(f"{key} = {value} must have {len(each)} values")
        return tuple(_as(one, item, key) for one, item in zip(each, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = hint if hint in (int, float, str, bool) else None
    if plain and (not isinstance(value, plain) or (plain is int and isinstance(value, bool))):
        raise UsageError(f"{key} = {value!r} is not {plain.__name__}")
    return value
