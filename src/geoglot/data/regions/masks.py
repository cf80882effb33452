"""Dense masks as regions: each connected area of one class becomes a region with its outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.data.regions.checks import hull, ring_area
from geoglot.data.regions.schema import Region, RegionRecord, RegionSet, Ring
from geoglot.data.segmentation.sets import IGNORED, SegmentationSet
from geoglot.errors import UsageError

MIN_AREA_PX = 64
"""Pixels of the least area kept: specks of coarse labels are smaller. FarSLIP itself drops boxes below 64 x 64 px."""


@dataclass(frozen=True, slots=True)
class Part:
    """A connected area of one class.

    Attributes:
        index: Of the class.
        ring: Its outer outline along the pixels' edges; holes are not told.
        area_px: Pixels in it, holes excluded.
    """

    index: int
    ring: Ring
    area_px: float


def connected(mask: NDArray[np.uint8]) -> list[Part]:
    """Areas whose pixels touch at edges or corners and hold the same index; ignored pixels belong to none.

    Args:
        mask: uint8 [H, W], class indices; 255 is ignored.
    """
    from rasterio.features import shapes

    parts = []
    for geometry, value in shapes(np.ascontiguousarray(mask), mask=mask != IGNORED, connectivity=8):
        rings = [tuple((float(x), float(y)) for x, y in ring[:-1]) for ring in geometry["coordinates"]]
        area = ring_area(rings[0]) - sum(map(ring_area, rings[1:]))
        parts.append(Part(int(value), rings[0], area))
    return parts


def regions_of_masks(
    masks: SegmentationSet, *, min_area_px: float = MIN_AREA_PX, background: bool = False
) -> RegionSet:
    """The regions of a dense-mask set. Cost: reads all masks, no pictures; one mask in memory at a time.

    Args:
        masks: Any set; the first word of a class is the category.
        min_area_px: Smaller areas are left out, counted for each scene.
        background: Take the class for everything else as regions too.

    Raises:
        UsageError: The area is not positive.
        SampleError: A mask cannot be read.
    """
    if not min_area_px > 0:
        raise UsageError(f"min_area_px {min_area_px} must be positive")
    records: list[RegionRecord] = []
    skipped, small = list(masks.skipped), 0
    for i, scene in enumerate(masks.scenes):
        mask = masks.mask(i)
        parts = [p for p in connected(mask) if background or p.index != masks.background]
        kept = [part for part in parts if part.area_px >= min_area_px]
        if lost := len(parts) - len(kept):
            small += lost
            skipped.append((scene.name, f"{lost:,} areas smaller than {min_area_px:g} px"))
        regions = tuple(Region(hull([p.ring]), masks.classes[p.index][0], None, p.ring) for p in kept)
        height, width = mask.shape
        where = f"{masks.name} {masks.split} {scene.name}"
        records.append(RegionRecord(str(scene.image), width, height, (), regions, where, masks.gsd_m))
    categories = tuple(words[0] for n, words in enumerate(masks.classes) if background or n != masks.background)
    name, pixels = f"{masks.name} ({masks.split})", None if masks.plain else masks.image
    notes = (*masks.notes, *([f"{small:,} areas smaller than {min_area_px:g} px left out"] if small else []))
    return RegionSet(name, tuple(records), categories, tuple(skipped), notes, pixels)
