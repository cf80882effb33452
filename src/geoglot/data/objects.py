"""Chips around labelled objects, cut from a detection set in COCO's layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoglot.errors import SourceError

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
        SourceError: The set is missing, or an image cannot be decoded.
    """
    file = folder / "instances.json"
    if not file.is_file():
        raise SourceError(f"no detection set at {file}", hint="Point to the folder that holds it.")
    raw = json.loads(file.read_text("utf-8"))
    names = {c["id"]: str(c["name"]) for c in raw["categories"]}
    boxes: dict[int, list[tuple[list[float], str]]] = {}
    for instance in raw["annotations"]:
        boxes.setdefault(instance["image_id"], []).append((instance["bbox"], names[instance["category_id"]]))
    rng = np.random.default_rng(seed)
    chips, labels = [], []
    for record in raw["images"]:
        if record["split"] != split or record["id"] not in boxes:
            continue
        try:
            with Image.open(folder / "images" / record["file_name"]) as opened:
                image = opened.convert("RGB")
        except OSError as error:
            raise SourceError(f"cannot decode {record['file_name']} of {folder}: {error}") from error
        for box, name in boxes[record["id"]]:
            window = _window(box, image.size, rng)
            chips.append(np.asarray(image.resize((side_px, side_px), Image.Resampling.BICUBIC, box=window)))
            labels.append(name)
    return np.stack(chips), labels


def _window(box: list[float], size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A square around a box (x, y, width, height), moved inside the image; the box keeps inside where it fits."""
    x, y, width, height = box
    longer = max(width, height)
    side = int(min(max(longer * rng.uniform(*MARGIN), MIN_SIDE_PX), *size))
    room = max(0.0, side - longer) / 2
    left = x + width / 2 - side / 2 + rng.uniform(-room, room)
    top = y + height / 2 - side / 2 + rng.uniform(-room, room)
    left, top = int(np.clip(left, 0, size[0] - side)), int(np.clip(top, 0, size[1] - side))
    return left, top, left + side, top + side
