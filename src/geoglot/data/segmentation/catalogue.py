"""Dense-mask sets by name or layout: find one in its folder, in whichever arrangement it lies there, and read it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path

from geoglot.data.segmentation.folders import read_beside, read_folder, read_pairs
from geoglot.data.segmentation.polygons import read_coco_masks, read_outlines
from geoglot.data.segmentation.sets import Asked, Entry, Reading, Scene, SegmentationSet, spellings
from geoglot.errors import SourceError, UnknownNameError

READERS: dict[str, Callable[[Asked], Reading]] = {
    "folder": read_folder, "beside": read_beside, "pairs": read_pairs, "coco": read_coco_masks,
    "outlines": read_outlines,
}  # fmt: skip
BARE = {"folder": "classes.json", "coco": "instances.json"}
"""Layouts that may be named instead of a set, because they bring their own classes; and the file that tells them."""


@cache
def catalogue() -> dict[str, Entry]:
    """All sets, in the order of the file."""
    raw = tomllib.loads(resources.files(__package__).joinpath("catalogue.toml").read_text("utf-8"))
    entries = {}
    for name, table in raw.items():
        classes = tuple(tuple(word.strip() for word in line.split(",")) for line in table.pop("classes", ()))
        layouts, withheld = tuple(table.pop("layouts")), tuple(table.pop("withheld", ()))
        entries[name] = Entry(name=name, classes=classes, layouts=layouts, withheld=withheld, **table)
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
    for layout in entry.layouts if folder.is_dir() else ():
        for spelling in spellings(split):
            asked = Asked(folder, spelling, entry, layout)
            if any(folder.glob(asked.pattern("tells"))):
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
    """The error for a set that is not there."""
    wanted = "; ".join(f"{folder}/{str(layout['tells']).format(split=split)}" for layout in entry.layouts)
    where = f"Get it from {entry.page} (licence: {entry.licence}) and unpack it so" if entry.page else "Arrange it so"
    if set(spellings(split)) & set(entry.withheld):
        where = f"Its authors keep the masks of {split} to themselves. {where}"
    return SourceError(
        f"{entry.title} ({entry.name!r}, split {split}) is not in {folder}",
        hint=f"{where} that one of these is there: {wanted}",
    )


def _made(asked: Asked, reading: Reading, split: str) -> SegmentationSet:
    entry = asked.entry
    scenes, strangers = _part(asked, reading.scenes, split)
    gsd_m = reading.gsd_m(scenes[0]) if reading.gsd_m and entry.gsd_m is None else entry.gsd_m
    made = SegmentationSet(
        name=entry.name,
        split=split,
        classes=entry.classes or reading.classes,
        scenes=scenes,
        read_label=reading.read_label,
        gsd_m=gsd_m,
        background=reading.background if entry.background is None else entry.background,
        threshold=entry.threshold,
        source=f"{asked.table['layout']} {asked.folder}",
        skipped=(*reading.skipped, *strangers),
        notes=(*reading.notes, *([entry.remark] if entry.remark else [])),
    )
    return made if reading.read_image is None else replace(made, read_image=reading.read_image)


def _part(asked: Asked, scenes: tuple[Scene, ...], split: str) -> tuple[tuple[Scene, ...], tuple[tuple[str, str], ...]]:
    """The scenes of a split that the catalogue tells by their names, and those that are of none."""
    parts: Mapping[str, list[str]] = asked.table.get("parts", {})
    if not parts or split == "all":
        return scenes, ()
    ours = next((name for name in spellings(split) if name in parts), None)
    if ours is None:
        raise UnknownNameError(f"split of {asked.entry.name}", split, [*parts, "all"])
    strangers = tuple((s.name, "in no split") for s in scenes if not any(_fits(s, p) for p in parts.values()))
    kept = tuple(scene for scene in scenes if _fits(scene, parts[ours]))
    if not kept:
        raise SourceError(f"{asked.folder} has no scenes of {split}", hint=f"Their names: {', '.join(parts[ours])}.")
    return kept, strangers


def _fits(scene: Scene, patterns: list[str]) -> bool:
    return any(fnmatchcase(scene.name, pattern) for pattern in patterns)
