"""Region sets as pairs for the feed, and the parts of an image that FarSLIP trains on: random crops, known regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoglot.data.decode import Prepared, choose, open_picture, random_box, square
from geoglot.data.pairs import Pair, identity
from geoglot.data.regions import Region, RegionRecord

EMPTY = -1
"""The label of a slot without a region."""

Captions = Literal["any", "first"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class RegionPair(Pair):
    """An image with its regions, decoded: `image` is empty.

    Attributes:
        pixels: uint8 [H, W, 3].
        regions: Boxes in its pixels.
    """

    pixels: NDArray[np.uint8]
    regions: tuple[Region, ...]


class RegionImages(Protocol):
    """The part of a RegionSet (data/regions) that training needs; pixels may come from anywhere."""

    @property
    def name(self) -> str: ...
    @property
    def skipped(self) -> tuple[tuple[str, str], ...]: ...

    def __len__(self) -> int: ...

    def record(self, i: int) -> RegionRecord:
        """Image i with its regions."""
        ...

    def image(self, i: int) -> NDArray[np.uint8]:
        """Its pixels [H, W, 3]. Raises SampleError."""
        ...

    def fingerprint(self) -> str:
        """Changes when the set changed."""
        ...


class RegionPairs:
    """A `PairSet` (data/pairs.py) over images with regions.

    An image without a caption says which categories it shows. Images with neither are left out.

    Args:
        regions: The set.
        caption: Of an image without one; {categories} becomes "ship, harbor and vehicle".
    """

    def __init__(self, regions: RegionImages, caption: str = "a satellite image of {categories}") -> None:
        self._regions, self._caption = regions, caption
        records = [regions.record(i) for i in range(len(regions))]
        self._kept = [i for i, record in enumerate(records) if record.captions or record.regions]
        self.name = regions.name
        bare = [(r.image, "no caption and no region") for r in records if not (r.captions or r.regions)]
        self.skipped = (*regions.skipped, *bare)
        self.image_ids = np.array([identity(records[i].image) for i in self._kept], np.int64)
        self.blocks = np.array([0, len(self._kept)])

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, record: int) -> RegionPair:
        """Raises SampleError."""
        found = self._regions.record(self._kept[record])
        said = found.captions or (self._caption.format(categories=listed(found.regions)),)
        return RegionPair(found.image, b"", said, self._regions.image(self._kept[record]), found.regions)

    def fingerprint(self) -> str:
        """See PairSet."""
        return f"{self._regions.fingerprint()}:{identity(self._caption):x}"


def listed(regions: tuple[Region, ...]) -> str:
    """The categories of some regions as in a sentence, in order of first appearance."""
    names = list(dict.fromkeys(region.category or str(region.text) for region in regions))
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


@dataclass(frozen=True, slots=True)
class Parts:
    """A pair to its whole image and to parts of it, all of one size; a `Preparation` of the feed.

    What it adds to a batch: "crops" uint8 [B, n, S, S, 3] with "crop_boxes" float32 [B, n, 4]; "regions" uint8
    [B, M, S, S, 3] (where they are wanted as images) with "region_boxes" and "region_labels" int64 [B, M]. Boxes are
    shares of the image. The texts of a record are its caption and then one for each slot of a region.

    Attributes:
        side_px: S.
        crops: n, random crops.
        crop_area: Least and most share of the image in a crop.
        regions: M, slots for regions; free slots have the label EMPTY.
        region_images: Whether regions are cut out, or only their boxes are given.
        region_px: Regions whose box has an area outside the squares of these sides are not used.
        region_text: What is said of a region without a text of its own.
        drop_captioned: Regions with a text of their own take a slot but no part, as in the released code.
        captions: Which of an image's captions is taken, see Config.
    """

    side_px: int
    crops: int = 0
    crop_area: tuple[float, float] = (0.3, 0.7)
    regions: int = 0
    region_images: bool = True
    region_px: tuple[float, float] = (64.0, 1024.0)
    region_text: str = "a satellite image of {category}"
    drop_captioned: bool = False
    captions: Captions = "any"

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Prepared:
        """Raises SampleError. All chance comes from `rng`."""
        caption = pair.captions[0] if self.captions == "first" else choose(pair.captions, 1, rng)[0]
        if isinstance(pair, RegionPair):
            return self._cut(Image.fromarray(pair.pixels), pair.name, caption, pair.regions, rng)
        with open_picture(pair.image, pair.name) as picture:
            return self._cut(picture, pair.name, caption, (), rng)

    def _cut(
        self, picture: Image.Image, name: str, caption: str, known: tuple[Region, ...], rng: np.random.Generator
    ) -> Prepared:
        size = picture.size
        boxes = [random_box(size, self.crop_area, rng) for _ in range(self.crops)]
        chosen = self._chosen(known, rng)
        if boxes or chosen:
            picture = picture.convert("RGB")  # once, and whole: a box of a JPEG cannot be decoded alone
        extras: dict[str, NDArray[Any]] = {}
        if self.crops:
            extras["crops"] = np.stack([square(picture, box, self.side_px, name) for box in boxes])
            extras["crop_boxes"] = shares(boxes, size)
        texts = [caption]
        if self.regions:
            extras |= self._slots(picture, name, chosen)
            told = [region.text or self.region_text.format(category=region.category) for region in chosen]
            texts += told + [caption] * (self.regions - len(told))
        whole = square(picture, (0.0, 0.0, float(size[0]), float(size[1])), self.side_px, name)
        return Prepared(whole, tuple(texts), extras)

    def _chosen(self, known: tuple[Region, ...], rng: np.random.Generator) -> list[Region]:
        least, most = (side**2 for side in self.region_px)
        fit = [region for region in known if least <= region.area_px <= most]
        return [fit[i] for i in rng.permutation(len(fit))[: self.regions]]

    def _slots(self, picture: Image.Image, name: str, chosen: list[Region]) -> dict[str, NDArray[Any]]:
        boxes, labels = np.zeros((self.regions, 4), np.float32), np.full(self.regions, EMPTY, np.int64)
        boxes[: len(chosen)] = shares([region.box_px for region in chosen], picture.size)
        labels[: len(chosen)] = [label_of(region, self.drop_captioned) for region in chosen]
        slots: dict[str, NDArray[Any]] = {"region_boxes": boxes, "region_labels": labels}
        if self.region_images:
            images = np.zeros((self.regions, self.side_px, self.side_px, 3), np.uint8)
            for image, region in zip(images, chosen, strict=False):
                image[:] = square(picture, region.box_px, self.side_px, name)
            slots["regions"] = images
        return slots


def shares(boxes: list[Box], size: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes in pixels as shares of (width, height), [K, 4]."""
    out: NDArray[np.float32] = np.array(boxes, np.float32).reshape(-1, 4)
    out /= np.array([*size, *size], np.float32)
    return out


def label_of(region: Region, drop_captioned: bool = False) -> int:
    """A number that regions share when one's text is right for the other: the same category, or the same own text."""
    if region.text is None:
        return identity(f"category {region.category.casefold()}")
    return EMPTY if drop_captioned else identity(f"text {region.text}")
