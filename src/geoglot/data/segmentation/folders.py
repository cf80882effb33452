"""Layouts of one image file and one mask file a scene.

generic   images/, masks/, classes.json (a list of names in index order; names such as "unlabeled" are ignored)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from geoglot.data.regions.gather import check_names, list_images, read_text
from geoglot.data.segmentation.entries import Asked, Reading, Words
from geoglot.data.segmentation.sets import IGNORED, Pixels, Scene, by_index
from geoglot.data.whole_images import read_mask
from geoglot.errors import SourceError

NO_CLASS = frozenset({"unlabeled", "unlabelled", "ignore", "ignored", "void", "nodata", "no data", "unknown"})
BACKGROUND = frozenset({"background", "other", "others", "clutter"})


def read_generic(asked: Asked) -> Reading:
    """`images/<name>.<any>`, `masks/<name>.png` and `classes.json`; a class "unlabeled" or the like is ignored."""
    names, table, classes = own_classes(asked.folder / "classes.json")
    scenes, skipped = paired(asked.folder / "images", asked.folder / "masks")

    def label(scene: Scene) -> Pixels:
        assert scene.label is not None  # paired
        return by_index(read_mask(scene.label), table, str(scene.label))

    background = next((i for i, words in enumerate(classes) if words[0].lower() in BACKGROUND), None)
    ignored = sorted(set(names) - {words[0] for words in classes})
    notes = (f"ignored: {', '.join(ignored)}",) if ignored else ()
    return Reading(scenes, label, classes, background=background, skipped=skipped, notes=notes)


def own_classes(file: Path) -> tuple[tuple[str, ...], dict[int, int], Words]:
    """Names of a `classes.json`, the table from its numbers to class indices, and the classes that count.

    Raises:
        SourceError: Not a list of names, one is empty or named twice, or none is a class.
    """
    try:
        raw = json.loads(read_text(file))
    except ValueError as error:
        raise SourceError(f"{file} is not JSON: {error}") from error
    if not isinstance(raw, list) or not all(isinstance(name, str) for name in raw) or len(raw) > IGNORED:
        raise SourceError(f"{file} is no list of at most {IGNORED} class names")
    names = check_names(raw, str(file))
    counted = [number for number, name in enumerate(names) if name.lower() not in NO_CLASS]
    if not counted:
        raise SourceError(f"{file} names no class but {', '.join(names)}")
    table = dict.fromkeys((*range(len(names)), IGNORED), IGNORED)
    table |= {number: index for index, number in enumerate(counted)}
    return names, table, tuple((names[number],) for number in counted)


def paired(
    images: Path, masks: Path, *, strip: tuple[str, str] = ("", "")
) -> tuple[tuple[Scene, ...], tuple[tuple[str, str], ...]]:
    """Images and masks of the same stem, and what has no partner.

    Args:
        images, masks: Folders; sub-folders count as part of the name.
        strip: What to take off the end of an image's and a mask's stem first.

    Raises:
        SourceError: A folder is missing, two files have the same stem, or no image has a mask.
    """
    pictures, labels = stems(images, list_images(images), strip[0]), stems(masks, list_images(masks), strip[1])
    scenes = tuple(Scene(name, path, labels[name]) for name, path in pictures.items() if name in labels)
    alone = [(str(pictures[name]), "no mask") for name in pictures if name not in labels]
    alone += [(str(labels[name]), "no image") for name in labels if name not in pictures]
    if not scenes:
        raise SourceError(f"no image of {images} has a mask of the same name in {masks}")
    return scenes, tuple(alone)


def stems(folder: Path, files: Sequence[Path], strip: str) -> dict[str, Path]:
    """Name without suffix and without `strip` -> file. Raises SourceError: two share a name."""
    found: dict[str, Path] = {}
    for file in files:
        name = str(file.relative_to(folder).with_suffix("")).removesuffix(strip)
        if name in found:
            raise SourceError(f"{file} and {found[name].name} have the same name")
        found[name] = file
    return found
