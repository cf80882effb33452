"""Masks drawn from polygons: COCO instances."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from geoglot.data.regions.coco import read_coco
from geoglot.data.regions.gather import ring_area
from geoglot.data.regions.schema import RegionRecord, RegionSource, Ring
from geoglot.data.segmentation.entries import Asked, Reading
from geoglot.data.segmentation.sets import Pixels, Scene
from geoglot.errors import SampleError


def read_coco_masks(asked: Asked) -> Reading:
    """COCO polygons as masks: background is 0, categories follow in the file's order.

    Larger objects are drawn first, so that what stands on another stays visible.

    Raises:
        SampleError: On reading a mask: an instance has no polygon (a box only, or run-length code).
    """
    found = read_coco(RegionSource(str(asked.folder), "coco", asked.split if asked.split != "all" else None), Path())
    records = {record.image: record for record in found.records}
    scenes = tuple(Scene(Path(record.image).stem, Path(record.image), None) for record in found.records)

    def label(scene: Scene) -> Pixels:
        return draw(records[str(scene.image)], found.categories)

    classes = (("background",), *((name,) for name in found.categories))
    return Reading(scenes, label, classes, background=0, skipped=found.skipped, notes=found.notes)


def draw(record: RegionRecord, categories: tuple[str, ...]) -> Pixels:
    """uint8 [H, W]: 0 background, 1 + index of the category where a pixel's centre lies in a polygon."""
    mask = np.zeros((record.height, record.width), np.uint8)
    regions = sorted(record.regions, key=lambda region: -sum(map(ring_area, region.rings)))
    for region in regions:
        if not region.rings:
            raise SampleError(f"{record.source}: the {region.category} at {region.box_px} has no polygon")
        fill(mask, region.rings, 1 + categories.index(region.category))
    return mask


def fill(mask: Pixels, rings: Iterable[Ring], value: int) -> None:
    """Write `value` where a pixel's centre lies in one of the rings; in place."""
    from rasterio.features import rasterize

    shapes = [({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, value) for ring in rings]
    rasterize(shapes, out=mask)
