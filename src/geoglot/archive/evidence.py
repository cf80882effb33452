"""Where in an image the evidence for a question lies: the places of an image against words, as a fine map.

A place's score is its log-odds for the question against the card's background prompts (`calibrate.margins`): plain
cosines lean to the same places for every question, the prompts take that out. A model without prompts gives its
cosines times the temperature. Scores at several sizes of the image are brought to one grid and averaged: small sizes
see what surrounds a thing, large ones the thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.calibrate import margins
from geoglot.imagery.filters import Blob, blobs
from geoglot.models.encoder import DenseEncoder, DualEncoder, Images, Vectors

ZOOMS = (0.5, 1.0)
"""Sizes of the image that are averaged; chosen on NWPU VHR-10 train (benchmarks/pointing.py --choose)."""
CELL_PX = 8
"""Side of a cell of the map, in pixels of the image."""
PLACES = 65_536
"""Places that are compared at once."""

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Judge:
    """What places are compared with.

    Attributes:
        queries: Unit vectors [K, D].
        prompts: The card's background prompts [P, D]; P may be 0.
        temperature, alike: Of the card's calibration.
    """

    queries: Vectors
    prompts: Vectors
    temperature: float
    alike: float

    @classmethod
    def of(cls, encoder: DualEncoder, queries: Vectors) -> Judge:
        """With the encoder's own prompts."""
        card = encoder.card
        prompts = encoder.encode_texts(card.background) if card.background else np.empty((0, card.dim), np.float32)
        return cls(queries, prompts, card.calibration.temperature, card.calibration.alike)

    def scores(self, features: Vectors) -> Scores:
        """Unit vectors [..., D] -> float32 [..., K]."""
        flat = features.reshape(-1, features.shape[-1])
        parts = [self._rows(flat[at : at + PLACES]) for at in range(0, len(flat), PLACES)]
        found = np.concatenate(parts) if parts else np.empty((0, len(self.queries)), np.float32)
        return found.reshape(*features.shape[:-1], len(self.queries))

    def _rows(self, rows: Vectors) -> Scores:
        if len(self.prompts) == 0:
            return np.asarray(self.temperature * (rows @ self.queries.T), np.float32)
        return margins(rows, self.queries, self.prompts, self.temperature, self.alike).astype(np.float32)


def place_maps(encoder: DenseEncoder, images: Images, judge: Judge, zooms: Sequence[float] = ZOOMS) -> Scores:
    """Maps of where each question holds: the mean of `zoom_maps`, float32 [N, h, w, K]."""
    return np.asarray(zoom_maps(encoder, images, judge, zooms).mean(0))


def zoom_maps(encoder: DenseEncoder, images: Images, judge: Judge, zooms: Sequence[float]) -> Scores:
    """Maps of where each question holds, at several sizes of the images.

    Args:
        encoder: The model.
        images: uint8 [N, H, W, 3] of any size.
        judge: The questions.
        zooms: Sizes of the image, as factors; never below one patch.

    Returns:
        float32 [Z, N, ceil(H / CELL_PX), ceil(W / CELL_PX), K]. Cost: the encoder on zoom² H W pixels, for each zoom.
    """
    height, width = images.shape[1:3]
    grid = (-(-height // CELL_PX), -(-width // CELL_PX))
    maps = np.zeros((len(zooms), len(images), *grid, len(judge.queries)), np.float32)
    for at, zoom in enumerate(zooms):
        size = tuple(max(encoder.patch_px, round(side * zoom)) for side in (height, width))
        scores = judge.scores(encoder.patch_features(_resized(images, (size[0], size[1]))))
        scale = (encoder.patch_px * height / size[0], encoder.patch_px * width / size[1])
        maps[at] = spread(scores, scale, grid)
    return maps


def _resized(images: Images, size: tuple[int, int]) -> Images:
    """To (height, width), bicubic; smoothed first where they get smaller."""
    from PIL import Image

    if images.shape[1:3] == size or not len(images):
        return images if len(images) else np.zeros((0, *size, 3), np.uint8)
    wanted = (size[1], size[0])
    return np.stack([np.asarray(Image.fromarray(i).resize(wanted, Image.Resampling.BICUBIC)) for i in images])


def spread(scores: Scores, place_px: tuple[float, float], grid: tuple[int, int]) -> Scores:
    """Scores [N, Ph, Pw, K] of places of so many image pixels (down, across) -> cells of `grid`, bilinear."""
    for axis, (side, cells) in enumerate(zip(place_px, grid, strict=True), start=1):
        at = np.clip((np.arange(cells) + 0.5) * CELL_PX / side - 0.5, 0, scores.shape[axis] - 1)
        low = np.floor(at).astype(np.int64)
        high = np.minimum(low + 1, scores.shape[axis] - 1)
        share = (at - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(4)])
        scores = (np.take(scores, low, axis) * (1 - share) + np.take(scores, high, axis) * share).astype(np.float32)
    return scores


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
