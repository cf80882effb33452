"""From a scene to maps of where sentences hold: semantic localization (Yuan et al. 2022, arXiv 2209.06515).

    scene -> windows of several sides -> vectors, once -> per sentence: cosines -> on each pixel their mean

Two modes. `fast` reads windows in batches through the scene reader, and averages with a table of differences
(imagery/multiscale.py). `strict` repeats what the released code does to pixels: every window is resized to 256 px,
bicubic and not smoothed, and goes through a JPEG; the map is stretched to 8 bits, smoothed by a median of 251 px, and
goes through a JPEG as well. What that code does besides (files in between, windows one by one) changes no number.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.evidence import Judge
from geoglot.archive.rerank import closer_px
from geoglot.imagery.chips import read_chips
from geoglot.imagery.filters import median
from geoglot.imagery.multiscale import Cover, ScaleGrid, fitting_sides, to_cells
from geoglot.imagery.scene import Scene
from geoglot.models.encoder import DualEncoder, Images, Vectors, dense
from geoglot.types import Window

CHIP_PX, QUALITY, MEDIAN_PX = 256, 95, 251
"""Of the released code; 95 is what OpenCV writes JPEGs with."""
BATCH = 64
FLAT = 1e-6
"""A map whose lowest and highest mean cosine differ by less is constant but for rounding."""

Told = Callable[[int, int], None]
"""Called with windows done and in all."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model says of a scene's windows; all sentences share it.

    Attributes:
        boxes: int64 [N, 4], x0 y0 x1 y1 in pixels.
        vectors: Unit [N, D].
    """

    boxes: NDArray[np.int64]
    vectors: Vectors


def see(scene: Scene, encoder: DualEncoder, grid: ScaleGrid, told: Told | None = None) -> Seen:
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
        if told:
            told(len(boxes), total)
    return Seen(np.array(boxes, np.int64), np.concatenate(vectors))


def see_strictly(image: Images, encoder: DualEncoder, sides_px: tuple[int, ...], told: Told | None = None) -> Seen:
    """As the released code sees an image uint8 [H, W, 3] that lies in memory whole."""
    height, width = image.shape[:2]
    windows = windows_of(width, height, sides_px)
    vectors = []
    for at in range(0, len(windows), BATCH):
        chips = np.stack([strict_chip(image, window) for window in windows[at : at + BATCH]])
        vectors.append(encoder.encode_images(_fitted(chips, encoder)))
        if told:
            told(min(at + BATCH, len(windows)), len(windows))
    return Seen(np.array([window.box_px for window in windows], np.int64), np.concatenate(vectors))


def windows_of(width: int, height: int, sides_px: tuple[int, ...]) -> list[Window]:
    """The windows of a scene of so many pixels."""
    from geoglot.types import SceneInfo

    return ScaleGrid(sides_px).windows(SceneInfo("", "", "", "", width, height, 3, "uint8"))


def _fitted(chips: Images, encoder: DualEncoder) -> Images:
    """Chips as the encoder takes them: most resize by themselves."""
    from PIL import Image

    side = encoder.card.image_px
    if encoder.card.preprocess is not None or chips.shape[1] == side:
        return chips
    how = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(chip).resize((side, side), how)) for chip in chips])


def strict_chip(image: Images, window: Window) -> Images:
    """A window as the released code hands it to a model: uint8 [256, 256, 3]."""
    part = image[window.y0 : window.y1, window.x0 : window.x1]
    return through_jpeg(cubic(part, CHIP_PX))


def cubic(pixels: Images, side: int) -> Images:
    """Bicubic resize of [H, W, 3] as OpenCV's INTER_CUBIC: four taps, a = -0.75, not smoothed, edges repeated.

    To within one grey level: OpenCV computes 8-bit pictures in fixed point.
    """
    out = pixels.astype(np.float32)
    for axis in (0, 1):
        taps, weights = _cubic_taps(out.shape[axis], side)
        shape = [-1 if i == axis else 1 for i in range(3)]
        out = np.sum([np.take(out, t, axis) * w.reshape(shape) for t, w in zip(taps, weights, strict=True)], axis=0)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def _cubic_taps(length: int, side: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where four taps lie [4, side], and their weights (Keys 1981, with OpenCV's a)."""
    at = (np.arange(side) + 0.5) * length / side - 0.5
    first = np.floor(at)
    near = np.abs(at - first - np.arange(-1, 3)[:, None])  # distances [4, side]
    a = -0.75
    inner = (a + 2) * near**3 - (a + 3) * near**2 + 1
    outer = a * (near**3 - 5 * near**2 + 8 * near - 4)
    taps = np.clip(first.astype(np.int64) + np.arange(-1, 3)[:, None], 0, length - 1)
    return taps, np.where(near <= 1, inner, outer).astype(np.float32)


def through_jpeg(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey or RGB, written and read again."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY, subsampling=2)
    return np.asarray(Image.open(stream))


def cover_of(seen: Seen, width: int, height: int, cell_px: int) -> Cover:
    """The windows on a map of cells; the last cell of a row may reach over the border."""
    return Cover(to_cells(seen.boxes, cell_px), -(-height // cell_px), -(-width // cell_px))


def stretched(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """From 0 at the lowest to 1 at the highest; a constant map is 0 everywhere, NaN stays."""
    low, high = (float(extreme.reduce(values, axis=None)) for extreme in (np.fmin, np.fmax))
    if not high - low > FLAT:
        return values * np.float32(0)
    return (values - np.float32(low)) * np.float32(1 / (high - low))


def strict_probability(mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """The released code's map, as its metrics read it: 8 bits cut off, median, JPEG, over 255."""
    grey = (np.float32(255) * np.nan_to_num(stretched(mean))).astype(np.uint8)
    return np.asarray(through_jpeg(median(grey, MEDIAN_PX)) / np.float32(255), np.float32)


def see_places(
    scene: Scene, encoder: DualEncoder, judge: Judge, side_px: int, told: Told | None = None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """Places of the windows of one side, read closer: boxes in pixels [M, 4] and scores [M, K], batch by batch.

    Raises:
        UsageError: The model tells no places apart.
    """
    seer, size = dense(encoder), closer_px(dense(encoder))
    grid = ScaleGrid((side_px,))
    total, done = sum(len(strip.xs) for strip in grid.strips(scene.info)), 0
    chips = read_chips(scene, grid, size)
    while batch := list(islice(chips, BATCH // 8)):
        scores = judge.scores(seer.patch_features(np.stack([image for _, image in batch])))  # [n, Ph, Pw, K]
        yield _place_boxes([c.window for c, _ in batch], scores.shape[1:3], seer.patch_px / size), _flat(scores)
        done += len(batch)
        if told:
            told(done, total)


def _flat(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return scores.reshape(-1, scores.shape[-1])


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
