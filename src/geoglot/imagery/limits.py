"""How large a raster may be, told by its header before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoglot.errors import EmptySceneError, SceneTooLargeError, UnreadableSceneError
from geoglot.imagery.formats import WHOLE_DRIVERS

MAX_BANDS = 1_000
"""Imaging spectrometers have a few hundred; GDAL keeps a kilobyte and more for each band."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes above which a scene is refused before any pixel is decoded.

    Attributes:
        max_pixels: Width times height of any raster.
        max_memory_pixels: Pixels that must be decoded at once: all of a PNG, JPEG or WebP; one block of the others.
        max_block_bytes: Bytes of one block: rows x columns x bands x bytes a value.
        max_bytes: The same of the whole raster: what reading all of it passes through the decoder.
    """

    max_pixels: int = 20_000_000_000
    max_memory_pixels: int = 300_000_000
    max_block_bytes: int = 128 * 2**20
    max_bytes: int = 10**12


UPLOAD = Limits(50_000_000, 50_000_000, 64 * 2**20, 200_000_000)
"""For pictures that strangers send."""


def check_size(dataset: Any, uri: str, limits: Limits) -> None:
    """Refuse a raster over a limit.

    Raises:
        EmptySceneError: It has no pixels.
        SceneTooLargeError: Over a limit.
        UnreadableSceneError: Its pixels are complex numbers.
    """
    width, height, bands = dataset.width, dataset.height, dataset.count
    if width < 1 or height < 1 or bands < 1:
        raise EmptySceneError(f"{uri!r} has {width} x {height} pixels in {bands} bands")
    size = f"{width} x {height} pixels in {bands} bands"
    if width * height > limits.max_pixels:
        raise _too_large(uri, size, f"{limits.max_pixels:,} (max_pixels)", "Cut it into parts.")
    if np.dtype(dataset.dtypes[0]).kind == "c":
        raise UnreadableSceneError(f"{uri!r} holds complex numbers", hint="Write amplitude or intensity first.")
    rows, columns = (height, width) if dataset.driver in WHOLE_DRIVERS else dataset.block_shapes[0]
    if rows * columns > limits.max_memory_pixels:
        raise _at_once(uri, rows, columns, "", f"{limits.max_memory_pixels:,} (max_memory_pixels)")
    if bands > MAX_BANDS:
        raise _too_large(uri, size, f"{MAX_BANDS:,} bands", "Choose some bands: rio stack --bidx 1,2,3 in out.tif")
    values = sum(np.dtype(kind).itemsize for kind in dataset.dtypes)
    if width * height * values > limits.max_bytes:
        raise _too_large(uri, size, f"{limits.max_bytes:,} (max_bytes)", "Cut it into parts.")
    check_blocks(dataset, uri, limits)


def check_blocks(dataset: Any, uri: str, limits: Limits) -> None:
    """Refuse a raster of which too much must be decoded at once.

    Raises:
        SceneTooLargeError: Over `max_block_bytes`.
    """
    for rows, columns, values in _blocks(dataset):
        if rows * columns * values > limits.max_block_bytes:
            limit = f"{limits.max_block_bytes:,} (max_block_bytes)"
            raise _at_once(uri, rows, columns, f" of {values} bytes each", limit)


def _blocks(dataset: Any) -> Iterator[tuple[int, int, int]]:
    """Rows, columns and bytes a pixel of what is decoded at once, the kinds of block there are."""
    sizes = [np.dtype(kind).itemsize for kind in dataset.dtypes]
    if dataset.driver == "WEBP":
        yield dataset.height, dataset.width, 4
        return
    if dataset.driver == "JP2OpenJPEG" and not dataset.overviews(1):  # each look at it decodes all, 4 bytes a value
        yield dataset.height, dataset.width, 4 * dataset.count
    together = dataset.interleaving is None or dataset.interleaving.value == "PIXEL"
    for (rows, columns), size in zip(dataset.block_shapes, sizes, strict=True):
        yield rows, columns, sum(sizes) if together else size


def _too_large(uri: str, size: str, limit: str, hint: str) -> SceneTooLargeError:
    return SceneTooLargeError(f"{uri!r} declares {size}, over the limit of {limit}", hint=hint)


def _at_once(uri: str, rows: int, columns: int, each: str, limit: str) -> SceneTooLargeError:
    return SceneTooLargeError(
        f"{uri!r} must be decoded {columns} x {rows} pixels{each} at once, over the limit of {limit}",
        hint="Write it as a tiled GeoTIFF: rio convert --co TILED=YES in.tif out.tif",
    )
