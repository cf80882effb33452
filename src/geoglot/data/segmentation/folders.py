"""Layouts of one image file and one mask file a scene.

folder    images/, masks/, classes.json (names in index order; a class "unlabeled" or the like is ignored)
beside    <scene>.tif, <scene>.classes.png, classes.json in one folder
pairs     two folders that the catalogue names, masks of numbers or of colours, whole or in chips
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from geoglot.data.image_files import image_size, read_mask, read_rgb
from geoglot.data.pairs import stamp
from geoglot.data.regions.checks import check_names, list_images, read_text
from geoglot.data.segmentation.sets import IGNORED, Asked, Pixels, Reading, Scene, Words, by_colour, by_index
from geoglot.errors import SampleError, SourceError
from geoglot.types import Window

NO_CLASS = frozenset({"unlabeled", "unlabelled", "ignore", "ignored", "void", "nodata", "no data", "unknown"})
BACKGROUND = frozenset({"background", "other", "others", "clutter"})

Skipped = tuple[tuple[str, str], ...]


def read_folder(asked: Asked) -> Reading:
    """`images/<name>.<any>` and `masks/<name>.<any>`, with `classes.json` beside the two."""
    scenes, skipped = paired(asked.folder / "images", asked.folder / "masks")
    return _own(asked, scenes, skipped)


def read_beside(asked: Asked) -> Reading:
    """`<name>.tif` and `<name>.classes.png`, with `classes.json` beside them."""
    masks = {path.name.removesuffix(".classes.png"): path for path in sorted(asked.folder.glob("*.classes.png"))}
    images = {path.stem: path for path in sorted(asked.folder.glob("*.tif"))}
    return _own(asked, *_join(images, masks, str(asked.folder)))


def _own(asked: Asked, scenes: tuple[Scene, ...], skipped: Skipped) -> Reading:
    """A set that brings its own class names."""
    names, table, classes = own_classes(asked.folder / "classes.json")

    def label(scene: Scene) -> Pixels:
        return by_index(_label_of(scene), table, str(scene.label))

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
    except (ValueError, RecursionError) as error:
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


def read_pairs(asked: Asked) -> Reading:
    """Two folders that the catalogue names.

    Keys of the layout's table: `images`, `masks` (folders; a `*` in both stands for the same name), `strip` (ends of
    the two stems), `numbers` (class index of each number in the files) or `colours` (of each class) with `ignored`
    colours, `unknown` (what other numbers or colours become), `names` (a file that lists the split), `chips` and `step`
    (width and height that scenes are cut to, and how far apart the cuts begin).
    """
    scenes, skipped = _found(asked)
    if "names" in asked.table:
        scenes, skipped = _listed(asked, scenes, skipped)
    if "chips" in asked.table:
        scenes = tuple(chip for scene in scenes for chip in cut(scene, asked.table["chips"], asked.table["step"]))
    decode = _decoder(asked)

    def label(scene: Scene) -> Pixels:
        return within(decode(_label_of(scene), str(scene.label)), scene, IGNORED)

    def image(scene: Scene) -> Pixels:
        return within(
            _whole_rgb(scene.image, stamp(scene.image)), scene, 0
        ).copy()  # torch warns of what cannot be written

    return Reading(scenes, label, read_image=image if "chips" in asked.table else None, skipped=skipped)


def _found(asked: Asked) -> tuple[tuple[Scene, ...], Skipped]:
    """Scenes below all folders that the pattern fits."""
    images, masks = asked.pattern("images"), asked.pattern("masks")
    strip = tuple(asked.table.get("strip", ("", "")))
    if "*" not in images:
        return paired(asked.folder / images, _one(asked.folder, masks), strip=(strip[0], strip[1]))
    scenes: list[Scene] = []
    skipped: list[tuple[str, str]] = []
    for folder in sorted(asked.folder.glob(images)):
        wild = folder.relative_to(asked.folder).parts[Path(images).parts.index("*")]
        found, alone = paired(folder, asked.folder / masks.replace("*", wild), strip=(strip[0], strip[1]))
        scenes += [Scene(f"{wild}/{scene.name}", scene.image, scene.label) for scene in found]
        skipped += alone
    return tuple(scenes), tuple(skipped)


def _one(folder: Path, pattern: str) -> Path:
    """The one folder that fits."""
    hits = [hit for hit in sorted(folder.glob(pattern)) if hit.is_dir()] if "*" in pattern else [folder / pattern]
    if len(hits) != 1:
        names = ", ".join(hit.name for hit in hits) or "none"
        raise SourceError(f"{folder / pattern} must be one folder; there is {names}")
    return hits[0]


def _listed(asked: Asked, scenes: tuple[Scene, ...], skipped: Skipped) -> tuple[tuple[Scene, ...], Skipped]:
    """The scenes that a file of names lists; those it lists in vain are counted."""
    file = asked.folder / asked.pattern("names")
    wanted = [Path(line.strip()).stem for line in read_text(file).splitlines() if line.strip()]
    there = {Path(scene.name).name: scene for scene in scenes}
    kept = tuple(there[name] for name in dict.fromkeys(wanted) if name in there)
    if not kept:
        raise SourceError(f"none of the {len(wanted):,} names of {file} is there")
    return kept, (*skipped, *((name, f"listed in {file.name}, not there") for name in wanted if name not in there))


def _decoder(asked: Asked) -> Callable[[Pixels, str], Pixels]:
    unknown = asked.table.get("unknown")
    if "numbers" in asked.table:
        numbers = {IGNORED: IGNORED} | dict(enumerate(asked.table["numbers"]))
        return lambda mask, name: by_index(mask, numbers, name, unknown)
    colours = dict.fromkeys(map(tuple, asked.table.get("ignored", ())), IGNORED)
    colours |= {(r, g, b): index for index, few in enumerate(asked.table["colours"]) for r, g, b in few}
    return lambda mask, name: by_colour(mask, colours, name, unknown)


# --- chips ---------------------------------------------------------------------------------------


def cut(scene: Scene, side: Sequence[int], step: Sequence[int]) -> list[Scene]:
    """Chips of a scene, row by row, as the converters of mmsegmentation cut them: the last one is shifted inside.

    Args:
        scene: A whole one.
        side: Width and height, px. A scene that is smaller is one chip, filled up on reading.
        step: How far apart chips begin, px.

    Raises:
        SourceError: The image's header cannot be read.
    """
    try:
        width, height = image_size(scene.image)
    except SampleError as error:
        raise SourceError(str(error), hint=error.hint) from error
    rows, columns = starts(height, side[1], step[1]), starts(width, side[0], step[0])
    windows = [Window(x, y, x + side[0], y + side[1]) for y in rows for x in columns]
    named = [f"{scene.name}_{w.y0}_{w.y1}_{w.x0}_{w.x1}" for w in windows]
    return [Scene(name, scene.image, scene.label, w) for name, w in zip(named, windows, strict=True)]


def starts(size: int, side: int, step: int) -> list[int]:
    """Where chips of `side` begin along `size`; 6000, 512, 512 gives 0, 512, ..., 5120, 5488."""
    if size <= side:
        return [0]
    return [*range(0, size - side, step), size - side]


def within(pixels: Pixels, scene: Scene, fill: int) -> Pixels:
    """The scene's window of its file, filled up to the right and below where the file is smaller."""
    if scene.window is None:
        return pixels
    w = scene.window
    part = pixels[w.y0 : w.y1, w.x0 : w.x1]
    if part.shape[:2] == (w.height, w.width):
        return part
    whole = np.full((w.height, w.width, *pixels.shape[2:]), fill, np.uint8)
    whole[: part.shape[0], : part.shape[1]] = part
    return whole


@lru_cache(maxsize=1)
def _whole_rgb(file: Path, mark: str) -> Pixels:
    return _frozen(read_rgb(file))


@lru_cache(maxsize=1)
def _whole_mask(file: Path, mark: str) -> Pixels:
    return _frozen(read_mask(file))


def _frozen(pixels: Pixels) -> Pixels:
    """The last file is kept, for the chips that follow; nobody may write on it."""
    pixels.flags.writeable = False
    return pixels


def _label_of(scene: Scene) -> Pixels:
    """The numbers of a scene's whole mask. Raises SampleError: it is of another size than the picture."""
    if scene.label is None:
        raise SampleError(f"{scene.name} has no mask")
    mask, (width, height) = _whole_mask(scene.label, stamp(scene.label)), image_size(scene.image)
    if mask.shape[:2] != (height, width):
        told = f"{mask.shape[1]} x {mask.shape[0]} px, its picture {width} x {height} px"
        raise SampleError(f"{scene.label} has {told}", hint="Take masks and pictures of the same preparation.")
    return mask


# --- partners ------------------------------------------------------------------------------------


def paired(images: Path, masks: Path, *, strip: tuple[str, str] = ("", "")) -> tuple[tuple[Scene, ...], Skipped]:
    """Images and masks of the same stem, and what has no partner.

    Args:
        images, masks: Folders; sub-folders count as part of the name.
        strip: What to take off the end of an image's and a mask's stem first.

    Raises:
        SourceError: A folder is missing, two files have the same stem, or no image has a mask.
    """
    pictures, labels = _stems(images, strip[0]), _stems(masks, strip[1])
    return _join(pictures, labels, f"{images} and {masks}")


def _join(images: dict[str, Path], masks: dict[str, Path], where: str) -> tuple[tuple[Scene, ...], Skipped]:
    scenes = tuple(Scene(name, path, masks[name]) for name, path in images.items() if name in masks)
    alone = [(str(images[name]), "no mask") for name in images if name not in masks]
    alone += [(str(masks[name]), "no image") for name in masks if name not in images]
    if not scenes:
        raise SourceError(f"no image of {where} has a mask of the same name")
    return scenes, tuple(alone)


def _stems(folder: Path, strip: str) -> dict[str, Path]:
    """Name without suffix and without `strip` -> file. Raises SourceError: two share a name."""
    found: dict[str, Path] = {}
    for file in list_images(folder):
        name = str(file.relative_to(folder).with_suffix("")).removesuffix(strip)
        if name in found:
            raise SourceError(f"{file} and {found[name].name} have the same name")
        found[name] = file
    return found
