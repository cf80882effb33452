"""Where in an image the evidence for a question lies: scores of its places as a fine map, and the map's peak.

A place's score is its log-odds for the question against the card's background prompts (`Scorer.place_scores`). Scores
at several sizes of the image are brought to one grid of cells: small sizes see what surrounds a thing, large ones the
thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.scoring.blobs import Blob, blobs
from geoglot.scoring.enlarge import enlarged

CELL_PX = 8
"""Side of a cell of the map, in pixels of the image."""

Scores = NDArray[np.float32]


def cell_scores(scores: Scores, place_px: tuple[float, float], grid: tuple[int, int]) -> Scores:
    """Scores [N, Ph, Pw, K] of places of so many pixels (down, across) -> cells of `grid` [N, h, w, K], linear."""
    steps = (CELL_PX / place_px[0], CELL_PX / place_px[1])
    return np.moveaxis(enlarged(np.moveaxis(scores, -1, 1), grid, steps), 1, -1)


@dataclass(frozen=True, slots=True)
class Peak:
    """The best place of a map.

    Attributes:
        score: There.
        at: (x, y) as shares of the image's width and height, in (0, 1).
        box: (x0, y0, x1, y1) as shares: around the cells that touch it and score more than halfway from the map's
            median to the peak.
    """

    score: float
    at: tuple[float, float]
    box: tuple[float, float, float, float]


def peak_of(heat: NDArray[np.floating]) -> Peak:
    """The peak of a map [h, w]; the first in reading order where several are as high."""
    height, width = heat.shape
    row, column = divmod(int(heat.argmax()), width)
    top = float(heat[row, column])
    level = (float(np.median(heat)) + top) / 2
    x0, y0, x1, y1 = next(blob.box for blob in blobs(heat >= level) if _holds(blob, row, column))
    at = ((column + 0.5) / width, (row + 0.5) / height)
    return Peak(top, at, (x0 / width, y0 / height, x1 / width, y1 / height))


def _holds(blob: Blob, row: int, column: int) -> bool:
    return bool(((blob.rows == row) & (blob.starts <= column) & (column < blob.stops)).any())
