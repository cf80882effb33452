"""All chips of a scene, read strip by strip.

Reading chip by chip would decode and resample what neighbours share once per chip. Here each row of chips is read
already resampled, in segments of bounded width, and chips are sliced out of it.

Tolerance: a chip's centre lies within half a model pixel of where its window's centre is, because slices begin at whole
pixels. A chip read alone is exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import EmptySceneError, UsageError
from geoglot.imagery.grid import ChipGrid, Strip
from geoglot.imagery.scene import Pixels, Scene
from geoglot.types import Chip, Window

SEGMENT_PX = 4096
"""Width in model pixels that is read at once: at 128 px a chip, 1.6 MB of RGB. Wider gains nothing measurable."""


def read_chips(
    scene: Scene, grid: ChipGrid, size_px: int, *, segment_px: int = SEGMENT_PX
) -> Iterator[tuple[Chip, NDArray[np.uint8]]]:
    """Yield every chip that holds enough valid pixels, in the order of `grid.windows`.

    Memory is bounded whatever the size of the scene. Blocks that a sparse GeoTIFF never wrote cost nothing.

    Args:
        scene: An open scene.
        grid: Which windows.
        size_px: Side of the images, the model's input.
        segment_px: Width in model pixels that is read at once.

    Yields:
        The chip and its image uint8 [size_px, size_px, 3]; each image owns its memory.

    Raises:
        UsageError: size_px below 1.
        EmptySceneError: Not one chip holds enough valid pixels. Raised at the end.
        UnreadableSceneError: Damaged pixels. Chips yielded before must then be thrown away with the scene.
    """
    if size_px < 1:
        raise UsageError(f"size_px must be at least 1, got {size_px}")
    empty = True
    for strip in grid.strips(scene.info):
        for xs in _segments(scene.columns_with_data(strip), strip.width, size_px, segment_px):
            for item in _read_segment(scene, strip, xs, size_px, grid.min_valid):
                empty = False
                yield item
    if empty:
        raise EmptySceneError(
            f"{scene.info.uri!r}: no chip holds {grid.min_valid:.0%} valid pixels",
            hint="It is nodata from end to end, or nearly so.",
        )


def _segments(xs: list[int], side: int, size_px: int, segment_px: int) -> Iterator[list[int]]:
    """Runs of chips that touch, each at most `segment_px` model pixels wide (or one chip)."""
    reach = max(side, segment_px * side // size_px)
    run: list[int] = []
    for x in xs:
        if run and (x > run[-1] + side or x + side - run[0] > reach):
            yield run
            run = []
        run.append(x)
    if run:
        yield run


def _read_segment(
    scene: Scene, strip: Strip, xs: list[int], size_px: int, min_valid: float
) -> Iterator[tuple[Chip, NDArray[np.uint8]]]:
    span = Window(xs[0], strip.y0, xs[-1] + strip.width, strip.y0 + strip.height)
    columns = max(size_px, round(span.width * size_px / strip.width))
    pixels = scene.read(span, (size_px, columns))
    scale = columns / span.width
    kept: list[tuple[Window, int]] = []
    for x in xs:
        centre = (x - span.x0 + strip.width / 2) * scale
        left = min(max(round(centre - size_px / 2), 0), columns - size_px)
        if _is_kept(pixels, left, size_px, min_valid):
            kept.append((Window(x, strip.y0, x + strip.width, strip.y0 + strip.height), left))
    chips = scene.chips([window for window, _ in kept])
    for chip, (_, left) in zip(chips, kept, strict=True):
        yield chip, np.ascontiguousarray(pixels.rgb[:, left : left + size_px])


def _is_kept(pixels: Pixels, left: int, size_px: int, min_valid: float) -> bool:
    share = float(pixels.valid[:, left : left + size_px].mean())
    return share > 0 and share >= min_valid
