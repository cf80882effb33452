"""Masks drawn from polygons: COCO instances in pixels, building outlines on the earth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from geoglot.data.regions.checks import read_text, ring_area
from geoglot.data.regions.coco import read_coco
from geoglot.data.regions.schema import RegionRecord, RegionSource, Ring
from geoglot.data.segmentation.sets import IGNORED, Asked, Pixels, Reading, Scene
from geoglot.errors import SampleError, SourceError
from geoglot.types import Window


def read_coco_masks(asked: Asked) -> Reading:
    """COCO polygons as masks: background is 0, categories follow in the file's order.

    Larger objects are drawn first, so that what stands on another stays visible. Reading a mask raises SampleError
    where an instance has no polygon (a box only, or run-length code).
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
    for region in sorted(record.regions, key=lambda region: -sum(map(ring_area, region.rings))):
        if not region.rings:
            raise SampleError(f"{record.source}: the {region.category} at {region.box_px} has no polygon")
        fill(mask, region.rings, 1 + categories.index(region.category))
    return mask


def fill(mask: Pixels, rings: Iterable[Ring], value: int) -> None:
    """Write `value` where a pixel's centre lies in one of the rings; in place."""
    from rasterio.features import rasterize

    shapes = [({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, value) for ring in rings]
    rasterize(shapes, out=mask)


# --- outlines on the earth -----------------------------------------------------------------------


def read_outlines(asked: Asked) -> Reading:
    """`<scene>.tif` with `<scene>.buildings.geojson` (lon/lat polygons) beside it: 0 background, 1 building.

    What the raster calls nodata is ignored. The metres per pixel are those of the first scene.
    """
    files = {p.name.removesuffix(".buildings.geojson"): p for p in sorted(asked.folder.glob("*.buildings.geojson"))}
    images = {path.stem: path for path in sorted(asked.folder.glob("*.tif"))}
    scenes = tuple(Scene(name, images[name], file) for name, file in files.items() if name in images)
    if not scenes:
        raise SourceError(f"no <scene>.tif of {asked.folder} has a <scene>.buildings.geojson beside it")
    alone = [(str(images[name]), "no outlines") for name in images if name not in files]
    alone += [(str(files[name]), "no image") for name in files if name not in images]
    return Reading(scenes, outline_mask, read_image=scene_rgb, gsd_m=scene_gsd, background=0, skipped=tuple(alone))


def scene_rgb(scene: Scene) -> Pixels:
    """The picture of a georeferenced raster. Raises SceneError."""
    return _read(scene)[0]


def scene_gsd(scene: Scene) -> float | None:
    """Metres per pixel on the ground at the scene's centre. Raises SceneError."""
    from geoglot.imagery.scene import open_scene

    with open_scene(scene.image) as opened:
        return opened.info.gsd_m


def outline_mask(scene: Scene) -> Pixels:
    """1 where a pixel's centre lies in an outline, 255 on nodata.

    Raises:
        SampleError: No such file, no polygons, or a raster without a georeference.
        SceneError: The raster cannot be read.
    """
    from rasterio.errors import RasterioError
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom

    from geoglot.imagery.opening import open_raster

    valid = _read(scene)[1]
    with open_raster(str(scene.image)) as dataset:
        crs, transform = dataset.crs, dataset.transform
    if crs is None:
        raise SampleError(f"{scene.image} has no georeference, so that its outlines have no place")
    try:
        shapes = [transform_geom("EPSG:4326", crs, geometry) for geometry in _outlines(scene)]
        drawn = rasterize(shapes, valid.shape, transform=transform, dtype="uint8") if shapes else np.zeros(valid.shape)
    except (RasterioError, ValueError, TypeError, KeyError) as error:
        raise SampleError(f"{scene.label} holds an outline that cannot be drawn: {error}") from error
    return np.where(valid, drawn, IGNORED).astype(np.uint8)


def _outlines(scene: Scene) -> list[dict[str, Any]]:
    if scene.label is None:
        raise SampleError(f"{scene.name} has no outlines")
    try:
        raw = json.loads(read_text(scene.label))
        found = [feature["geometry"] for feature in raw["features"]]
        strange = {geometry["type"] for geometry in found} - {"Polygon", "MultiPolygon"}
    except (ValueError, KeyError, TypeError, RecursionError, SourceError) as error:
        raise SampleError(f"{scene.label} is no GeoJSON of polygons: {error}") from error
    if strange:
        raise SampleError(f"{scene.label} holds a {sorted(strange)[0]}; outlines are polygons")
    return found


def _read(scene: Scene) -> tuple[Pixels, Any]:
    from geoglot.imagery.scene import open_scene

    with open_scene(scene.image) as opened:
        pixels = opened.read(Window(0, 0, opened.info.width, opened.info.height))
    return pixels.rgb, pixels.valid
