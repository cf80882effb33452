"""Dense-mask sets by name or layout: find one in its folder, in whichever arrangement it lies there, and read it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path

from geoglot.data.segmentation.entries import Asked, Entry, Reading, spellings
from geoglot.data.segmentation.folders import read_generic
from geoglot.data.segmentation.polygons import read_coco_masks
from geoglot.data.segmentation.sets import SegmentationSet
from geoglot.errors import SourceError, UnknownNameError

READERS: dict[str, Callable[[Asked], Reading]] = {"folder": read_generic, "coco": read_coco_masks}
BARE = {"folder": "classes.json", "coco": "instances.json"}
"""Layouts that may be named instead of a set, because they bring their own classes; and the file that tells them."""


@cache
def catalogue() -> dict[str, Entry]:
    """All sets, in the order of the file."""
    raw = tomllib.loads(resources.files(__package__).joinpath("catalogue.toml").read_text("utf-8"))
    entries = {}
    for name, table in raw.items():
        classes = tuple(tuple(word.strip() for word in line.split(",")) for line in table.pop("classes", ()))
        layouts = tuple(table.pop("layouts"))
        parts = {split: tuple(patterns) for split, patterns in table.pop("parts", {}).items()}
        entries[name] = Entry(name=name, classes=classes, layouts=layouts, parts=parts, **table)
    return entries


def open_segmentation(name_or_layout: str, folder: Path, split: str | None = None) -> SegmentationSet:
    """Open a set of images with a class for each pixel.

    Args:
        name_or_layout: A set of the catalogue ("loveda", "dubai", ...), or "folder" (images/, masks/, classes.json) or
            "coco" (instances.json with polygons) for one's own.
        folder: The set's own folder, as it was unpacked.
        split: "train", "valid" or "test" in any usual spelling, or "all" where the set has no parts; None: what the
            published protocols evaluate.

    Raises:
        UnknownNameError: No such set, layout or split.
        SourceError: It is not there (with its page and the expected arrangement), or is damaged.
    """
    entry = find_entry(name_or_layout, folder)
    split = split or entry.split
    if not folder.is_dir():
        raise absent(entry, folder, split)
    for layout in entry.layouts:
        for spelling in spellings(split):
            if (folder / str(layout["tells"]).format(split=spelling)).exists():
                asked = Asked(folder, spelling, entry, layout)
                return _made(asked, READERS[layout["layout"]](asked), split)
    raise absent(entry, folder, split)


def find_entry(name: str, folder: Path) -> Entry:
    """A set's description; for a bare layout one that is named after the folder. Raises UnknownNameError."""
    if name in BARE:
        layout = {"layout": name, "tells": BARE[name]}
        return Entry(folder.name or name, folder.name, "", "", "all", layouts=(layout,))
    if name not in catalogue():
        raise UnknownNameError("segmentation set or layout", name, [*catalogue(), *BARE])
    return catalogue()[name]


def absent(entry: Entry, folder: Path, split: str) -> SourceError:
    """What to say when nothing is there."""
    wanted = "; ".join(f"{folder}/{str(layout['tells']).format(split=split)}" for layout in entry.layouts)
    where = f"Get it from {entry.page} (licence: {entry.licence}) and unpack it so" if entry.page else "Arrange it so"
    return SourceError(
        f"{entry.title} ({entry.name!r}, split {split}) is not in {folder}",
        hint=f"{where} that one of these is there: {wanted}",
    )


def _made(asked: Asked, reading: Reading, split: str) -> SegmentationSet:
    entry = asked.entry
    made = SegmentationSet(
        name=entry.name,
        split=split,
        classes=entry.classes or reading.classes,
        scenes=reading.scenes,
        read_label=reading.read_label,
        gsd_m=entry.gsd_m or reading.gsd_m,
        background=reading.background if entry.background is None else entry.background,
        threshold=entry.threshold,
        source=f"{asked.table['layout']} {asked.folder}",
        skipped=reading.skipped,
        notes=reading.notes,
    )
    if reading.read_image is not None:
        made = replace(made, read_image=reading.read_image)
    return _part(made, entry) if entry.parts and split != "all" else made


def _part(whole: SegmentationSet, entry: Entry) -> SegmentationSet:
    """Scenes of a split that the catalogue tells by their names."""
    patterns = next((entry.parts[name] for name in spellings(whole.split) if name in entry.parts), None)
    if patterns is None:
        raise UnknownNameError(f"split of {entry.name}", whole.split, [*entry.parts, "all"])
    scenes = tuple(scene for scene in whole.scenes if any(fnmatchcase(scene.name, p) for p in patterns))
    if not scenes:
        raise SourceError(f"{whole.source} has no scenes of {whole.split}", hint=f"Their names: {', '.join(patterns)}.")
    return replace(whole, scenes=scenes)
