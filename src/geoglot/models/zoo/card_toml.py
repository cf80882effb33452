"""Cards as TOML text: `tomllib` reads, this writes. Keeps the order of keys; comments are lost."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from geoglot.models.card import CARD_FILE, Card, read_card


def card_values(path: Path) -> dict[str, Any]:
    """The raw tables of a card file."""
    return tomllib.loads(path.read_text("utf-8"))


def write_card(folder: Path, values: Mapping[str, Any]) -> Card:
    """Write `card.toml` into a model folder and read it back.

    Raises:
        ModelFileError: The values do not make a valid card.
    """
    (folder / CARD_FILE).write_text(toml_text(values), "utf-8", newline="\n")
    return read_card(folder)


def toml_text(values: Mapping[str, Any]) -> str:
    """Plain values as TOML: keys of a table first, then its tables under dotted headers."""
    return "\n".join(_lines(values, ())).strip() + "\n"


def _lines(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    if path and (not values or not all(isinstance(value, Mapping) for value in values.values())):
        yield ""
        yield f"[{'.'.join(_key(part) for part in path)}]"
    for key, value in values.items():
        if not isinstance(value, Mapping):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _lines(value, (*path, key))


def _key(key: str) -> str:
    plain = key.replace("_", "").replace("-", "")
    return key if plain.isascii() and plain.isalnum() else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    return repr(value)
