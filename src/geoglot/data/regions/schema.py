"""The values of region data: one object in an image, one image with its objects, a set of them, and where it lies.

Frame of all coordinates: pixels of the image as stored, origin at its top left corner, x to the right. Boxes are
half-open: one of the whole image is (0, 0, width, height). Readers bring layouts that count otherwise to that.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoglot.data.image_files import read_rgb
from geoglot.data.pairs import stamp
from geoglot.errors import SampleError, UsageError

BoxPx = tuple[float, float, float, float]
Ring = tuple[tuple[float, float], ...]
Layout = Literal["coco", "yolo", "dota", "voc", "mgrs"]
LAYOUTS: tuple[Layout, ...] = ("coco", "yolo", "dota", "voc", "mgrs")


@dataclass(frozen=True, slots=True)
class Region:
    """One object.

    Attributes:
        box_px: (x0, y0, x1, y1), half-open, x0 < x1 and y0 < y1.
        category: As the set spells it; empty only where there is a text.
        text: What is said of this very region; None where only the category is known.
        polygon_px: Its outline as one ring, not closed; oriented boxes have four points. May run over the image's edge.
        further_px: More rings of the same object, where it lies in several parts.

    Raises:
        UsageError: A coordinate is not finite, the box is empty or inverted, a ring has fewer than three points, or
            there is neither a category nor a text.
    """

    box_px: BoxPx
    category: str
    text: str | None = None
    polygon_px: Ring | None = None
    further_px: tuple[Ring, ...] = ()

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box_px
        if not all(math.isfinite(v) for v in self.box_px):
            raise UsageError(f"box {self.box_px} holds a value that is not finite")
        if not (x0 < x1 and y0 < y1):
            raise UsageError(f"box {self.box_px} is empty or inverted", hint="Order: x0 y0 x1 y1.")
        if not self.category.strip() and not (self.text or "").strip():
            raise UsageError(f"the region at {self.box_px} has neither a category nor a text")
        for ring in self.rings:
            if len(ring) < 3 or not all(math.isfinite(v) for point in ring for v in point):
                raise UsageError(f"polygon {ring[:4]} has fewer than three points, or one that is not finite")

    @property
    def rings(self) -> tuple[Ring, ...]:
        """All rings of the outline; none where only the box is known."""
        return () if self.polygon_px is None else (self.polygon_px, *self.further_px)

    @property
    def area_px(self) -> float:
        """Of the box."""
        return (self.box_px[2] - self.box_px[0]) * (self.box_px[3] - self.box_px[1])


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """One image with its regions.

    Attributes:
        image: Path of the file.
        width, height: Of the image, px.
        captions: Of the whole image, the one to train on first; may be empty.
        regions: In the order of the file; none is an image that was looked at and shows no object.
        source: Where this comes from: set, file and entry.
        gsd_m: Metres per pixel where the set says so.
    """

    image: str
    width: int
    height: int
    captions: tuple[str, ...]
    regions: tuple[Region, ...]
    source: str
    gsd_m: float | None = None


@dataclass(frozen=True, slots=True)
class RegionSource:
    """The description of one set of regions in a config.

    Attributes:
        path: Its folder, or its annotation file.
        layout: "coco", "yolo", "dota", "voc" or "mgrs".
        split: Take this part; None: all there is.
        images: Folder of the images, relative to `path`, where it is not the layout's usual one.
        labels: The same for the folder of label files (yolo, dota, voc).
        texts: Category -> text of each of its regions that has none of its own.
        bad: What to do with regions that cannot be used (inverted, outside the image, unknown category): "refuse" the
            set, or "skip" them, counted in `RegionSet.skipped`.
        difficult: Keep what DOTA and VOC mark as difficult.
        origin: voc: the number of the first pixel; 1 as VOC has it, 0 for exports of tools that count from zero.
    """

    path: str
    layout: Layout
    split: str | None = None
    images: str | None = None
    labels: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    bad: Literal["refuse", "skip"] = "refuse"
    difficult: bool = True
    origin: int = 1

    def __post_init__(self) -> None:
        if not self.path:
            raise UsageError("a source of regions needs a path")
        if self.layout not in LAYOUTS:
            raise UsageError(f"layout {self.layout!r} is not known", hint=f"Known: {', '.join(LAYOUTS)}.")
        if self.bad not in {"refuse", "skip"}:
            raise UsageError(f'bad = {self.bad!r} must be "refuse" or "skip"')
        if self.origin not in {0, 1}:
            raise UsageError(f"origin {self.origin} must be 0 or 1")
        blank = [name for name, text in self.texts.items() if not text.strip()]
        if blank:
            raise UsageError(f"categories without text: {', '.join(blank)}")


@dataclass(frozen=True, slots=True)
class RegionSet:
    """Images with regions, in memory; pixels stay on disk.

    Attributes:
        name: For reports.
        records: In the order of the set.
        categories: All of the set in its own order, used or not.
        skipped: (where, reason) of everything that was left out.
        notes: What was changed on reading, in sentences with counts.
        pixels: Reads image i where it is no plain file (a chip of a scene, a raster to be rendered).
    """

    name: str
    records: tuple[RegionRecord, ...]
    categories: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    pixels: Callable[[int], NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def record(self, i: int) -> RegionRecord:
        """Image i with its regions."""
        return self.records[i]

    def image(self, i: int) -> NDArray[np.uint8]:
        """The pixels of image i, uint8 [H, W, 3].

        Raises:
            SampleError: Not readable, or of another size than its regions were drawn on.
        """
        record = self.records[i]
        image = read_rgb(Path(record.image)) if self.pixels is None else self.pixels(i)
        height, width = image.shape[:2]
        if (width, height) != (record.width, record.height):
            told = f"{width} x {height} px; its regions were drawn on {record.width} x {record.height} px"
            raise SampleError(f"{record.image} has {told}", hint="Take images and annotations of the same preparation.")
        return image

    def counts(self) -> dict[str, int]:
        """Category -> regions, in the order of the categories."""
        seen = Counter(region.category for record in self.records for region in record.regions)
        return {category: seen[category] for category in self.categories}

    def fingerprint(self) -> str:
        """Changes when regions, captions, or sizes and times of the images changed; pixels are not read."""
        digest = hashlib.blake2b(repr(self.categories).encode(), digest_size=8)
        for record in self.records:
            path = Path(record.image)
            kept = (path.name, record.width, record.height, record.captions, record.regions)
            digest.update(repr(kept).encode("utf-8", "surrogateescape") + stamp(path).encode())
        return digest.hexdigest()
