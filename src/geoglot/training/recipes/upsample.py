"""Recipe `upsample`: teach the joint bilateral upsampler (models/upsample.py) where a model's patches end.

    geoglot train upsample --config configs/upsample.toml --data DATA --out runs/upsample

The model is frozen. Two views of a picture are shifted by less than a patch: the model's patches of the first, made
finer along the first's edges, moved by the shift and averaged over the second's patches, must be what the model says of
the second (the consistency that FeatUp learns from, arXiv 2403.10516). Only what is right below the size of a patch can
do that. The upsampler does not mix channels, so random directions of the D features are filtered, other ones each step.

The log holds, beside the loss, what linear interpolation would have lost on the same pictures. A run takes minutes and
begins anew when it is started again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from geoglot.data.decode import open_picture, random_box, square
from geoglot.data.pairs import PairSet
from geoglot.data.sources import DataSource, open_source
from geoglot.errors import TrainingError, UsageError
from geoglot.models.encoder import DenseEncoder, dense
from geoglot.models.load import load_encoder
from geoglot.models.upsample import JointBilateral, UpsamplerShape, save_upsampler
from geoglot.training.journal import Journal, OnProgress, Progress
from geoglot.training.smoke import draw_world

FILE = "upsampler.safetensors"


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the recipe.

    Attributes:
        model: Name or folder of the frozen model, one that tells places apart.
        data: Pictures; captions are not used.
        shape: Of the upsampler. 2 ** steps must divide the model's patch.
        batches: Optimiser steps.
        batch: Pictures in each.
        side_px: Of a view; 0 is the model's own side, or four patches if that is more.
        area: Least and most share of a picture that a view shows.
        directions: Of the features, filtered at a time.
        learning_rate: Adam's.
        seed: Of every random choice.
        log_every: Steps.
    """

    model: str
    data: tuple[DataSource, ...]
    shape: UpsamplerShape = field(default_factory=UpsamplerShape)
    batches: int = 500
    batch: int = 4
    side_px: int = 0
    area: tuple[float, float] = (0.3, 1.0)
    directions: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("upsample needs [[data]] sources")
        if min(self.batches, self.batch, self.directions, self.log_every) < 1 or not self.learning_rate > 0:
            raise UsageError("batches, batch, directions, log_every and learning_rate must be positive")


def run(config: Config, data: Path, out: Path, on_progress: OnProgress | None = None) -> Path:
    """Train.

    Args:
        config: See Config.
        data: What its paths are relative to.
        out: The run's folder.
        on_progress: Called while training.

    Returns:
        The upsampler's file.

    Raises:
        UsageError: The upsampler is finer than a pixel of the model's patch.
        TrainingError: The loss is not finite.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    encoder = dense(load_encoder(config.model))
    model = JointBilateral(config.shape)
    if encoder.patch_px % model.factor:
        raise UsageError(
            f"{config.shape.steps} doublings do not divide a patch of {encoder.patch_px} px", hint="Take fewer steps."
        )
    out.mkdir(parents=True, exist_ok=True)
    sets = [open_source(source, data) for source in config.data]
    side = _side(config, encoder)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    journal, begun = Journal(out, 0, False), time.monotonic()
    for step, pictures in enumerate(_pictures(sets, config, side + encoder.patch_px, rng), start=1):
        views = look(encoder, pictures, side, model.factor, config.directions, rng)
        loss = views.loss(model)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {float(loss.detach())} at step {step}", hint="Lower learning_rate.")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % config.log_every == 0 or step == config.batches:
            rate = step * config.batch / (time.monotonic() - begun)
            lost = float(loss.detach())
            journal.write({"step": step, "loss": lost, "interpolated": float(views.interpolated())})
            if on_progress is not None:
                on_progress(Progress(step, config.batches, 0.0, lost, rate, 0.0))
    journal.close()
    about = {"model": encoder.card.name, "fingerprint": encoder.card.fingerprint, "batches": config.batches}
    return save_upsampler(model.eval(), out / FILE, about | {"seed": config.seed, "shape": asdict(config.shape)})


@dataclass(frozen=True, slots=True)
class Views:
    """Two views of B pictures.

    Attributes:
        first: Patches of the first view along some directions, [B, C, P, P].
        second: The same of the second, without its last row and column, [B, C, P - 1, P - 1].
        pictures: The first views in [0, 1], [B, 3, S, S].
        shift: (down, across) of the second against the first, in cells.
        factor: Cells a patch side.
    """

    first: Tensor
    second: Tensor
    pictures: Tensor
    shift: tuple[int, int]
    factor: int

    def loss(self, model: JointBilateral) -> Tensor:
        """The error of the upsampler on the second view, relative to the view's variance."""
        return self._missed(model(self.first, self.pictures))

    def interpolated(self) -> Tensor:
        """The same for linear interpolation."""
        size = self.first.shape[2] * self.factor
        return self._missed(F.interpolate(self.first, (size, size), mode="bilinear", align_corners=False))

    def _missed(self, fine: Tensor) -> Tensor:
        reach = self.second.shape[2] * self.factor
        down, across = self.shift
        moved = fine[:, :, down : down + reach, across : across + reach]
        return F.mse_loss(F.avg_pool2d(moved, self.factor), self.second) / self.second.var().clamp_min(1e-12)


def look(
    encoder: DenseEncoder,
    pictures: NDArray[np.uint8],
    side: int,
    factor: int,
    directions: int,
    rng: np.random.Generator,
) -> Views:
    """Cut two views out of pictures uint8 [B, side + patch, side + patch, 3], and ask the model about both."""
    cell = encoder.patch_px // factor
    down, across = (int(n) for n in rng.integers(0, factor, 2))
    y, x = down * cell, across * cell
    first, second = pictures[:, :side, :side], pictures[:, y : y + side, x : x + side]
    axes = rng.standard_normal((encoder.card.dim, directions)).astype(np.float32)
    seen = [encoder.patch_features(np.ascontiguousarray(view)) @ axes for view in (first, second)]
    maps = [torch.from_numpy(np.ascontiguousarray(one.transpose(0, 3, 1, 2))) for one in seen]
    scaled = torch.from_numpy(np.ascontiguousarray(first)).permute(0, 3, 1, 2).float() / 255
    return Views(maps[0], maps[1][:, :, :-1, :-1], scaled, (down, across), factor)


def _side(config: Config, encoder: DenseEncoder) -> int:
    patch = encoder.patch_px
    return -(-(config.side_px or max(encoder.card.image_px, 4 * patch)) // patch) * patch


def _pictures(
    sets: Sequence[PairSet], config: Config, side: int, rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Batches uint8 [B, side, side, 3]: any picture of any set, any crop."""
    ends = np.cumsum([len(one) for one in sets])
    for _ in range(config.batches):
        batch = []
        for at in rng.integers(0, ends[-1], config.batch):
            number = int(np.searchsorted(ends, at, side="right"))
            pair = sets[number].read(int(at - ends[number] + len(sets[number])))
            with open_picture(pair.image, pair.name) as picture:
                batch.append(square(picture, random_box(picture.size, config.area, rng), side, pair.name))
        yield np.stack(batch)


def smoke(config: Config, out: Path) -> Config:
    """A few steps on a drawn world and a tiny model."""
    folder = draw_world(out / "smoke").absolute()
    return replace(
        config,
        model=str(folder / "model"),
        data=(DataSource(str(folder / "captions.jsonl")),),
        shape=replace(config.shape, steps=2, radius=2, width=8),
        batches=4,
        batch=2,
        side_px=0,
        directions=4,
        log_every=1,
    )
