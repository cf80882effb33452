"""The protocol `selo/air-slt`: sentences with marked regions in scenes, scored by the four metrics of selo.py.

A scene's windows are encoded once for all of its sentences. `strict` is the published protocol, and repeats what the
released code (Yuan et al. 2022, arXiv 2209.06515) does to pixels: every window is resized to 256 px, bicubic and not
smoothed, and goes through a JPEG; the map is stretched to 8 bits, smoothed by a median of 251 px, and goes through a
JPEG as well. What that code does besides (files in between, windows one by one) changes no number. `fast` reads windows
as `geoglot localize` does, takes the mean as it is, and is named apart, because its maps are not smoothed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoglot.data.benchmarks.schema import Benchmark
from geoglot.data.samples import decode
from geoglot.errors import TooLargeError
from geoglot.evaluation.embeddings import encode_known
from geoglot.evaluation.map_filters import median
from geoglot.evaluation.metrics import bootstraps
from geoglot.evaluation.report import Number
from geoglot.evaluation.selo import RELEASED, Constants, selo_scores
from geoglot.imagery.grid import SIDES_PX, ScaleGrid, fitting_sides
from geoglot.imagery.scene import open_scene
from geoglot.models.encoder import DualEncoder, Images
from geoglot.tasks.localize.maps import BATCH, Progress, WindowVectors, encode_windows, stretched
from geoglot.types import SceneInfo, Window

Mode = Literal["strict", "fast"]
METRICS = ("Rsu", "Ras", "Rda", "Rmi")
UNSEEN = 1e-9
"""Every window counts that has a valid pixel."""
CHIP_PX, QUALITY, MEDIAN_PX = 256, 95, 251
"""Of the released code; 95 is what OpenCV writes JPEGs with."""
MAX_STRICT = 120_000_000
"""Pixels of a scene in strict mode."""


def localization(
    encoder: DualEncoder,
    data: Benchmark,
    mode: Mode,
    *,
    seed: int = 0,
    constants: Constants = RELEASED,
    progress: Progress | None = None,
) -> list[Number]:
    """The mean of each metric over the sentences, in percent; Ras is better when lower.

    Memory: the largest scene in full resolution, about 24 bytes a pixel. Cost: the encoder on some 1,100 windows for 25
    megapixels; then per sentence a few passes over the pixels, and in strict mode one for each grey level.

    Args:
        encoder: The model.
        data: With polygons.
        mode: See above.
        seed: Of the bootstrap over sentences.
        constants: Of the metrics.
        progress: Called with sentences done and in all.
    """
    texts = encode_known(encoder, [sample.captions[0] for sample in data.samples])
    scores = np.zeros((len(data.samples), len(METRICS)))
    notes, done = [f"mode {mode}"], 0
    for path in dict.fromkeys(sample.image for sample in data.samples):
        windows, (height, width), clamped = _encoded(path, encoder, mode)
        notes += [clamped] if clamped else []
        cover = windows.cover(width, height, 1)
        for at in (i for i, sample in enumerate(data.samples) if sample.image == path):
            mean = cover.mean(windows.vectors @ texts[at])
            p = strict_probability(mean) if mode == "strict" else np.nan_to_num(stretched(mean))
            metrics = selo_scores(p, (data.polygons or ())[at], constants, even_odd=mode == "strict")
            scores[at] = [100 * value for value in (metrics.rsu, metrics.ras, metrics.rda, metrics.rmi)]
            done += 1
            if progress:
                progress(done, len(data.samples))
    unknown = int((~texts.any(1)).sum())
    notes += [f"{unknown} sentences of which the model knows no word: their maps are constant"] if unknown else []
    intervals = bootstraps(lambda rows: scores[rows].mean(0), len(scores), seed=seed)
    protocol = "selo/air-slt" if mode == "strict" else "selo/air-slt-fast"
    return [
        Number(protocol, metric, float(value), interval, len(scores), texts=len(scores), notes=tuple(notes))
        for metric, value, interval in zip(METRICS, scores.mean(0), intervals, strict=True)
    ]


def _encoded(path: Path, encoder: DualEncoder, mode: Mode) -> tuple[WindowVectors, tuple[int, int], str]:
    """The model's vectors of a scene's windows; height and width; a sentence when sides were clamped."""
    if mode == "strict":
        image = np.asarray(decode(path))
        height, width = image.shape[:2]
        windows = encode_strictly(image, encoder, SIDES_PX)
    else:
        with open_scene(path) as scene:
            height, width = scene.info.height, scene.info.width
            windows = encode_windows(scene, encoder, ScaleGrid(SIDES_PX, min_valid=UNSEEN))
    sides = fitting_sides(width, height, SIDES_PX)
    return windows, (height, width), "" if sides == SIDES_PX else f"{path.name}: windows clamped to {list(sides)} px"


def strict_maps(
    path: str | Path, encoder: DualEncoder, sentences: Sequence[str], sides_px: tuple[int, ...] = SIDES_PX
) -> list[NDArray[np.float32]]:
    """The released code's map of each sentence over a scene, float32 [H, W] in [0, 1], in full resolution.

    Memory: about 24 bytes a pixel.

    Raises:
        TooLargeError: A scene of more than MAX_STRICT pixels.
        SceneError, SourceError: It cannot be read.
        UnknownWordsError: No word of a sentence is known.
    """
    texts = encoder.encode_texts(list(sentences))
    with open_scene(path) as scene:
        width, height = scene.info.width, scene.info.height
        if width * height > MAX_STRICT:
            raise TooLargeError(
                f"{width} x {height} px are over the limit of {MAX_STRICT:,} in strict mode", hint="Cut the scene."
            )
        whole = scene.read(Window(0, 0, width, height)).rgb
    windows = encode_strictly(whole, encoder, fitting_sides(width, height, sides_px))
    cover = windows.cover(width, height, 1)
    return [strict_probability(cover.mean(windows.vectors @ text)) for text in texts]


def encode_strictly(
    image: Images, encoder: DualEncoder, sides_px: tuple[int, ...], progress: Progress | None = None
) -> WindowVectors:
    """Windows of an image uint8 [H, W, 3] as the released code shows them to a model."""
    height, width = image.shape[:2]
    windows = windows_of(width, height, sides_px)
    vectors = []
    for at in range(0, len(windows), BATCH):
        chips = np.stack([strict_chip(image, window) for window in windows[at : at + BATCH]])
        vectors.append(encoder.encode_images(_fitted(chips, encoder)))
        if progress:
            progress(min(at + BATCH, len(windows)), len(windows))
    return WindowVectors(np.array([window.box_px for window in windows], np.int64), np.concatenate(vectors))


def windows_of(width: int, height: int, sides_px: tuple[int, ...]) -> list[Window]:
    """The windows of a scene of so many pixels."""
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


def strict_probability(mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """The released code's map, as its metrics read it: 8 bits cut off, median, JPEG, over 255."""
    grey = (np.float32(255) * np.nan_to_num(stretched(mean))).astype(np.uint8)
    return np.asarray(through_jpeg(median(grey, MEDIAN_PX)) / np.float32(255), np.float32)


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
