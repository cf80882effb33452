"""Recipe configs: plain TOML into a frozen dataclass; an unknown key is an error that suggests the nearest."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from geoglot.errors import UnknownNameError, UsageError

T = TypeVar("T")


def load_config(kind: type[T], path: Path, **overrides: Any) -> T:
    """Read a TOML file as `kind`; overrides win.

    Raises:
        UnknownNameError: A key that `kind` does not have.
        UsageError: The file cannot be read, or a value is refused by the dataclass.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8")) | overrides
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read config {path}: {error}") from error
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise UnknownNameError("config key", key, names)
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
