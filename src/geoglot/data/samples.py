"""Image-text samples and the reader of the JSON-lines layout that RSICD, UC Merced and EuroSAT come in here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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


def load_pixels(
    samples: Sequence[Sample],
    side_px: int,
    *,
    threads: int = 2,
    resize: Literal["squash", "shortest"] = "squash",
    interpolation: Literal["bicubic", "bilinear"] = "bicubic",
) -> NDArray[np.uint8]:
    """Decode images to RGB squares, [N, side, side, 3].

    Args:
        samples: Name the files.
        side_px: Side of the squares.
        threads: Decoders.
        resize: "squash" scales both sides; "shortest" scales the shorter one and takes the centre. The two agree on
            square images.
        interpolation: Where the size differs.

    Raises:
        SourceError: A file cannot be decoded; it is named.
    """
    out = np.empty((len(samples), side_px, side_px, 3), np.uint8)
    method = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    fit = _centre if resize == "shortest" else _squash

    def load(index: int) -> None:
        path = samples[index].image
        try:
            with Image.open(path) as image:
                rgb = image.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise SourceError(f"cannot decode {path}: {error}") from error
        out[index] = np.asarray(fit(rgb, side_px, method))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(load, range(len(samples))))
    return out


def _squash(rgb: Image.Image, side: int, method: Image.Resampling) -> Image.Image:
    return rgb if rgb.size == (side, side) else rgb.resize((side, side), method)


def _centre(rgb: Image.Image, side: int, method: Image.Resampling) -> Image.Image:
    """Shortest side to `side`, then the centre; rounds as CLIP's own preprocessing does (torchvision's two steps)."""
    short = min(rgb.size)
    width, height = (side if edge == short else int(side * edge / short) for edge in rgb.size)
    scaled = rgb if rgb.size == (width, height) else rgb.resize((width, height), method)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return scaled.crop((left, top, left + side, top + side))
