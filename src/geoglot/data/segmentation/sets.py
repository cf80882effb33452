"""Dense-mask sets as values: classes with their words, scenes with their masks, and how a mask file is read.

Beside them what the catalogue says of a set, and what a reader of a layout is asked for and hands back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.data.benchmarks.schema import SPLITS
from geoglot.data.image_files import read_rgb
from geoglot.data.pairs import stamp
from geoglot.errors import SampleError
from geoglot.types import Window

IGNORED = 255
"""In every mask: a pixel without a label, which counts for no class."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scene:
    """One image and where its labels are.

    Attributes:
        name: Unique in the set.
        image: The picture's file.
        label: The mask's or polygons' file; None where the labels are in one file for all.
        window: The part of both files that this is, px; None: all of them.
    """

    name: str
    image: Path
    label: Path | None
    window: Window | None = None


def plain_image(scene: Scene) -> Pixels:
    """The whole file, as it is. Raises SampleError."""
    return read_rgb(scene.image)


@dataclass(frozen=True, slots=True)
class SegmentationSet:
    """Images with a class index for each pixel; pixels stay on disk until asked for.

    Attributes:
        name: As in the catalogue, or the folder's.
        split: Which part this is.
        classes: For each class index its words: synonyms, the first is the name.
        scenes: In sorted order.
        gsd_m: Metres per pixel where all scenes share it.
        background: Index of the class for everything else; None where there is none.
        read_label, read_image: A scene's mask and picture.
        threshold: Least probability that SegEarth-OV asks for on this set, tuned by its authors on test data.
        source: Layout and folder.
        skipped: (where, reason) of everything that was left out.
        notes: What was changed on reading, in sentences.
    """

    name: str
    split: str
    classes: tuple[tuple[str, ...], ...]
    scenes: tuple[Scene, ...]
    read_label: Callable[[Scene], Pixels]
    read_image: Callable[[Scene], Pixels] = plain_image
    gsd_m: float | None = None
    background: int | None = None
    threshold: float | None = None
    source: str = ""
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ignore(self) -> frozenset[int]:
        """Indices in masks that are no class."""
        return frozenset({IGNORED})

    @property
    def plain(self) -> bool:
        """True when each picture is a file as it is, and not a part or a rendering of one."""
        return self.read_image is plain_image

    def __len__(self) -> int:
        return len(self.scenes)

    def image(self, i: int) -> Pixels:
        """The pixels of scene i, uint8 [H, W, 3]. Raises SampleError."""
        return self.read_image(self.scenes[i])

    def mask(self, i: int) -> Pixels:
        """Class indices of scene i, uint8 [H, W]; 255 is ignored.

        Raises:
            SampleError: Not readable, or it holds a number or a colour that is no class of the set.
        """
        return self.read_label(self.scenes[i])

    def fingerprint(self) -> str:
        """Changes when classes, names, sizes or times of the files changed; pixels are not read."""
        digest = hashlib.blake2b(repr((self.classes, self.split)).encode(), digest_size=8)
        for scene in self.scenes:
            stamps = [stamp(path) for path in (scene.image, scene.label) if path is not None]
            digest.update(repr((scene.name, stamps)).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def by_index(mask: Pixels, table: Mapping[int, int], name: str, unknown: int | None = None) -> Pixels:
    """Numbers of a file -> class indices.

    Args:
        mask: uint8 [H, W].
        table: Number in the file -> class index, or 255.
        name: Of the file, for errors.
        unknown: What other numbers become; None refuses them.

    Raises:
        SampleError: Not one band, or a number that is not in the table.
    """
    if mask.ndim != 2:
        raise SampleError(f"{name} is a coloured picture; a mask of class indices has one band")
    lookup = np.full(256, IGNORED if unknown is None else unknown, np.uint8)
    known = np.zeros(256, bool)
    for number, index in table.items():
        lookup[number], known[number] = index, True
    if unknown is None and not known[mask].all():
        strange = sorted(set(np.unique(mask).tolist()) - set(table))
        raise SampleError(f"{name} holds {strange[0]}, which is no class", hint=f"Known: {sorted(table)}.")
    return lookup[mask]


def by_colour(mask: Pixels, table: Mapping[tuple[int, int, int], int], name: str, unknown: int | None = None) -> Pixels:
    """Colours of a file -> class indices; otherwise as `by_index`, for uint8 [H, W, 3] in RGB."""
    if mask.ndim != 3:
        raise SampleError(f"{name} has one band; a mask of colours has three")
    keys = (mask.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(axis=2, dtype=np.uint32)
    wanted = {(r << 16) | (g << 8) | b: index for (r, g, b), index in table.items()}
    found, places = np.unique(keys, return_inverse=True)
    strange = [key for key in found.tolist() if key not in wanted]
    if strange and unknown is None:
        r, g, b = strange[0] >> 16, strange[0] >> 8 & 255, strange[0] & 255
        raise SampleError(f"{name} holds the colour ({r}, {g}, {b}), which is no class", hint=f"Known: {list(table)}.")
    rest = IGNORED if unknown is None else unknown
    lookup = np.array([wanted.get(key, rest) for key in found.tolist()], np.uint8)
    return lookup[places].reshape(mask.shape[:2])


Words = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A set as catalogue.toml describes it; the file's head says what the fields mean."""

    name: str
    title: str
    page: str
    licence: str
    split: str
    classes: Words = ()
    layouts: tuple[Mapping[str, Any], ...] = ()
    gsd_m: float | None = None
    background: int | None = None
    threshold: float | None = None
    withheld: tuple[str, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reader is asked for: a folder, a split in the layout's own spelling, the entry, and the layout's table."""

    folder: Path
    split: str
    entry: Entry
    table: Mapping[str, Any]

    def pattern(self, key: str) -> str:
        """A path that the layout's table names, below the folder, with the split in it; `*` may stand in it."""
        return str(self.table[key]).format(split=self.split)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found; `classes` where the set brings its own, `read_image` where the picture is no plain file."""

    scenes: tuple[Scene, ...]
    read_label: Callable[[Scene], Pixels]
    classes: Words = ()
    read_image: Callable[[Scene], Pixels] | None = None
    gsd_m: Callable[[Scene], float | None] | None = None
    background: int | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def spellings(split: str) -> tuple[str, ...]:
    """A split's name in all its spellings, the given one first: "valid", "val", "validation", "Val", ..."""
    ours = SPLITS.get(split.lower(), split)
    names = [split, *(name for name, meant in SPLITS.items() if meant == ours)]
    return tuple(dict.fromkeys([*names, *(name.capitalize() for name in names)]))
