"""Overviews of uint8 rasters: each level half as large as the one before, made block by block.

The values are GDAL's own for even sizes (resampling "mode" and "average", each level from the one before), at a tenth
of its time for "mode". An odd last row or column counts twice. GDAL takes a file beside a raster with ".ovr" added to
its name as its overview, and the same again beside that one as the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Halve = Callable[[Sequence[Bytes], int], Bytes]
"""The four pixels of each cell, [H, W] each in reading order, and the nodata value, to what the cell becomes."""

SMALLEST_PX = 512
"""A raster no longer than this gets no overview: one tile holds it."""

BLOCK_PX = 512
"""Rows and columns of an overview that are made at once."""


def commonest(four: Sequence[Bytes], nodata: int) -> Bytes:
    """The commonest value but nodata; among equals the one that is first to be repeated, or else the first."""
    a, b, c, d = four
    out = a.copy()
    for other in (b, c, d):
        np.copyto(out, other, where=out == nodata)
    for one, before in ((d, (a, b, c)), (c, (a, b)), (b, (a,))):
        repeats = one == before[0]
        for other in before[1:]:
            repeats |= one == other
        np.copyto(out, one, where=repeats & (one != nodata))
    return out


def mean(four: Sequence[Bytes], nodata: int) -> Bytes:
    """The mean of all values but nodata, halves rounded up."""
    total, count = np.zeros(four[0].shape, np.uint16), np.zeros(four[0].shape, np.uint16)
    for one in four:
        held = one != nodata
        count += held
        total += one * held
    rounded = (2 * total + count) // np.maximum(2 * count, 1)
    return np.where(count, rounded, nodata).astype(np.uint8)


def write_overviews(path: Path, halve: Halve) -> list[Path]:
    """Write all overviews of a one-band GeoTIFF beside it, in its own packing; gives their files, largest first.

    Memory: a few blocks. Raises what rasterio does.
    """
    import rasterio

    from geoglot.imagery.opening import open_raster

    made: list[Path] = []
    while True:
        with open_raster(str(made[-1] if made else path)) as source:
            if max(source.shape) <= SMALLEST_PX:
                return made
            made.append(path.with_name(f"{path.name}{'.ovr' * (len(made) + 1)}"))
            size = {"height": -(-source.height // 2), "width": -(-source.width // 2)}
            with rasterio.open(made[-1], "w", **{**source.profile, **size}) as out:
                for window in _blocks(out.shape):
                    out.write(halve(_four(source, window), int(source.nodata)), 1, window=window)


def _blocks(shape: tuple[int, int]) -> Iterator[Any]:
    from rasterio.windows import Window

    for y, x in product(range(0, shape[0], BLOCK_PX), range(0, shape[1], BLOCK_PX)):
        yield Window(x, y, min(BLOCK_PX, shape[1] - x), min(BLOCK_PX, shape[0] - y))


def _four(source: Any, window: Any) -> list[Bytes]:
    """The four pixels of each cell of a window of the overview; beyond the border its pixels are repeated."""
    from rasterio.windows import Window

    x, y = 2 * window.col_off, 2 * window.row_off
    wide, high = min(2 * window.width, source.width - x), min(2 * window.height, source.height - y)
    values = source.read(1, window=Window(x, y, wide, high))
    values = np.pad(values, ((0, high % 2), (0, wide % 2)), mode="edge")
    return [np.ascontiguousarray(values[i::2, j::2]) for i, j in product((0, 1), (0, 1))]
