"""Sentences against a scene, as files in a folder: heat maps, regions, pictures, a report; and the task `localize`.

| file | what |
|---|---|
| `heat.tif` | float32, one band a sentence, on the scene's own grid in cells; NaN is nodata |
| `regions.geojson` | regions of all sentences in lon/lat, with level, score, confidence, and their pixels |
| `picture-<k>.png` | the scene with the k-th sentence's heat and regions, for people |
| `report.json` | what was asked, and the regions once more |
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.archive import Archive
from geoglot.archive.pictures import open_again
from geoglot.archive.request import option
from geoglot.errors import StorageError, UnknownNameError, UsageError
from geoglot.imagery.scene import Scene
from geoglot.tasks.localize.localizer import Heat, LocalizePlan, LocalizeSettings, Place, localize_scene, make_plan
from geoglot.tasks.registry import Report
from geoglot.types import Ring, SceneInfo

if TYPE_CHECKING:
    from PIL.Image import Image

MODE = "fast"
"""How maps are made, for readers of the files: not as the `selo/air-slt` protocol repeats the released code."""
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
            facts = {"sentence": heat.sentence, "nothing_matches": heat.nothing_matches, "notes": list(heat.notes)}
            rows.append({**facts, "regions": places})
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
        "mode": MODE,
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
                out.update_tags(GEOGLOT_MODE=MODE, GEOGLOT_CELL_PX=cell, GEOGLOT_UNIT="level")
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
    placed = math.isfinite(lon) and math.isfinite(lat)
    box = dict(zip(("x0_px", "y0_px", "x1_px", "y1_px"), place.window.box_px, strict=True))
    return {
        "sentence": sentence,
        "rank": rank,
        "level": round(place.level, 4),
        "score": round(place.score, 6),
        "confidence": place.confidence,
        "peak_x_px": round(x, 1),
        "peak_y_px": round(y, 1),
        "peak_lon": lon if placed else None,
        "peak_lat": lat if placed else None,
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

    larger = Image.fromarray(level.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(np.clip(np.asarray(larger), 0, 1), np.float32)


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


@dataclass(frozen=True, kw_only=True)
class LocalizeRequest:
    """A scene, the sentences, and how to look."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    scene: str = option("the scene, by its id or name", "")
    text: tuple[str, ...] = option("what to look for, one or several sentences", ())
    finer: bool = option("average with the places inside the smallest windows", False)
    sides_px: str = option("sides of the windows in pixels, separated by commas", "256,512,768")
    level: float = option("from here on, on a map from 0 to 1, cells make regions", 0.75)

    def reads(self, archive: Archive) -> tuple[SceneInfo, ...]:
        """The scene.

        Raises:
            UnknownNameError: There is none.
            UsageError: Several have that name.
        """
        return (find_scene(archive, self.scene),)


def localize(archive: Archive, request: LocalizeRequest, folder: Path, report: Report) -> None:
    """Write heat.tif, regions.geojson, report.json, and a picture a sentence.

    Raises:
        QueryError: No sentence, or no word of one is known.
        UsageError: A value is wrong, or the archive was opened without a model.
        SourceError, SceneError: The scene cannot be read again.
        StorageError: The folder cannot be written.
    """
    if archive.encoder is None:
        raise UsageError("the archive was opened without a model", hint="Archive.open(path, load_encoder(name))")
    settings = LocalizeSettings(parse_sides(request.sides_px), finer=request.finer, level=request.level)
    with open_again(find_scene(archive, request.scene), archive.reach) as scene:
        plan = make_plan(scene, request.text, settings)
        heats = localize_scene(scene, archive.encoder, request.text, plan, report)
        write_heats(scene, plan, heats, request.text, folder)
    report(1.0, f"{len(request.text)} sentences")


def parse_sides(text: str) -> tuple[int, ...]:
    """ "256,512" -> (256, 512).

    Raises:
        UsageError: Not whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(
            f"{text!r} are not whole numbers separated by commas", hint="For example 256,512,768."
        ) from error


def find_scene(archive: Archive, name: str) -> SceneInfo:
    """A scene by its id or name.

    Raises:
        UnknownNameError: There is none.
        UsageError: Several have that name.
    """
    infos = [record.info for record in archive.scenes()]
    named = [info for info in infos if name in (info.scene_id, info.name)]
    if not named:
        raise UnknownNameError("scene", name, [info.name for info in infos])
    if len(named) > 1:
        raise UsageError(
            f"{len(named)} scenes are called {name!r}", hint=f"Give an id: {', '.join(i.scene_id for i in named)}"
        )
    return named[0]
