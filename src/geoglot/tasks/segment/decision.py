"""From scores of cells to a class for each pixel, block by block."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoglot.pipeline import Stages
from geoglot.scoring.enlarge import linear_weights
from geoglot.tasks.segment.scores import Bools, Floats, ScoreMap
from geoglot.tasks.segment.windows import Picture, Plan
from geoglot.types import Window

BACKGROUND, NODATA = 0, 255
"""Values of a class map beside 1 ... K."""

BLOCK = (512, 1024)
"""Rows and columns that are read and written at once: whole tiles of common files."""

TILE = (128, 256)
"""Rows and columns that are decided at once: the fewer, the fewer cells a pixel is multiplied with, and they stay in
the processor's cache."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may win a pixel.

    Attributes:
        competing: bool [channels]; classes that are absent do not compete.
        values: uint8 [channels], what a pixel becomes when a channel wins.
        min_probability: With less, it becomes background.
    """

    competing: Bools
    values: Bytes
    min_probability: float = 0.0

    @classmethod
    def of(cls, present: Bools, channels: int, min_probability: float = 0.0) -> Rule:
        """K classes, and a background channel where there is one more than classes."""
        extra = channels - len(present)
        values = np.array([*range(1, len(present) + 1), *[BACKGROUND] * extra], np.uint8)
        return cls(np.concatenate([present, np.ones(extra, np.bool_)]), values, min_probability)

    def decide(self, scores: Floats) -> tuple[Bytes, Floats]:
        """Scores [channels, H, W] to values and the winner's probability among all that compete, both [H, W].

        Where nobody competes all is background, with probability 1.
        """
        if not self.competing.any():
            return np.full(scores.shape[1:], BACKGROUND, np.uint8), np.ones(scores.shape[1:], np.float32)
        competing = scores if self.competing.all() else scores[self.competing]
        won, top = np.full(competing.shape[1:], self.values[self.competing][0], np.uint8), competing[0].copy()
        for one, value in zip(competing[1:], self.values[self.competing][1:], strict=True):
            np.copyto(won, value, where=one > top)  # channel by channel: argmax would walk through memory in jumps
            np.maximum(top, one, out=top)
        odds, over = np.zeros_like(top), np.empty_like(top)
        for one in competing:
            np.subtract(one, top, out=over)
            odds += np.exp(over, out=over)
        share = np.reciprocal(odds, out=odds)
        if self.min_probability:
            won[share < self.min_probability] = BACKGROUND
        return won, share


class Refiner(Protocol):
    """Corrects a class map by the pixels it was made from, for example with SAM's outlines. None ships."""

    def refine(self, image: Bytes, values: Bytes) -> Bytes:
        """RGB uint8 [H, W, 3] and values [H, W] -> values [H, W], only such as were there.

        Blocks are refined one by one; nodata is put back afterwards.
        """
        ...


@dataclass(frozen=True, slots=True)
class Decided:
    """A block of the result.

    Attributes:
        window: Where, in the picture's pixels.
        values: uint8 [H, W]: 0 background, 1 ... K classes, 255 nodata.
        percent: uint8 [H, W], the winner's probability in whole percent; 255 on nodata.
    """

    window: Window
    values: Bytes
    percent: Bytes


def decided_blocks(
    picture: Picture, plan: Plan, scores: ScoreMap, rule: Rule, stages: Stages, refiner: Refiner | None = None
) -> Generator[Decided, None, None]:
    """All blocks, row by row; validity and scores of the next ones are read ahead."""
    blocks = _read_blocks(picture, plan, scores, pixels=refiner is not None)
    for read in stages.ahead(blocks, lambda read: read.valid.nbytes + read.cells.nbytes):
        values = np.full(read.valid.shape, NODATA, np.uint8)
        percent = np.full(read.valid.shape, NODATA, np.uint8)
        for tile in _tiles(read.valid.shape):
            if read.valid[tile].any():
                place = _within(read.window, tile)
                values[tile], share = rule.decide(pixel_scores(place, plan, read.cells, read.first))
                percent[tile] = np.rint(np.multiply(share, 100, out=share), out=share)
        if refiner is not None and read.rgb is not None:
            values = refiner.refine(read.rgb, values)
        if not read.valid.all():
            values[~read.valid] = percent[~read.valid] = NODATA
        yield Decided(read.window, values, percent)


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for top, left in product(range(0, shape[0], TILE[0]), range(0, shape[1], TILE[1])):
        yield slice(top, min(top + TILE[0], shape[0])), slice(left, min(left + TILE[1], shape[1]))


def _within(window: Window, tile: tuple[slice, slice]) -> Window:
    """A tile of a window's pixels, in the picture's."""
    rows, columns = tile
    return Window(window.x0 + columns.start, window.y0 + rows.start, window.x0 + columns.stop, window.y0 + rows.stop)


@dataclass(frozen=True, slots=True)
class _Read:
    """A block before it is decided: its validity, the cells of its rows from `first` on, its pixels if wanted."""

    window: Window
    valid: Bools
    cells: Floats
    first: int
    rgb: Bytes | None


def _read_blocks(picture: Picture, plan: Plan, scores: ScoreMap, *, pixels: bool) -> Generator[_Read, None, None]:
    step = plan.cells_per_pixel[0]
    for top in range(0, plan.height, BLOCK[0]):
        bottom = min(top + BLOCK[0], plan.height)
        first, down = linear_weights(top, bottom - top, step, scores.rows)
        cells = scores.read(first, first + down.shape[1])
        for left in range(0, plan.width, BLOCK[1]):
            window = Window(left, top, min(left + BLOCK[1], plan.width), bottom)
            pixels_read = picture.read(window, (window.height, window.width)) if pixels else None
            valid = picture.valid(window) if pixels_read is None else pixels_read.valid
            yield _Read(window, valid, cells, first, None if pixels_read is None else pixels_read.rgb)


def pixel_scores(window: Window, plan: Plan, cells: Floats, first: int = 0) -> Floats:
    """Scores [channels, H, W] of a window's pixels, linear between cells.

    Args:
        window: In the picture's pixels.
        plan: Its windows.
        cells: [rows, channels, columns]: rows of cells from `first` on, enough for the window; all columns.
        first: Which row of cells comes first.
    """
    steps = plan.cells_per_pixel
    top, down = linear_weights(window.y0, window.height, steps[0], plan.down.cells)
    left, across = linear_weights(window.x0, window.width, steps[1], plan.across.cells)
    near = cells[top - first :, :, left : left + across.shape[1]][: down.shape[1]]
    return down @ (np.ascontiguousarray(near.transpose(1, 0, 2)) @ across.T)
