"""From a picture to scores: windows through the model, patches against words, blended into cells.

What is blended are K scores a cell, not D features: comparing first and upsampling after costs D / K times less, and
differs from the opposite order only by the length of interpolated features.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoglot.models.encoder import DenseEncoder
from geoglot.pipeline import Stages
from geoglot.scoring.enlarge import enlarged
from geoglot.scoring.windows import Blend, hills
from geoglot.tasks.segment.classes import Presence, Prompts, best_of
from geoglot.tasks.segment.windows import Picture, Plan, SegmentSettings, spans
from geoglot.types import Window

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

FILL = 115
"""Grey level of what is not there, near the mean colour that towers subtract."""

WINDOW_PIXELS = 16 * 224**2
"""Model pixels that are read and encoded at once: 16 windows of 224 px."""

AHEAD_BYTES = 16 * 2**20
KEPT_BYTES = 32 * 2**20
"""Scores up to this size stay in memory; beyond, they go to a temporary file."""

UNCALIBRATED = 50.0
"""Temperature for a model whose card was never calibrated: SegEarth-OV's (open_vocabulary.md, section 3)."""


class Upsampler(Protocol):
    """Sharpens the scores of windows along the edges of their pixels."""

    @property
    def factor(self) -> int:
        """Cells a patch side in the result."""
        ...

    def upsample(self, scores: Floats, images: NDArray[np.uint8]) -> Floats:
        """[N, C, Ph, Pw] and uint8 [N, H, W, 3] -> [N, C, Ph * factor, Pw * factor]."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows that are encoded together.

    Attributes:
        first: Cell row where they begin.
        columns: Cell columns where they begin.
        images: uint8 [n, h, w, 3]; what is not there is grey.
        seen: bool [n, Ph, Pw], patches that hold data in at least half of what the picture has of them.
    """

    first: int
    columns: tuple[int, ...]
    images: NDArray[np.uint8]
    seen: Bools


@dataclass
class ScoreMap:
    """Scores [channels, rows, columns] of cells, written from top to bottom, read by rows.

    Attributes:
        channels, rows, columns: The shape.
    """

    channels: int
    rows: int
    columns: int
    _file: tempfile.SpooledTemporaryFile[bytes] = field(
        default_factory=lambda: tempfile.SpooledTemporaryFile(max_size=KEPT_BYTES)  # noqa: SIM115 - closed in close
    )

    def append(self, rows: Floats) -> None:
        """Add the next rows, [channels, n, columns]."""
        self._file.write(np.ascontiguousarray(rows.transpose(1, 0, 2)).tobytes())

    def read(self, first: int, last: int) -> Floats:
        """Rows first ... last, [last - first, channels, columns]."""
        size = self.channels * self.columns * 4
        self._file.seek(first * size)
        block = np.frombuffer(self._file.read((last - first) * size), np.float32)
        return block.reshape(last - first, self.channels, self.columns)

    def close(self) -> None:
        """Delete it."""
        self._file.close()


class PatchScorer:
    """Scores of patches, for one set of prompts.

    Args:
        encoder: The model.
        prompts: The words.
        settings: Temperature, bias, last block.
        presence: Told of every patch that holds data.
        upsampler: Instead of linear interpolation.
    """

    def __init__(
        self,
        encoder: DenseEncoder,
        prompts: Prompts,
        settings: SegmentSettings,
        presence: Presence,
        upsampler: Upsampler | None = None,
    ) -> None:
        self._encoder, self._prompts, self._settings = encoder, prompts, settings
        self._presence, self._upsampler = presence, upsampler
        self.temperature = temperature(encoder, settings)
        # One product for all: the classes' words, the background's, and what presence is measured against.
        self._table = np.ascontiguousarray(np.concatenate([prompts.words, prompts.background, prompts.others]).T)
        self.channels = prompts.classes + bool(len(prompts.background))

    def __call__(self, batch: Batch, factor: int) -> Floats:
        """[n, channels, Ph * factor, Pw * factor]: temperature times cosine, classes first, background last."""
        patches, token = self._encode(batch.images)
        flat = patches.reshape(-1, patches.shape[-1]) @ self._table  # one product, not one for each row of patches
        cosines = flat.reshape(*patches.shape[:-1], -1)  # [n, Ph, Pw, Q + B + M]
        words, background = len(self._prompts.words), len(self._prompts.background)
        held = cosines[batch.seen]
        self._presence.add(best_of(held[:, :words], self._prompts.owners), held[:, words + background :])
        if token is not None:
            cosines = cosines + self._settings.cls_bias * (token @ self._table)[:, None, None, :]
        channels = [best_of(cosines[..., :words], self._prompts.owners)]
        if background:
            channels.append(cosines[..., words : words + background].max(axis=-1, keepdims=True))
        scores = np.ascontiguousarray(np.concatenate(channels, axis=-1).transpose(0, 3, 1, 2))
        scores *= np.float32(self.temperature)
        if self._upsampler is not None:
            return self._upsampler.upsample(scores, batch.images)
        return enlarged(scores, (scores.shape[-2] * factor, scores.shape[-1] * factor))

    def _encode(self, images: NDArray[np.uint8]) -> tuple[Floats, Floats | None]:
        """Patches, and for a bias the window's own vector: token 0, or the mean of a tower without one."""
        how = self._settings.last_block
        if not self._settings.cls_bias:
            return self._encoder.patch_features(images, how), None
        both = getattr(self._encoder, "patches_and_token", None)
        if both is not None:
            patches, token = both(images, how)
            return patches, token
        patches = self._encoder.patch_features(images, how)
        mean = patches.mean(axis=(1, 2))
        lengths = np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        unit: Floats = np.divide(mean, lengths, dtype=np.float32)
        return patches, unit


def temperature(encoder: DenseEncoder, settings: SegmentSettings) -> float:
    """The factor for cosines: as set, or the model's own."""
    card = encoder.card
    return settings.temperature or (card.calibration.temperature if card.calibrated else UNCALIBRATED)


def score_map(
    picture: Picture, plan: Plan, scorer: PatchScorer, progress: Callable[[float, str], None] | None = None
) -> ScoreMap:
    """Encode all windows and blend them. Close the result.

    Cost: all of the model's time. Memory: one strip of cells, a few batches of windows, and KEPT_BYTES.
    """
    cells = ScoreMap(scorer.channels, plan.down.cells, plan.across.cells)
    try:
        blend = Blend(cells.channels, cells.columns, plan.down.side)
        weights = hills(plan.down.side, plan.across.side)
        done = 0
        with Stages(AHEAD_BYTES, most=1) as stages:
            for batch in stages.ahead(read_windows(picture, plan), lambda b: b.images.nbytes):
                cells.append(blend.finish(batch.first))
                if batch.columns:
                    scores = scorer(batch, plan.patch_px // plan.cell_px)
                    for column, values in zip(batch.columns, scores, strict=True):
                        blend.add(batch.first, column, values, weights)
                done += len(batch.columns)
                if progress is not None:
                    progress(batch.first / cells.rows, f"{done:,} windows")
        cells.append(blend.finish(cells.rows))
    except BaseException:
        cells.close()
        raise
    return cells


def read_windows(picture: Picture, plan: Plan) -> Generator[Batch, None, None]:
    """All windows that hold data within a cell of them, from top to bottom; neighbours are read together."""
    height, width = plan.window_px
    most = max(1, WINDOW_PIXELS // (height * width))
    for first in plan.down.firsts:
        for columns in _groups(plan.across.firsts, most):
            yield _read_group(picture, plan, first, columns)


def _groups(firsts: tuple[int, ...], most: int) -> Iterator[tuple[int, ...]]:
    """As few groups as possible, of nearly the same size."""
    for part in np.array_split(np.array(firsts), -(-len(firsts) // most)):
        yield tuple(int(first) for first in part)


def _read_group(picture: Picture, plan: Plan, first: int, columns: tuple[int, ...]) -> Batch:
    cell, (height, width) = plan.cell_px, plan.window_px
    top, left = first * cell, columns[0] * cell
    rows = (top - cell, top + height + cell)
    span = (left - cell, columns[-1] * cell + width + cell)
    rgb, valid = _read_area(picture, plan, rows, span)  # a cell more on each side
    filled, images, seen = [], [], []
    for column in columns:
        at = column * cell - left
        near = valid[:, at : at + width + 2 * cell]
        if near.any():
            filled.append(column)
            images.append(rgb[cell : cell + height, at + cell : at + cell + width])
            seen.append(_seen(near[cell : cell + height, cell : cell + width], plan, top, column * cell))
    if not filled:
        return Batch(first, (), np.zeros((0, height, width, 3), np.uint8), np.zeros((0, 1, 1), np.bool_))
    return Batch(first, tuple(filled), np.stack(images), np.stack(seen))


def _seen(valid: Bools, plan: Plan, top: int, left: int) -> Bools:
    """Which patches [Ph, Pw] of a window hold data in at least half of what the picture has of them."""
    patch, (height, width) = plan.patch_px, valid.shape
    if valid.all():
        return np.ones((height // patch, width // patch), np.bool_)
    rows, columns = np.arange(top, top + height), np.arange(left, left + width)
    inside = np.outer(rows < plan.model_height, columns < plan.model_width)
    there, could = (
        mask.reshape(height // patch, patch, width // patch, patch).sum(axis=(1, 3)) for mask in (valid, inside)
    )
    seen: Bools = (2 * there >= could) & (there > 0)
    return seen


def _read_area(
    picture: Picture, plan: Plan, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[NDArray[np.uint8], Bools]:
    """Model pixels of an area that may reach over the picture; beyond it, its border goes on and nothing is valid.

    What holds no data is grey.
    """
    y0, y1 = max(rows[0], 0), min(rows[1], plan.model_height)
    x0, x1 = max(columns[0], 0), min(columns[1], plan.model_width)
    top, bottom, high, skip_y = spans(plan.height, plan.model_height, y0, y1)
    left, right, wide, skip_x = spans(plan.width, plan.model_width, x0, x1)
    pixels = picture.read(Window(left, top, right, bottom), (high, wide))
    inside = (slice(skip_y, skip_y + y1 - y0), slice(skip_x, skip_x + x1 - x0))
    around = ((y0 - rows[0], rows[1] - y1), (x0 - columns[0], columns[1] - x1))
    rgb, valid = pixels.rgb[inside], pixels.valid[inside]
    if not valid.all():
        rgb = np.where(valid[..., None], rgb, np.uint8(FILL))
    if not any(sum(around, ())):
        return rgb, valid
    return np.pad(rgb, (*around, (0, 0)), mode="edge"), np.pad(valid, around, mode="constant")
