"""An entry of the catalogue, and the request and the result of a reader of a layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoglot.data.benchmarks.schema import SPLITS
from geoglot.data.segmentation.sets import Pixels, Scene

Words = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A set as catalogue.toml describes it; the file's head says what the fields mean."""

    name: str
    title: str
    page: str
    licence: str
    split: str
    classes: Words = ()
    layouts: tuple[Mapping[str, Any], ...] = ()
    gsd_m: float | None = None
    background: int | None = None
    threshold: float | None = None
    withheld: tuple[str, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """The request to a reader: a folder, a split in the layout's own spelling, the entry, and the layout's table."""

    folder: Path
    split: str
    entry: Entry
    table: Mapping[str, Any]

    def pattern(self, key: str) -> str:
        """A path that the layout's table names, below the folder, with the split in it; `*` may stand in it."""
        return str(self.table[key]).format(split=self.split)


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of a reader; `classes` where the set brings its own, `read_image` where a picture is no file."""

    scenes: tuple[Scene, ...]
    read_label: Callable[[Scene], Pixels]
    classes: Words = ()
    read_image: Callable[[Scene], Pixels] | None = None
    gsd_m: Callable[[Scene], float | None] | None = None
    background: int | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def spellings(split: str) -> tuple[str, ...]:
    """A split's name in all its spellings, the given one first: "valid", "val", "validation", "Val", ..."""
    ours = SPLITS.get(split.lower(), split)
    names = [split, *(name for name, meant in SPLITS.items() if meant == ours)]
    return tuple(dict.fromkeys([*names, *(name.capitalize() for name in names)]))
