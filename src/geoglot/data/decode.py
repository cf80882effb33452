"""An encoded image of unknown origin to the square of 8-bit RGB that a tower sees, or a reason why not."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from geoglot.data.pairs import Pair
from geoglot.errors import SampleError, UsageError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
LARGEST_PX = 100_000_000
"""Pixels of one image: 300 MB of RGB. A chip of 10,000 x 10,000 passes, a decompression bomb does not."""

RATIO = math.log(4 / 3)
"""Sides of a random crop differ by at most 4:3 (Szegedy et al. 2014, arXiv 1409.4842, section 6)."""
ATTEMPTS = 10
"""Draws of a random crop that fits; torchvision's number."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The arrays of one record for a batch.

    Attributes:
        image: uint8 [S, S, 3].
        texts: K captions.
        extras: What else a recipe wants of the record, by name; the same shapes for every record.
    """

    image: NDArray[np.uint8]
    texts: tuple[str, ...]
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepare:
    """The usual preparation of a pair; a recipe may bring its own callable of the same form.

    Attributes:
        side_px: S.
        area: Least and most share of the image's area in a random crop; (1, 1): the middle square, nothing random.
        captions: K, drawn without repetition while there are enough of them.
    """

    side_px: int
    area: tuple[float, float] = (1.0, 1.0)
    captions: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise UsageError(f"area {self.area} must be two rising shares in (0, 1]")
        if self.side_px < 1 or self.captions < 1:
            raise UsageError("side_px and captions must be positive")

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Prepared:
        """Raises SampleError. All chance comes from `rng`, the texts first."""
        texts = choose(pair.captions, self.captions, rng)
        with open_picture(pair.image, pair.name) as picture:
            box = middle(picture.size) if self.area == (1.0, 1.0) else random_box(picture.size, self.area, rng)
            return Prepared(square(picture, box, self.side_px, pair.name), texts)


def choose(captions: tuple[str, ...], count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """`count` captions, each once before any twice."""
    order = [at for _ in range(-(-count // len(captions))) for at in rng.permutation(len(captions))]
    return tuple(captions[at] for at in order[:count])


def open_picture(raw: bytes, name: str) -> Image.Image:
    """Open without decoding. Raises SampleError: not an image of a known format, too large, or deeper than 8 bits."""
    try:
        picture = Image.open(io.BytesIO(raw), formats=FORMATS)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SampleError(f"{name} is not a readable {'/'.join(FORMATS)}: {error}") from error
    if picture.width * picture.height > LARGEST_PX:
        raise SampleError(f"{name} has {picture.width} x {picture.height} px; the limit is {LARGEST_PX:,} px")
    if picture.mode.startswith(("I", "F")):
        raise SampleError(f"{name} is deeper than 8 bits (mode {picture.mode}); render it to 8-bit RGB first")
    return picture


def middle(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest square in the middle, as px (x0, y0, x1, y1)."""
    width, height = size
    side = min(size)
    x, y = (width - side) / 2, (height - side) / 2
    return x, y, x + side, y + side


def random_box(
    size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A crop of random area, shape and place, in whole pixels.

    A crop that does not fit the image is drawn again, not cut down, so that areas stay in their range. After ten misses
    it is the whole image, or the largest crop in its middle where the image itself is longer than 4:3.

    Implements: torchvision 0.28, RandomResizedCrop (Szegedy et al. 2014, arXiv 1409.4842, section 6).
    """
    width, height = size
    for _ in range(ATTEMPTS):
        target, ratio = width * height * rng.uniform(*area), math.exp(rng.uniform(-RATIO, RATIO))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return float(x), float(y), float(x + w), float(y + h)
    longest = math.exp(RATIO)
    w, h = min(width, round(height * longest)), min(height, round(width * longest))
    x, y = (width - w) // 2, (height - h) // 2
    return float(x), float(y), float(x + w), float(y + h)


def square(picture: Image.Image, box: tuple[float, float, float, float], side_px: int, name: str) -> NDArray[np.uint8]:
    """Decode and resample a box to uint8 [S, S, 3], bicubic.

    A JPEG far larger than needed is decoded at a half, a quarter or an eighth, never below twice the final size.

    Raises:
        SampleError: The image breaks off or is damaged.
    """
    try:
        scale = min(box[2] - box[0], box[3] - box[1]) / (2 * side_px)
        if scale >= 2 and picture.format == "JPEG":
            before = picture.size
            picture.draft(None, (int(before[0] / scale), int(before[1] / scale)))
            sx, sy = picture.width / before[0], picture.height / before[1]
            box = box[0] * sx, box[1] * sy, min(picture.width, box[2] * sx), min(picture.height, box[3] * sy)
        rgb = picture.convert("RGB")
        return np.asarray(rgb.resize((side_px, side_px), Image.Resampling.BICUBIC, box=box))
    except (OSError, ValueError, SyntaxError, IndexError, MemoryError, Image.DecompressionBombError) as error:
        raise SampleError(f"{name} cannot be decoded: {error}") from error
