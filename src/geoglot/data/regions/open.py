"""Region sets by layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from geoglot.data.regions.coco import read_coco
from geoglot.data.regions.schema import Layout, RegionSet, RegionSource

READERS: dict[Layout, Callable[[RegionSource, Path], RegionSet]] = {"coco": read_coco}


def open_regions(source: RegionSource, base: Path = Path()) -> RegionSet:
    """The regions of a source; its path is relative to `base`.

    Raises:
        SourceError: It is not there, is not of that layout, or holds what cannot be used (the first is named).
        UnknownNameError: No such split.
    """
    return READERS[source.layout](source, base)
