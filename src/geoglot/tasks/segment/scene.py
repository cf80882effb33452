"""A scene segmented into a folder of files; and the task `segment`, which does so with scenes of an archive."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geoglot.archive.archive import Archive
from geoglot.archive.pictures import open_again
from geoglot.archive.request import FilterRequest, option
from geoglot.errors import StorageError, TooLargeError, UsageError
from geoglot.imagery.polygons import area_polygons, scene_place
from geoglot.imagery.rasters import Layer, block_rasters
from geoglot.imagery.scene import Scene
from geoglot.imagery.vector_stream import write_stream
from geoglot.models.encoder import dense
from geoglot.tasks.registry import Report
from geoglot.tasks.segment.decision import NODATA
from geoglot.tasks.segment.files import (
    LegendEntry,
    check_vectors,
    legend_properties,
    make_legend,
    palette,
    write_legend,
    write_picture,
)
from geoglot.tasks.segment.segmenter import Scored, Segmenter, SegmentSettings
from geoglot.tasks.segment.windows import Plan, ScenePicture, words_of
from geoglot.types import SceneInfo

MAX_SCENES = 100
ENCODING, DECIDING = 0.8, 0.12
"""Shares of the work, for progress; the rest is polygons and the picture."""


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """The report on one scene.

    Attributes:
        scene: Its file name.
        model: The model's name.
        width, height: Pixels.
        gsd_m: Metres a pixel; None where it is not known.
        window_m, window_px: Side of a window on the ground and in the scene's pixels.
        shown_px: Side at which the model saw it.
        windows: How many.
        classes: The legend; empty before anything was done.
        nodata: Share of pixels without data.
        polygons: How many.
        files: What was written.
        notes: What a reader must know, in sentences.
        elapsed_s: Seconds.
    """

    scene: str
    model: str
    width: int
    height: int
    gsd_m: float | None
    window_m: float | None
    window_px: float
    shown_px: int
    windows: int
    classes: tuple[LegendEntry, ...] = ()
    nodata: float = 0.0
    polygons: int = 0
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    elapsed_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan_scene(segmenter: Segmenter, scene: Scene) -> SegmentReport:
    """The report that segment_scene would give, without reading a pixel."""
    return SegmentReport(**_facts(segmenter, scene, segmenter.plan(ScenePicture(scene))))


def segment_scene(
    segmenter: Segmenter,
    scene: Scene,
    folder: Path,
    *,
    vectors: Sequence[str] = ("geojson",),
    prefix: str = "",
    progress: Report | None = None,
) -> SegmentReport:
    """Segment a scene of any size; see geoglot.tasks.segment.files for what it leaves.

    Memory: bounded by one strip of windows and of blocks, the outlines of the polygons, and the model.

    Args:
        segmenter: Model and classes.
        scene: Open.
        folder: Where the files go; made if need be.
        vectors: Formats of polygons: "geojson", "gpkg", "parquet"; none is possible.
        prefix: Of the files' names, for several scenes in one folder.
        progress: Called with the share done and a few words.

    Raises:
        UnknownNameError: Another format.
        EmptySceneError: Nothing but nodata.
        UnreadableSceneError: Damaged pixels.
        MissingExtraError: GeoPackage without pyogrio.
        StorageError: A file cannot be written.
    """
    begun, formats = time.monotonic(), check_vectors(vectors)
    say = progress or (lambda share, words: None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {error}", hint="Choose another folder.") from error
    files = _Files(folder, prefix)
    picture = ScenePicture(scene)
    plan = segmenter.plan(picture)
    with segmenter.scored(picture, plan, lambda share, words: say(ENCODING * share, words)) as scored:
        counts = _write_rasters(segmenter, scene, scored, files, say)
        presence = scored.presence
    legend = make_legend(
        segmenter.classes,
        segmenter.settings.background or (),
        presence,
        segmenter.settings.presence,
        counts,
        scene.info.gsd_m,
    )
    say(ENCODING + DECIDING, "polygons")
    about = {"scene": scene.info.name, "model": segmenter.encoder.card.name}
    write_legend(files.path("legend.json"), files.path("classes.qml"), legend, about)
    with ThreadPoolExecutor(1) as beside:
        drawn = beside.submit(write_picture, files.path("picture.png"), scene, files.path("classes.tif"), legend)
        polygons = _write_polygons(scene, legend, files, formats)
        drawn.result()
    report = SegmentReport(
        **_facts(segmenter, scene, plan),
        classes=legend,
        nodata=round(float(counts[NODATA] / counts.sum()), 6),
        polygons=polygons,
        files=tuple(sorted(files.names)),
        elapsed_s=round(time.monotonic() - begun, 2),
    )
    say(1.0, f"{polygons:,} polygons")
    return report


def _facts(segmenter: Segmenter, scene: Scene, plan: Plan) -> dict[str, Any]:
    info, notes = scene.info, (*segmenter.notes, *plan.notes)
    if info.crs is None:
        notes += ("the scene has no place on the earth: files are in pixels, polygons as (x, -y)",)
    return {
        "scene": info.name,
        "model": segmenter.encoder.card.name,
        "width": info.width,
        "height": info.height,
        "gsd_m": info.gsd_m,
        "window_m": plan.window_m,
        "window_px": round(plan.window_scene_px, 3),
        "shown_px": max(plan.window_px),
        "windows": plan.windows,
        "notes": notes,
    }


def _write_polygons(scene: Scene, legend: Sequence[LegendEntry], files: _Files, formats: Sequence[str]) -> int:
    """The areas of classes.tif in each format; gives how many."""
    paths = {format: files.path(f"polygons.{format}") for format in formats}
    place, on_earth = scene_place(scene)
    outlines = area_polygons(files.path("classes.tif"), place, on_earth, legend_properties(legend), scene.info.gsd_m)
    return write_stream(outlines, paths, "lonlat" if on_earth else "pixels") if paths else 0


class _Files:
    """Names the files of one scene, and remembers which there were."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self.names: set[str] = set()

    def path(self, name: str) -> Path:
        self.names.add(self._prefix + name)
        return self._folder / (self._prefix + name)


def _write_rasters(segmenter: Segmenter, scene: Scene, scored: Scored, files: _Files, say: Report) -> Any:
    """classes.tif and confidence.tif; gives the pixels of each value, [256]."""
    info, grid, size = scene.info, scene.grid_reference, (scene.info.height, scene.info.width)
    grid = grid if info.crs else (None, None)
    names = ["background", *(one.name for one in segmenter.classes)]
    tags = {"GEOGLOT_LABELS": json.dumps(names, ensure_ascii=False), "GEOGLOT_MODEL": segmenter.encoder.card.name}
    layers = (
        Layer(files.path("classes.tif"), NODATA, palette(len(segmenter.classes)), tags),
        Layer(files.path("confidence.tif"), NODATA, tags={"GEOGLOT_UNIT": "percent"}),
    )
    counts = np.zeros(256, np.int64)
    with block_rasters(layers, size, grid) as (classes, confidence):
        for block in scored.blocks():
            classes.write(block.window, block.values)
            confidence.write(block.window, block.percent)
            counts += np.bincount(block.values.ravel(), minlength=256)
            say(ENCODING + DECIDING * block.window.y1 / info.height, "class map")
    return counts


@dataclass(frozen=True, kw_only=True)
class SegmentRequest(FilterRequest):
    """Which classes, over which scenes. A scene is taken whole when one of its chips is chosen."""

    classes: tuple[str, ...] = option(
        'the classes: a word, synonyms "building,roof", or named "Town: building,roof"', ()
    )
    background: str | None = option("what is none of the classes: words, or auto")
    vectors: tuple[str, ...] = option("formats of polygons: geojson, gpkg, parquet", ("geojson",))
    window_m: float | None = option("side of a window in metres")
    overlap: float = option("share of a window that its neighbour repeats", 0.5)
    presence: float = option("leave out classes less present than this, 0 to 1", 0.001)

    def reads(self, archive: Archive) -> tuple[SceneInfo, ...]:
        """The chosen scenes.

        Raises:
            UsageError: None is chosen, or a value is wrong.
            TooLargeError: More than MAX_SCENES.
        """
        chips = archive.vectors(self.filter())
        starts = chips.snapshot.arrays.scene_start
        firsts = np.unique(np.searchsorted(starts, chips.rows, side="right"), return_index=True)[1]
        chosen = tuple(chips.chip(int(number))[1] for number in firsts)
        if not chosen:
            raise UsageError("no scene is chosen", hint="Widen the filter.")
        if len(chosen) > MAX_SCENES:
            raise TooLargeError(
                f"{len(chosen):,} scenes are chosen, over the limit of {MAX_SCENES}", hint="Choose fewer."
            )
        return chosen


def segment(archive: Archive, request: SegmentRequest, folder: Path, report: Report) -> None:
    """Write a class map, confidence, polygons, legend and picture for each scene: `<scene>-classes.tif` and so on.

    Raises:
        UsageError: A class or a value is wrong, or the archive's model does not tell places apart.
        UnknownWordsError: A word that the model does not know.
        TooLargeError: Too many scenes.
        SceneError, SourceError: A scene cannot be read.
        StorageError: The folder cannot be written.
    """
    if archive.encoder is None:
        raise UsageError("the archive was opened without a model", hint="Archive.open(path, load_encoder(name))")
    settings = SegmentSettings(
        window_m=request.window_m,
        overlap=request.overlap,
        background=words_of(request.background),
        presence=request.presence,
    )
    segmenter = Segmenter(dense(archive.encoder), request.classes, settings)
    scenes = request.reads(archive)
    for number, (info, prefix) in enumerate(zip(scenes, prefixes(scenes), strict=True)):

        def progress(share: float, words: str, done: int = number, name: str = info.name) -> None:
            report((done + share) / len(scenes), f"{name}: {words}")

        with open_again(info, archive.reach) as scene:
            segment_scene(segmenter, scene, folder, vectors=request.vectors, prefix=prefix, progress=progress)


def prefixes(scenes: Sequence[SceneInfo]) -> list[str]:
    """Beginnings of file names, one a scene and no two alike; with the scene's id where two have the same name."""
    names = [re.sub(r"[^\w.-]+", "_", Path(info.name).stem) for info in scenes]
    return [
        f"{name}-" if names.count(name) == 1 else f"{name}-{info.scene_id}-"
        for name, info in zip(names, scenes, strict=True)
    ]
