"""The TOML file of a build: its sources, and which categories are one.

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

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from geoglot.config import from_table, read_toml
from geoglot.data.regions import open_regions
from geoglot.data.regions.build import Material
from geoglot.data.regions.captions import TemplateCaptioner
from geoglot.data.regions.masks import MIN_AREA_PX, regions_of_masks
from geoglot.data.regions.schema import RegionSource
from geoglot.data.segmentation import open_segmentation
from geoglot.data.segmentation.catalogue import find_entry
from geoglot.errors import UsageError


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
class NamedMasks(MaskSource):
    """A `[[source]]` table of masks.

    Attributes:
        name: What it is called in the result; empty: as its folder.
        licence: Of its images and masks; empty: what the catalogue says.
    """

    name: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class NamedRegions(RegionSource):
    """A `[[source]]` table of regions; `name` and `licence` as in NamedMasks."""

    name: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """A whole file."""

    source: tuple[NamedMasks | NamedRegions, ...]
    rename: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.source:
            raise UsageError("the build names no source", hint="Write at least one [[source]].")


def load_build(file: Path) -> BuildConfig:
    """Read a config.

    Raises:
        UnknownNameError: An unknown key; suggests the nearest.
        UsageError: Not there, not TOML, no source, or a value that cannot be.
    """
    tables = read_toml(file)
    sources = tables.get("source", [])
    if not isinstance(sources, list) or not all(isinstance(table, dict) for table in sources):
        raise UsageError(f"source of {file} is not an array of tables", hint="Write [[source]] for each.")
    return from_table(BuildConfig, tables | {"source": [_source(table) for table in sources]})


def _source(table: dict[str, Any]) -> NamedMasks | NamedRegions:
    if "masks" in table:
        return from_table(NamedMasks, table, "[[source]]")
    return from_table(NamedRegions, table, "[[source]]")


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
    return [_material(source, base, skip_bad) for source in config.source]


def _material(source: NamedMasks | NamedRegions, base: Path, skip_bad: bool) -> Material:
    name = source.name or Path(source.path).stem or "source"
    if isinstance(source, NamedMasks):
        masks = open_segmentation(source.masks, base / source.path, source.split)
        licence = source.licence or find_entry(source.masks, base / source.path).licence or "not told"
        regions = regions_of_masks(masks, min_area_px=source.min_area_px, background=source.background)
        facts = {"path": source.path, "masks": source.masks, "split": masks.split, "licence": licence}
        return Material(name, regions, TemplateCaptioner(count=False), facts)
    regions = open_regions(replace(source, bad="skip") if skip_bad else source, base)
    facts = {"path": source.path, "layout": source.layout, "split": source.split or "all"}
    return Material(name, regions, TemplateCaptioner(), {**facts, "licence": source.licence or "not told"})
