"""Regions: boxes and polygons in images, each with a category or a text; one schema, whatever layout they lie in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from geoglot.data.regions.coco import read_coco
from geoglot.data.regions.dota import read_dota
from geoglot.data.regions.mgrs import read_mgrs
from geoglot.data.regions.schema import Layout, Region, RegionRecord, RegionSet, RegionSource
from geoglot.data.regions.voc import read_voc
from geoglot.data.regions.yolo import read_yolo

__all__ = ["Region", "RegionRecord", "RegionSet", "RegionSource", "open_regions"]

READERS: dict[Layout, Callable[[RegionSource, Path], RegionSet]] = {
    "coco": read_coco, "yolo": read_yolo, "dota": read_dota, "voc": read_voc, "mgrs": read_mgrs,
}  # fmt: skip


def open_regions(source: RegionSource, base: Path = Path()) -> RegionSet:
    """The regions of a source; its path is relative to `base`.

    Raises:
        SourceError: It is not there, is not of that layout, or holds what cannot be used (the first is named).
        UnknownNameError: No such split.
    """
    return READERS[source.layout](source, base)
