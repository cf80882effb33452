"""The training sources of recipe `pair` by layout, each read as a set of chips."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from geoglot.data.samples import read_samples
from geoglot.data.segmentation import SegmentationSet, open_segmentation
from geoglot.errors import UsageError
from geoglot.imagery.opening import open_raster
from geoglot.training.recipes.pair.chips import ChipSet, Classes, boxed, captioned, drawn, masked
from geoglot.training.recipes.pair.sentences import Vocabulary

Layout = Literal["rsicd", "eurosat", "vhr10", "dubai", "nymaps", "korea", "oam", "drawn"]
SEED = 0
MASKS = {"dubai": (48, 480), "nymaps": (64, 256), "korea": (24, 160), "oam": (160, 800)}
"""Sets with a class for each pixel, and sides of the squares cut from them in pixels of the scene."""
WEST_M = 340_100.0
"""Easting (EPSG:32652) that divides Korea's scenes, which overlap: those wholly west of it train, wholly east test."""


def read_labels(file: Path) -> Mapping[str, Classes]:
    """Source -> class -> concepts. Raises UsageError."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the classes' concepts in {file}: {error}") from error


def read_chips(
    layout: Layout, folder: Path, labels: Mapping[str, Classes], vocabulary: Vocabulary, count: int, cache: Path
) -> ChipSet:
    """One source's training part.

    Raises:
        SourceError: It is not there, or damaged.
    """
    classes = labels.get(layout, {})
    if layout == "rsicd":
        return captioned(layout, read_samples(folder / "captions.jsonl", "train"), 160, classes, vocabulary)
    if layout == "eurosat":
        return captioned(layout, read_samples(folder / "labels.jsonl", "train"), 64, classes, vocabulary)
    if layout == "vhr10":
        return boxed(folder, classes, vocabulary, SEED)
    if layout in MASKS:
        scenes = _western(folder) if layout == "korea" else open_segmentation(layout, folder, "train")
        return masked(layout, scenes, classes, vocabulary, SEED, per_scene=count, sides_px=MASKS[layout])
    return drawn(vocabulary, count, SEED, cache)


def _western(folder: Path) -> SegmentationSet:
    """Korea's training part."""
    scenes = open_segmentation("korea", folder, "all")
    west = []
    for scene in scenes.scenes:
        with open_raster(str(scene.image)) as raster:
            if raster.bounds.right <= WEST_M:
                west.append(scene)
    return replace(scenes, split="train", scenes=tuple(west))
