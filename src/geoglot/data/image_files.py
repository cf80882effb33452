"""Whole image files of data sets: their size without decoding, their pixels, and masks as the numbers they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from geoglot.data.decode import LARGEST_PX
from geoglot.errors import SampleError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
"""BMP because iSAID's usual preparation writes it, under the suffix .png."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels, from the header.

    Raises:
        SampleError: Not a readable image, or too large.
    """
    with _opened(path) as picture:
        return picture.size


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """The pixels as uint8 [H, W, 3]; grey is repeated, alpha is dropped.

    Raises:
        SampleError: Not a readable image, too large, deeper than 8 bits, or with bands that are no RGB.
    """
    with _opened(path) as picture:
        if picture.mode.startswith(("I", "F")) or picture.mode in {"CMYK", "LAB"}:
            raise SampleError(f"{path} is no 8-bit RGB (mode {picture.mode}); render it first")
        return np.array(picture.convert("RGB"))


def read_mask(path: Path) -> NDArray[np.uint8]:
    """The numbers of a mask: uint8 [H, W] of an index or grey mask, [H, W, 3] of a coloured one.

    A palette is not applied: the index is what the set's authors call the class.

    Raises:
        SampleError: Not a readable image, too large, or with numbers that are no uint8.
    """
    with _opened(path) as picture:
        if picture.mode == "1":
            return np.array(picture, np.uint8)
        if picture.mode.startswith(("I", "F")):
            return _narrow(np.asarray(picture), path)
        if picture.mode in {"L", "P", "RGB"}:
            return np.array(picture)
        return np.array(picture.convert("L" if picture.mode in {"LA", "PA"} else "RGB"))


def _narrow(values: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    narrow = values.astype(np.uint8)
    if not np.array_equal(narrow, values):
        raise SampleError(f"{path} holds numbers that are no class index: {values.min()} to {values.max()}")
    return narrow


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        if not path.is_file():
            raise SampleError(f"{path} is missing or not a file")
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST_PX:
                size = f"{picture.width} x {picture.height} px"
                raise SampleError(f"{path} has {size}; the limit is {LARGEST_PX:,} px", hint="Cut it into parts first.")
            yield picture
    except UnidentifiedImageError as error:
        raise SampleError(f"{path} is not a readable {'/'.join(FORMATS)}") from error
    except (OSError, ValueError, SyntaxError, IndexError, MemoryError, Image.DecompressionBombError) as error:
        raise SampleError(f"{path} cannot be decoded: {error}") from error
