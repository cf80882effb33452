"""From a scene to what its windows and their places say: semantic localization (Yuan et al. 2022, arXiv 2209.06515).

    scene -> windows of several sides -> vectors, once -> per sentence: cosines -> on each pixel their mean

Windows are read in batches through the scene reader, and averaged with a table of sums (geoglot.scoring.sums). What the
method's released code does to pixels besides is repeated in geoglot.evaluation.localization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.rerank import closer_px
from geoglot.imagery.chips import read_chips
from geoglot.imagery.grid import ScaleGrid, fitting_sides
from geoglot.imagery.scene import Scene
from geoglot.models.encoder import DualEncoder, Vectors, dense
from geoglot.scoring.calibration import Scorer
from geoglot.scoring.sums import Cover, to_cells
from geoglot.types import Window

BATCH = 64
FLAT = 1e-6
"""A map whose lowest and highest mean cosine differ by less is constant but for rounding."""

Progress = Callable[[int, int], None]
"""Called with windows done and in all."""


@dataclass(frozen=True, slots=True)
class WindowVectors:
    """The model's vectors of a scene's windows; all sentences share them.

    Attributes:
        boxes: int64 [N, 4], x0 y0 x1 y1 in pixels.
        vectors: Unit [N, D].
    """

    boxes: NDArray[np.int64]
    vectors: Vectors

    def cover(self, width: int, height: int, cell_px: int) -> Cover:
        """The windows on a map of cells; the last cell of a row may reach over the border."""
        return Cover(to_cells(self.boxes, cell_px), -(-height // cell_px), -(-width // cell_px))


def encode_windows(
    scene: Scene, encoder: DualEncoder, grid: ScaleGrid, progress: Progress | None = None
) -> WindowVectors:
    """Encode every window that holds enough valid pixels. Memory: one vector a window, and what `read_chips` needs.

    Raises:
        EmptySceneError: None does.
        UnreadableSceneError: Damaged pixels.
    """
    total = sum(len(strip.xs) for strip in grid.strips(scene.info))
    boxes, vectors = [], []
    chips = read_chips(scene, grid, encoder.card.image_px)
    while batch := list(islice(chips, BATCH)):
        boxes += [chip.window.box_px for chip, _ in batch]
        vectors.append(encoder.encode_images(np.stack([image for _, image in batch])))
        if progress:
            progress(len(boxes), total)
    return WindowVectors(np.array(boxes, np.int64), np.concatenate(vectors))


def stretched(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """From 0 at the lowest to 1 at the highest; a constant map is 0 everywhere, NaN stays."""
    low, high = (float(extreme.reduce(values, axis=None)) for extreme in (np.fmin, np.fmax))
    if not high - low > FLAT:
        return values * np.float32(0)
    return (values - np.float32(low)) * np.float32(1 / (high - low))


def score_places(
    scene: Scene,
    encoder: DualEncoder,
    scorer: Scorer,
    queries: Vectors,
    side_px: int,
    progress: Progress | None = None,
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """Places of the windows of one side, read closer: boxes in pixels [M, 4] and scores [M, K], batch by batch.

    Raises:
        UsageError: The model tells no places apart.
    """
    tower, size = dense(encoder), closer_px(dense(encoder))
    grid = ScaleGrid((side_px,))
    total, done = sum(len(strip.xs) for strip in grid.strips(scene.info)), 0
    chips = read_chips(scene, grid, size)
    while batch := list(islice(chips, BATCH // 8)):
        features = tower.patch_features(np.stack([image for _, image in batch]))
        scores = scorer.place_scores(features, queries)  # [n, Ph, Pw, K]
        boxes = _place_boxes([chip.window for chip, _ in batch], scores.shape[1:3], tower.patch_px / size)
        yield boxes, scores.reshape(-1, scores.shape[-1])
        done += len(batch)
        if progress:
            progress(done, total)


def _place_boxes(windows: list[Window], grid: tuple[int, ...], share: float) -> NDArray[np.float64]:
    """Places of so large a share of their window, cut at its edge, in reading order [n * Ph * Pw, 4]."""
    y = np.minimum(np.arange(grid[0] + 1) * share, 1.0)
    x = np.minimum(np.arange(grid[1] + 1) * share, 1.0)
    rows, columns = np.repeat(np.arange(grid[0]), grid[1]), np.tile(np.arange(grid[1]), grid[0])
    unit = np.stack([x[columns], y[rows], x[columns + 1], y[rows + 1]], axis=1)  # [P, 4]
    corners = np.array([(w.x0, w.y0, w.x0, w.y0) for w in windows], np.float64)
    sides = np.array([(w.width, w.height, w.width, w.height) for w in windows], np.float64)
    return np.asarray((corners[:, None] + sides[:, None] * unit).reshape(-1, 4))


def fitted_sides(scene: Scene, sides_px: tuple[int, ...]) -> tuple[tuple[int, ...], str | None]:
    """Sides that the scene holds, and a sentence when any was clamped."""
    info = scene.info
    fitted = fitting_sides(info.width, info.height, sides_px)
    if fitted == tuple(sorted(set(sides_px))):
        return fitted, None
    return fitted, f"windows of {max(sides_px)} px do not fit {info.width} x {info.height} px: sides are {list(fitted)}"
