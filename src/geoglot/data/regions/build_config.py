"""What a TOML file says of a build: its sources, and which categories are one.

[[source]]
path = "vhr10"
layout = "coco"
split = "train"

[[source]]
path = "dubai"
masks = "dubai"          # a dense-mask set: its connected areas become regions
split = "train"
min_area_px = 256

[rename]
plane = "airplane"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from geoglot.data.regions.build import Material
from geoglot.data.regions.captions import TemplateCaptioner
from geoglot.data.regions.checks import read_text
from geoglot.data.regions.masks import MIN_AREA_PX, regions_of_masks
from geoglot.data.regions.open import open_regions
from geoglot.data.regions.schema import RegionSource
from geoglot.data.segmentation import open_segmentation
from geoglot.data.segmentation.catalogue import find_entry
from geoglot.errors import UnknownNameError, UsageError


@dataclass(frozen=True, slots=True)
class MaskSource:
    """A dense-mask set as a source of regions.

    Attributes:
        path: Its folder.
        masks: Its name in the catalogue of segmentation sets, or "folder" or "coco".
        split: Which part; None: what is usually evaluated, so say "train" for training.
        min_area_px: Smaller areas are left out, counted.
        background: Take the class for everything else too.
    """

    path: str
    masks: str
    split: str | None = None
    min_area_px: float = MIN_AREA_PX
    background: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One `[[source]]` table: where, and what it is called in the result."""

    name: str
    where: RegionSource | MaskSource
    licence: str = ""


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """A whole file."""

    sources: tuple[Source, ...]
    rename: Mapping[str, str] = field(default_factory=dict)


def load_build(file: Path) -> BuildConfig:
    """Read a config.

    Raises:
        SourceError: Not there, not readable.
        UsageError: Not TOML, no source, an unknown key (the nearest is suggested), or a value that cannot be.
    """
    try:
        raw = tomllib.loads(read_text(file))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is not TOML: {error}") from error
    for key in raw.keys() - {"source", "rename"}:
        raise UnknownNameError(f"table of {file.name}", key, ["source", "rename"])
    tables, rename = raw.get("source"), raw.get("rename", {})
    if not isinstance(tables, list) or not tables:
        raise UsageError(f"{file} names no source", hint="Write at least one [[source]].")
    if not isinstance(rename, dict) or not all(isinstance(name, str) for name in rename.values()):
        raise UsageError(f"[rename] of {file} must hold category = name")
    return BuildConfig(tuple(_source(table, file) for table in tables), rename)


def _source(table: dict[str, Any], file: Path) -> Source:
    kind = MaskSource if "masks" in table else RegionSource
    known = [one.name for one in fields(kind)]
    own = {key: table[key] for key in ("name", "licence") if key in table}
    rest = {key: value for key, value in table.items() if key not in own}
    for key in rest:
        if key not in known:
            raise UnknownNameError(f"key of [[source]] in {file.name}", key, [*known, "name", "licence"])
    if lacking := [key for key in ("path", "masks" if kind is MaskSource else "layout") if key not in rest]:
        raise UsageError(f"a [[source]] of {file} has no {lacking[0]}")
    _check_types(rest, file)
    where = kind(**rest)
    return Source(str(own.get("name") or Path(where.path).stem or "source"), where, str(own.get("licence", "")))


TYPES: dict[str, type | tuple[type, ...]] = {
    "path": str, "layout": str, "masks": str, "split": str, "images": str, "labels": str, "bad": str, "texts": dict,
    "difficult": bool, "background": bool, "origin": int, "min_area_px": (int, float),
}  # fmt: skip


def _check_types(table: Mapping[str, Any], file: Path) -> None:
    for key, value in table.items():
        wanted = TYPES[key]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise UsageError(f"{key} = {value!r} of a [[source]] in {file} is of the wrong kind")
    if not all(isinstance(text, str) for text in table.get("texts", {}).values()):
        raise UsageError(f"texts of a [[source]] in {file} must hold category = text")


def open_materials(config: BuildConfig, base: Path, *, skip_bad: bool = False) -> list[Material]:
    """Open all sources; paths are relative to `base`.

    Args:
        config: Of the build.
        base: Data folder.
        skip_bad: Leave out what cannot be used, counted, whatever the sources say.

    Raises:
        SourceError, UnknownNameError: A source is not there or damaged.
        SampleError: A mask cannot be read.
    """
    return [_material(source, base, skip_bad) for source in config.sources]


def _material(source: Source, base: Path, skip_bad: bool) -> Material:
    where = source.where
    if isinstance(where, MaskSource):
        masks = open_segmentation(where.masks, base / where.path, where.split)
        licence = source.licence or find_entry(where.masks, base / where.path).licence or "not told"
        regions = regions_of_masks(masks, min_area_px=where.min_area_px, background=where.background)
        facts = {"path": where.path, "masks": where.masks, "split": masks.split, "licence": licence}
        return Material(source.name, regions, TemplateCaptioner(count=False), facts)
    regions = open_regions(replace(where, bad="skip") if skip_bad else where, base)
    facts = {"path": where.path, "layout": where.layout, "split": where.split or "all"}
    return Material(source.name, regions, TemplateCaptioner(), {**facts, "licence": source.licence or "not told"})
