"""Draw the sandbox country into a folder: scenes as cloud-optimised GeoTIFFs, a STAC catalogue, perfect ground truth.

scenes/<name>.tif          catalog.json, items/<name>.json
truth/<name>.mask.tif      classes as numbered in truth/classes.json
truth/<name>.json          instances, referring expressions and captions in ten languages
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import StorageError, UnknownNameError
from geoglot_sandbox.catalogue import write_catalogue
from geoglot_sandbox.concepts import CONCEPTS
from geoglot_sandbox.painter import Painted, paint
from geoglot_sandbox.plan import Country
from geoglot_sandbox.rasters import NOTICE, Placement, place, write_cog
from geoglot_sandbox.scenes import SceneSpec, scene_set
from geoglot_sandbox.sensors import photograph, reflectance
from geoglot_sandbox.truth import expressions, instances, scene_captions, shares
from geoglot_sandbox.world import World

SPECTRUM = ("blue", "green", "red", "nir", "swir")
"""Order of the bands that `reflectance` gives."""


@dataclass(frozen=True, slots=True)
class CountryReport:
    """What was drawn.

    Attributes:
        folder: Where it lies.
        catalog: The STAC catalogue.
        scenes: The scene files, in the order of drawing.
        objects: Number of labelled objects over all scenes.
        seed: What it was drawn from.
    """

    folder: Path
    catalog: Path
    scenes: tuple[Path, ...]
    objects: int
    seed: int


def draw_country(
    folder: Path,
    seed: int = 7,
    *,
    scenes: Literal["small", "full"] = "full",
    on_progress: Callable[[int, int, str], None] | None = None,
) -> CountryReport:
    """Draw and write the whole country; equal seeds give equal pixels. Cost: about 20 s for the full set.

    Args:
        folder: Made if missing; files of the same names are replaced.
        seed: Which country.
        scenes: "full" (15 scenes of about 1 Mpx), or "small" (6 small windows, for tests).
        on_progress: Called with (scenes done, scenes in all, name of the scene just written).

    Raises:
        UnknownNameError: `scenes` is neither "small" nor "full".
        StorageError: The folder cannot be written.
    """
    if scenes not in {"small", "full"}:
        raise UnknownNameError("set of scenes", scenes, ("small", "full"))
    folder = Path(folder)
    specs = scene_set(scenes)
    try:
        for part in ("scenes", "truth"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        _write_json(folder / "truth" / "classes.json", {"synthetic": True, "note": NOTICE, "classes": list(CONCEPTS)})
        placements, objects = [], 0
        for done, spec in enumerate(specs, 1):
            placement, found = _draw_scene(folder, Country(seed), spec)
            placements.append(placement)
            objects += found
            if on_progress:
                on_progress(done, len(specs), spec.name)
        catalog = write_catalogue(folder, list(zip(specs, placements, strict=True)), seed)
    except OSError as error:
        raise StorageError(
            f"the sandbox cannot be written to {folder}: {error}", hint="Check free space and rights."
        ) from error
    return CountryReport(folder, catalog, tuple(folder / "scenes" / f"{s.name}.tif" for s in specs), objects, seed)


def render_scene(country: Country, spec: SceneSpec) -> tuple[NDArray[Any], Painted, World, Placement]:
    """Pixels [C, H, W] in the sensor's bands, the painted window with its truth, its world, and where it lies."""
    placement = place(spec)
    (w, h), gsd, (cx, cy) = spec.size_px, spec.sensor.gsd_m, spec.centre
    box = (cx - w * gsd / 2, cy - h * gsd / 2, cx + w * gsd / 2, cy + h * gsd / 2)
    world = country.draw(box, gsd, spec.style)
    painted = paint(world, placement.view, spec.sun, country.seed)
    noise = Random(f"{country.seed} {spec.name}").getrandbits(32)
    if spec.sensor.dtype == "uint8":
        return np.moveaxis(photograph(painted, spec.sensor.look, noise), 2, 0), painted, world, placement
    cube = reflectance(painted, spec.sensor.look, noise)
    return cube[[SPECTRUM.index(band) for band in spec.sensor.bands]], painted, world, placement


def _draw_scene(folder: Path, country: Country, spec: SceneSpec) -> tuple[Placement, int]:
    pixels, painted, world, placement = render_scene(country, spec)
    write_cog(folder / "scenes" / f"{spec.name}.tif", pixels, spec.sensor.bands, spec, placement.transform)
    mask_path = folder / "truth" / f"{spec.name}.mask.tif"
    write_cog(mask_path, painted.mask[None], ("class",), spec, placement.transform, CLASSES="classes.json")
    found = instances(painted, world)
    truth = {
        "synthetic": True,
        "note": NOTICE,
        "scene": f"{spec.name}.tif",
        "size_px": list(spec.size_px),
        "gsd_m": spec.sensor.gsd_m,
        "seed": country.seed,
        "classes": shares(painted.mask),
        "captions": scene_captions(painted.mask, found, Random(f"{country.seed} {spec.name} words")),
        "expressions": expressions(found, spec.size_px),
        "instances": found,
    }
    _write_json(folder / "truth" / f"{spec.name}.json", truth)
    return placement, len(found)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
