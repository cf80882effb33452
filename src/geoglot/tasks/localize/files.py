"""What localization leaves in a folder: heat maps, regions, pictures, a report.

| file | what |
|---|---|
| `heat.tif` | float32, one band a sentence, on the scene's own grid in cells; NaN is nodata |
| `regions.geojson` | regions of all sentences in lon/lat, with level, score, confidence, and their pixels |
| `picture-<k>.png` | the scene with the k-th sentence's heat and regions, for people |
| `report.json` | what was asked, in which mode, and the regions once more |
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import StorageError
from geoglot.imagery.scene import Scene
from geoglot.tasks.localize.localizer import Heat, LocalizePlan, Place
from geoglot.types import Ring

if TYPE_CHECKING:
    from PIL.Image import Image

BLOCK_PX = 256
PICTURE_PX = 1024
SMALLEST_PICTURE_PX = 512
WARM = ((0.0, (13, 8, 90)), (0.5, (200, 60, 110)), (1.0, (250, 230, 80)))
"""Level to colour, dark to bright, so that it reads without colour as well."""


def write_heats(
    scene: Scene, plan: LocalizePlan, heats: Iterable[Heat], sentences: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Write everything, one sentence at a time; returns the report.

    Raises:
        StorageError: The folder cannot be written.
    """
    features: list[Any] = []
    rows: list[dict[str, Any]] = []
    with _heat_file(scene, plan, sentences, folder / "heat.tif") as band:
        for k, heat in enumerate(heats, start=1):
            band(k, heat.values)
            places = [_facts(heat.sentence, rank, place, scene) for rank, place in enumerate(heat.places, start=1)]
            features += [_feature(scene, place, facts) for place, facts in zip(heat.places, places, strict=True)]
            _save(picture(scene, heat), folder / f"picture-{k}.png")
            said = {"sentence": heat.sentence, "nothing_matches": heat.nothing_matches, "notes": list(heat.notes)}
            rows.append({**said, "regions": places})
    return _reported(scene, plan, rows, features, folder)


def _reported(
    scene: Scene, plan: LocalizePlan, rows: list[dict[str, Any]], features: list[Any], folder: Path
) -> dict[str, Any]:
    from geoglot.imagery.vectors import write_vectors

    settings = plan.settings
    report = {
        "scene": scene.info.name,
        "width": scene.info.width,
        "height": scene.info.height,
        "crs": scene.info.crs,
        "mode": settings.mode,
        "finer": settings.finer,
        "sides_px": list(settings.sides_px),
        "windows": plan.windows,
        "cell_px": settings.cell_px,
        "level": settings.level,
        "notes": list(plan.notes),
        "sentences": rows,
    }
    write_vectors(features, folder / "regions.geojson", "geojson")
    try:
        (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise _not_written(folder, error) from error
    return report


def _not_written(path: Path, error: Exception) -> StorageError:
    return StorageError(f"cannot write {path}: {error}", hint="Check the folder and the free space.")


@contextmanager
def _heat_file(scene: Scene, plan: LocalizePlan, sentences: Sequence[str], path: Path) -> Iterator[Any]:
    """Gives a function that writes a band."""
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.transform import Affine

    wkt, t = scene.grid_reference
    cell = plan.settings.cell_px or 1
    profile: dict[str, Any] = {"driver": "GTiff", "width": plan.width, "height": plan.height, "count": len(sentences)}
    profile |= {"dtype": "float32", "nodata": math.nan, "compress": "deflate", "interleave": "band"}
    profile |= {"crs": wkt, "transform": Affine(t.a * cell, t.b * cell, t.c, t.d * cell, t.e * cell, t.f)}
    if min(plan.width, plan.height) >= BLOCK_PX:
        profile |= {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", **profile) as out:
                out.update_tags(GEOGLOT_MODE=plan.settings.mode, GEOGLOT_CELL_PX=cell, GEOGLOT_UNIT="level")
                for k, sentence in enumerate(sentences, start=1):
                    out.set_band_description(k, sentence)
                yield lambda k, values: out.write(values.astype(np.float32), k)
    except (OSError, RasterioError) as error:
        raise _not_written(path, error) from error


def _facts(sentence: str, rank: int, place: Place, scene: Scene) -> dict[str, Any]:
    """A region as plain values."""
    x, y = place.peak_px
    at = scene.lonlat(np.array([x]), np.array([y]))
    lon, lat = (float(v[0]) for v in at) if at else (math.nan, math.nan)
    known = math.isfinite(lon) and math.isfinite(lat)
    box = dict(zip(("x0_px", "y0_px", "x1_px", "y1_px"), place.window.box_px, strict=True))
    return {
        "sentence": sentence,
        "rank": rank,
        "level": round(place.level, 4),
        "score": round(place.score, 6),
        "confidence": place.confidence,
        "peak_x_px": round(x, 1),
        "peak_y_px": round(y, 1),
        "peak_lon": lon if known else None,
        "peak_lat": lat if known else None,
        **box,
    }


def _feature(scene: Scene, place: Place, facts: Mapping[str, Any]) -> Any:
    from geoglot.imagery.vectors import Feature

    return Feature(_rings(scene, place), facts)


def _rings(scene: Scene, place: Place) -> tuple[Ring, ...]:
    """The region's outlines in lon/lat, without holes; its box's footprint where they reach over the antimeridian."""
    import shapely

    if scene.info.gsd_m is None:
        return ()
    height, width = scene.info.height, scene.info.width
    x0, y0, x1, y1 = np.minimum(place.runs_px, [width, height, width, height]).T
    outline = shapely.union_all(shapely.box(x0, y0, x1, y1)).simplify(0)
    rings = []
    for part in shapely.get_parts(outline):
        corners = shapely.get_coordinates(part.exterior)
        lon, lat = scene.lonlat(corners[:, 0], corners[:, 1]) or (np.empty(0), np.empty(0))
        if not (np.isfinite(lon) & (np.abs(lat) <= 90)).all() or np.ptp(lon) > 180:
            return scene.chip(place.window).footprint_lonlat
        rings.append(tuple(zip(lon.tolist(), lat.tolist(), strict=True)))
    return tuple(rings)


def picture(scene: Scene, heat: Heat) -> Image:
    """The scene under its heat, regions framed and numbered; the longer side at most 1024 px."""
    from PIL import Image, ImageDraw

    info = scene.info
    scale = min(1.0, PICTURE_PX / max(info.width, info.height))
    scale = max(scale, SMALLEST_PICTURE_PX / max(info.width, info.height)) if scale == 1.0 else scale
    size = (max(1, round(info.width * scale)), max(1, round(info.height * scale)))
    pixels = scene.small((size[1], size[0]))
    level = _enlarged(np.nan_to_num(heat.level), size)
    shade = (0.25 + 0.45 * level)[..., None]
    mixed = np.where(pixels.valid[..., None], (1 - shade) * pixels.rgb + shade * _warm(level), 255)
    image = Image.fromarray(np.rint(mixed).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for rank, place in enumerate(heat.places, start=1):
        x0, y0, x1, y1 = (v * scale for v in place.window.box_px)
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=(255, 255, 255), width=2)
        pen.text((x0 + 5, y0 + 3), str(rank), fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return image


def _enlarged(level: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    from PIL import Image

    found = Image.fromarray(level.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(np.clip(np.asarray(found), 0, 1), np.float32)


def _warm(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """Levels [H, W] to colours [H, W, 3]."""
    at = [stop for stop, _ in WARM]
    bands = [np.interp(level, at, [colour[i] for _, colour in WARM]) for i in range(3)]
    return np.stack(bands, axis=-1).astype(np.float32)


def _save(image: Image, path: Path) -> None:
    try:
        image.save(path)
    except OSError as error:
        raise _not_written(path, error) from error
