"""Chips around labelled objects, cut from a detection set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoglot.data.regions import RegionSource, open_regions
from geoglot.data.regions.schema import BoxPx
from geoglot.errors import SampleError, SourceError

MIN_SIDE_PX = 48  # smaller windows would mostly show interpolation
MARGIN = (1.2, 3.0)  # side of the window over the longer side of the box: from filling it to a third of it


def object_crops(
    folder: Path, seed: int, *, split: str = "train", side_px: int = 128
) -> tuple[NDArray[np.uint8], list[str]]:
    """One square chip an instance, with the object somewhere inside.

    Args:
        folder: Holds `instances.json` (COCO; `images[].split`) and `images/`.
        seed: Of the windows.
        split: Of the images.
        side_px: S, of the chips.

    Returns:
        uint8 [N, S, S, 3] and the N category names.

    Raises:
        SourceError: The set is missing or damaged, has no objects, or an image cannot be decoded.
    """
    if not (folder / "instances.json").is_file():
        raise SourceError(f"no detection set at {folder}/instances.json", hint="Point to the folder that holds it.")
    found = open_regions(RegionSource(str(folder), "coco", split))
    rng = np.random.default_rng(seed)
    chips, labels = [], []
    for i, record in enumerate(found.records):
        if not record.regions:
            continue
        try:
            image = Image.fromarray(found.image(i))
        except SampleError as error:
            raise SourceError(str(error), hint=error.hint) from error
        for region in record.regions:
            window = _window(region.box_px, image.size, rng)
            chips.append(np.asarray(image.resize((side_px, side_px), Image.Resampling.BICUBIC, box=window)))
            labels.append(region.category)
    if not chips:
        raise SourceError(f"{folder} has no objects of {split!r}")
    return np.stack(chips), labels


def _window(box: BoxPx, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A square around a box, moved inside the image; the box keeps inside where it fits."""
    x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
    longer = max(width, height)
    side = int(min(max(longer * rng.uniform(*MARGIN), MIN_SIDE_PX), *size))
    room = max(0.0, side - longer) / 2
    left = x + width / 2 - side / 2 + rng.uniform(-room, room)
    top = y + height / 2 - side / 2 + rng.uniform(-room, room)
    left, top = int(np.clip(left, 0, size[0] - side)), int(np.clip(top, 0, size[1] - side))
    return left, top, left + side, top + side
