"""Segmentation as a task: class maps of scenes that an archive holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoglot.archive.archive import Archive
from geoglot.archive.pictures import open_again
from geoglot.errors import TooLargeError, UsageError
from geoglot.models.encoder import dense
from geoglot.tasks.registry import Report, option
from geoglot.tasks.requests import Where
from geoglot.tasks.segment.scene import segment_scene
from geoglot.tasks.segment.segmenter import Segmenter, SegmentSettings
from geoglot.tasks.segment.windows import words_of
from geoglot.types import SceneInfo

MAX_SCENES = 100


@dataclass(frozen=True, kw_only=True)
class SegmentRequest(Where):
    """Which classes, over which scenes. A scene is taken whole when one of its chips is chosen."""

    classes: tuple[str, ...] = option('the classes, each a word or synonyms: "building,roof"', ())
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

        def told(share: float, words: str, done: int = number, name: str = info.name) -> None:
            report((done + share) / len(scenes), f"{name}: {words}")

        with open_again(info, archive.reach) as scene:
            segment_scene(segmenter, scene, folder, vectors=request.vectors, prefix=prefix, told=told)


def prefixes(scenes: Sequence[SceneInfo]) -> list[str]:
    """Beginnings of file names, one a scene and no two alike; with the scene's id where two have the same name."""
    names = [re.sub(r"[^\w.-]+", "_", Path(info.name).stem) for info in scenes]
    return [
        f"{name}-" if names.count(name) == 1 else f"{name}-{info.scene_id}-"
        for name, info in zip(names, scenes, strict=True)
    ]
