"""All chips of a scene, read in patches of many chips.

Reading chip by chip would decode and resample once per chip what neighbours share, and pay GDAL's price per call.
Here a patch of neighbouring chips is read at once, already resampled, and chips are sliced out of it.

Tolerance: slices begin at whole pixels of the patch, so a chip's centre lies within half a model pixel of its window's
centre, and its edges within one. A chip alone in its patch is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import EmptySceneError, UsageError
from geoglot.imagery.grid import Strip
from geoglot.imagery.scene import Pixels, Scene
from geoglot.types import Chip, SceneInfo, Window


class Grid(Protocol):
    """Which windows of a scene become chips; see ChipGrid and ScaleGrid."""

    @property
    def min_valid(self) -> float:
        """Least share of valid pixels."""
        ...

    def strips(self, info: SceneInfo) -> Iterator[Strip]:
        """Rows of windows; rows of one kind share one tuple `xs`."""
        ...


@dataclass(frozen=True, slots=True)
class PatchSize:
    """Model pixels that are read at once; at least one chip whatever the numbers say.

    Attributes:
        columns, rows: For tiled files. 1024 x 1024 takes 3 MB as RGB and about 25 MB while it is stretched.
        wide_columns: For files stored row by row, where reading part of a row decodes all of it; one row of chips.
    """

    columns: int = 1024
    rows: int = 1024
    wide_columns: int = 32_768


def read_chips(
    scene: Scene, grid: Grid, size_px: int, *, patch: PatchSize | None = None
) -> Iterator[tuple[Chip, NDArray[np.uint8]]]:
    """Yield every chip of `grid.windows` that holds enough valid pixels, patch by patch, smallest scale first.

    Memory is bounded whatever the size of the scene. Blocks that a sparse GeoTIFF never wrote cost nothing. The order
    is the same in every run.

    Args:
        scene: An open scene.
        grid: Which windows.
        size_px: Side of the images, the model's input.
        patch: How much is read at once.

    Yields:
        The chip and its image uint8 [size_px, size_px, 3]; each image owns its memory.

    Raises:
        UsageError: size_px below 1.
        EmptySceneError: Not one chip holds enough valid pixels. Raised at the end.
        UnreadableSceneError: Damaged pixels. Chips yielded before must then be thrown away with the scene.
    """
    if size_px < 1:
        raise UsageError(f"size_px must be at least 1, got {size_px}")
    patch = patch or PatchSize()
    columns, rows = (patch.columns, patch.rows) if scene.is_tiled else (patch.wide_columns, size_px)
    empty = True
    for strips in _bands(grid.strips(scene.info), rows / size_px):
        for xs in _runs(scene.columns_with_data(strips), strips[0].width, columns / size_px):
            for item in _read_patch(scene, strips, xs, size_px, grid.min_valid):
                empty = False
                yield item
    if empty:
        raise EmptySceneError(
            f"{scene.info.uri!r}: no chip holds {grid.min_valid:.0%} valid pixels",
            hint="It is nodata from end to end, or nearly so.",
        )


def _bands(strips: Iterator[Strip], reach: float) -> Iterator[list[Strip]]:
    """Consecutive strips of one scale, together at most `reach` chips high, or one strip."""
    group: list[Strip] = []
    for strip in strips:
        if group and (strip.xs is not group[0].xs or strip.y0 + strip.height - group[0].y0 > reach * strip.height):
            yield group
            group = []
        group.append(strip)
    if group:
        yield group


def _runs(xs: list[int], side: int, reach: float) -> Iterator[list[int]]:
    """Runs of chips that touch, together at most `reach` chips wide, or one chip."""
    run: list[int] = []
    for x in xs:
        if run and (x > run[-1] + side or x + side - run[0] > reach * side):
            yield run
            run = []
        run.append(x)
    if run:
        yield run


def _read_patch(
    scene: Scene, strips: list[Strip], xs: list[int], size_px: int, min_valid: float
) -> Iterator[tuple[Chip, NDArray[np.uint8]]]:
    wide, high = strips[0].width, strips[0].height
    ys = [strip.y0 for strip in strips]
    span = Window(xs[0], ys[0], xs[-1] + wide, ys[-1] + high)
    rows, columns = _resampled(span.height, high, size_px), _resampled(span.width, wide, size_px)
    pixels = scene.read(span, (rows, columns))
    lefts = _offsets(xs, span.x0, wide, columns / span.width, size_px, columns)
    tops = _offsets(ys, span.y0, high, rows / span.height, size_px, rows)
    spots = [(y, top, x, left) for y, top in zip(ys, tops, strict=True) for x, left in zip(xs, lefts, strict=True)]
    if not pixels.valid.all():
        spots = [s for s in spots if _share(pixels, s[1], s[3], size_px) >= max(min_valid, 1e-9)]
    chips = scene.chips([Window(x, y, x + wide, y + high) for y, _, x, _ in spots])
    for chip, (_, top, _, left) in zip(chips, spots, strict=True):
        yield chip, pixels.rgb[top : top + size_px, left : left + size_px].copy()


def _resampled(span: int, side: int, size_px: int) -> int:
    return max(size_px, round(span * size_px / side))


def _offsets(firsts: list[int], origin: int, side: int, scale: float, size_px: int, total: int) -> list[int]:
    """Where slices begin so that their centres are nearest to the windows' centres."""
    centres = [(first - origin + side / 2) * scale for first in firsts]
    return [min(max(round(centre - size_px / 2), 0), total - size_px) for centre in centres]


def _share(pixels: Pixels, top: int, left: int, size_px: int) -> float:
    part = pixels.valid[top : top + size_px, left : left + size_px]
    return int(np.count_nonzero(part)) / part.size
