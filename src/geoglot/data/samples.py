"""Image-text samples and the reader of the JSON-lines layout that RSICD, UC Merced and EuroSAT come in here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from geoglot.errors import SourceError


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with what is said of it.

    Attributes:
        image: Path of the file.
        captions: Sentences; may be empty.
        label: Class name as the data set spells it; None where unknown.
        split: "train", "valid" or "test".
    """

    image: Path
    captions: tuple[str, ...]
    label: str | None
    split: str


def read_samples(file: Path, split: str | None = None) -> list[Sample]:
    """Read a `captions.jsonl` or `labels.jsonl`: one object a line with `image`, `split`, `label`, `captions`.

    Args:
        file: The JSON-lines file; images are relative to its folder.
        split: Keep this split only.

    Raises:
        SourceError: The file is missing, or a line is not such an object.
    """
    if not file.is_file():
        raise SourceError(f"no data set at {file}", hint="Point to the folder that holds it.")
    samples = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            captions = tuple(str(c).strip() for c in row.get("captions", ()) if str(c).strip())
            sample = Sample(file.parent / row["image"], captions, row.get("label"), row["split"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"{file}:{number} is not a sample: {error!r}") from error
        if split is None or sample.split == split:
            samples.append(sample)
    return samples


def load_pixels(samples: Sequence[Sample], side_px: int, *, threads: int = 2) -> NDArray[np.uint8]:
    """Decode images to RGB squares, [N, side, side, 3]; bicubic where the size differs.

    Raises:
        SourceError: A file cannot be decoded; it is named.
    """
    out = np.empty((len(samples), side_px, side_px, 3), np.uint8)

    def load(index: int) -> None:
        rgb = decode(samples[index].image)
        if rgb.size != (side_px, side_px):
            rgb = rgb.resize((side_px, side_px), Image.Resampling.BICUBIC)
        out[index] = np.asarray(rgb)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(load, range(len(samples))))
    return out


def decode(path: Path) -> Image.Image:
    """An image file as RGB.

    Raises:
        SourceError: It cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise SourceError(f"cannot decode {path}: {error}") from error
