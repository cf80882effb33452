"""From scores of cells to a class for each pixel, block by block."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.pipeline import Stages
from geoglot.imagery.stitch import between
from geoglot.tasks.segment_plan import Picture, Plan
from geoglot.tasks.segment_scores import Bools, Floats, ScoreMap
from geoglot.types import Window

BACKGROUND, NODATA = 0, 255
"""Values of a class map beside 1 ... K."""

BLOCK = (512, 1024)
"""Rows and columns that are read and written at once: whole tiles of common files."""

TILE = 256
"""Columns that are interpolated at once: the fewer, the fewer cells a pixel is multiplied with."""

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
        mine, values = scores[self.competing], self.values[self.competing]
        top, best = mine[0].copy(), np.zeros(mine.shape[1:], np.uint8)
        for at in range(1, len(mine)):  # channel by channel: argmax along the first axis walks through memory in jumps
            best[mine[at] > top] = at
            np.maximum(top, mine[at], out=top)
        odds = np.zeros_like(top)
        for one in mine:
            odds += np.exp(one - top)
        share = 1 / odds
        won = values[best]
        if self.min_probability:
            won = np.where(share < self.min_probability, np.uint8(BACKGROUND), won)
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
        share: float32 [H, W], the winner's probability; 0 on nodata.
    """

    window: Window
    values: Bytes
    share: Floats


def decided_blocks(
    picture: Picture, plan: Plan, scores: ScoreMap, rule: Rule, stages: Stages, refiner: Refiner | None = None
) -> Generator[Decided, None, None]:
    """All blocks, row by row; validity and scores of the next ones are read ahead."""
    blocks = _read_blocks(picture, plan, scores, pixels=refiner is not None)
    for window, valid, cells, rgb in stages.ahead(blocks, lambda read: read[1].nbytes + read[2].nbytes):
        values = np.full(valid.shape, NODATA, np.uint8)
        share = np.zeros(valid.shape, np.float32)
        for left in range(0, window.width, TILE):
            part = slice(left, min(left + TILE, window.width))
            if valid[:, part].any():
                tile = Window(window.x0 + part.start, window.y0, window.x0 + part.stop, window.y1)
                values[:, part], share[:, part] = rule.decide(pixel_scores(tile, plan, cells))
        if refiner is not None and rgb is not None:
            values = refiner.refine(rgb, values)
        values[~valid], share[~valid] = NODATA, 0
        yield Decided(window, values, share)


def _read_blocks(
    picture: Picture, plan: Plan, scores: ScoreMap, *, pixels: bool
) -> Generator[tuple[Window, Bools, Floats, Bytes | None], None, None]:
    """Each block with its validity, the cells of its rows, and its pixels if they are wanted."""
    step = plan.cells_per_pixel[0]
    for top in range(0, plan.height, BLOCK[0]):
        bottom = min(top + BLOCK[0], plan.height)
        first, down = between(top, bottom - top, step, scores.rows)
        cells = scores.read(first, first + down.shape[1])
        for left in range(0, plan.width, BLOCK[1]):
            window = Window(left, top, min(left + BLOCK[1], plan.width), bottom)
            seen = picture.read(window, (window.height, window.width)) if pixels else None
            valid = picture.valid(window) if seen is None else seen.valid
            yield window, valid, cells, None if seen is None else seen.rgb


def pixel_scores(window: Window, plan: Plan, cells: Floats) -> Floats:
    """Scores [channels, H, W] of a window's pixels, linear between cells.

    Args:
        window: In the picture's pixels.
        plan: Its windows.
        cells: [rows, channels, columns]: the rows of cells that the window's rows lie between, all columns.
    """
    steps = plan.cells_per_pixel
    _, down = between(window.y0, window.height, steps[0], plan.down.cells)
    left, across = between(window.x0, window.width, steps[1], plan.across.cells)
    near = np.ascontiguousarray(cells[:, :, left : left + across.shape[1]].transpose(1, 0, 2))
    return down @ (near @ across.T)
