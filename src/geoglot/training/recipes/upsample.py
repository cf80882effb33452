"""Recipe `upsample`: teach the joint bilateral upsampler (models/upsample.py) where a model's patches end.

    geoglot train upsample --config configs/upsample.toml --data DATA --out runs/upsample

The model is frozen. Two views of a picture are shifted by less than a patch: the model's patches of the first, made
finer along the first's edges, moved by the shift and averaged over the second's patches, must be what the model says of
the second (the consistency that FeatUp learns from, arXiv 2403.10516). Only what is right below the size of a patch can
do that. The upsampler does not mix channels, so random directions of the D features are filtered, other ones each step.

The log holds, beside the loss, what linear interpolation would have lost on the same pictures. A run takes minutes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from geoglot.data.decode import Prepare
from geoglot.data.sources import DataSource
from geoglot.errors import UsageError
from geoglot.models.encoder import DenseEncoder, dense
from geoglot.models.load import load_encoder
from geoglot.models.upsample import JointBilateral, UpsamplerShape, save_upsampler
from geoglot.training.distributed import World, open_world
from geoglot.training.finetune import open_feed, open_mix, take_best
from geoglot.training.journal import OnProgress
from geoglot.training.loop import train
from geoglot.training.loop_config import Loop
from geoglot.training.objective import Batch, Objective, Outputs
from geoglot.training.run_folder import facts_of
from geoglot.training.smoke import draw_world, smoke_loop

FILE = "upsampler.safetensors"


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the recipe.

    Attributes:
        model: Name or folder of the frozen model, one that tells places apart.
        data: Pictures; captions are not used.
        loop: How to train.
        shape: Of the upsampler. 2 ** steps must divide the model's patch.
        side_px: Of a view; 0 is the model's own side, or four patches if that is more.
        area: Least and most share of a picture that a view shows.
        directions: Of the features, filtered at a time.
    """

    model: str
    data: tuple[DataSource, ...]
    loop: Loop
    shape: UpsamplerShape = field(default_factory=UpsamplerShape)
    side_px: int = 0
    area: tuple[float, float] = (0.3, 1.0)
    directions: int = 16

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("upsample needs [[data]] sources")
        if self.directions < 1:
            raise UsageError(f"directions = {self.directions} must be positive")
        if self.loop.evaluate_every:
            raise UsageError("upsample has no validation metric", hint="Leave evaluate_every out.")


def run(config: Config, data: Path, out: Path, on_progress: OnProgress | None = None) -> Path:
    """Train, going on from what `out` holds.

    Args:
        config: See Config.
        data: What its paths are relative to.
        out: The run's folder.
        on_progress: Called while training.

    Returns:
        The upsampler's file.

    Raises:
        UsageError: The upsampler is finer than a pixel of the model's patch.
    """
    with open_world(config.loop.device) as world:
        torch.manual_seed(config.loop.seed)  # of the upsampler's first weights
        encoder, upsampler = dense(load_encoder(config.model)), JointBilateral(config.shape)
        if encoder.patch_px % upsampler.factor:
            raise UsageError(
                f"{config.shape.steps} doublings do not divide a patch of {encoder.patch_px} px",
                hint="Take fewer steps.",
            )
        objective = Sharpen(encoder, upsampler, _side(config, encoder), config.directions)
        _train(config, data, out, objective, world, on_progress)
        about = {"model": encoder.card.name, "fingerprint": encoder.card.fingerprint, "steps": config.loop.steps}
        about |= {"seed": config.loop.seed, "shape": asdict(config.shape)}
        if world.leads:
            save_upsampler(upsampler.cpu().eval(), out / FILE, about)
    return out / FILE


def _train(
    config: Config, data: Path, out: Path, objective: Sharpen, world: World, on_progress: OnProgress | None
) -> None:
    """The common loop on squares that hold both views; the objective then has the last weights."""
    mix = open_mix(config.data, data)
    facts = facts_of("upsample", config, mix.sets, world)
    prepare = Prepare(objective.side_px + objective.encoder.patch_px, config.area)
    with open_feed(mix, prepare, _no_words, config.loop, world) as feed:
        report = train(objective, feed, config.loop, out, facts, world, on_progress=on_progress)
    if world.leads:
        take_best(report, objective, out)


def _no_words(texts: list[str]) -> NDArray[np.int64]:
    return np.zeros((len(texts), 1), np.int64)


class Sharpen(Objective):
    """The second view from the first one's patches.

    Args:
        encoder: Frozen; it is no part of the weights.
        upsampler: What is trained.
        side_px: S, of a view.
        directions: C, of the features, filtered at a time.
    """

    def __init__(self, encoder: DenseEncoder, upsampler: JointBilateral, side_px: int, directions: int) -> None:
        super().__init__()
        self.encoder, self.upsampler, self.side_px, self.directions = encoder, upsampler, side_px, directions

    def forward(self, batch: Batch) -> Outputs:
        """Images uint8 [B, S + patch, S + patch, 3] -> the second view's patches and two ways to foretell them."""
        device, factor = batch.images.device, self.upsampler.factor
        views = look(self.encoder, batch.images.cpu().numpy(), self.side_px, factor, self.directions).to(device)
        return {
            "sharpened": views.foretold(self.upsampler(views.first, views.pictures)),
            "interpolated": views.foretold(views.interpolated()),
            "second": views.second,
        }

    def loss(self, outputs: Outputs, batch: Batch, world: World) -> dict[str, Tensor]:
        """What the upsampler misses of the second view."""
        return {"consistency": missed(outputs["sharpened"], outputs["second"])}

    def measures(self, outputs: Outputs) -> dict[str, float]:
        """What linear interpolation misses of it."""
        return {"interpolated": float(missed(outputs["interpolated"], outputs["second"]))}


def missed(foretold: Tensor, second: Tensor) -> Tensor:
    """Mean squared error relative to the variance of what is right."""
    return F.mse_loss(foretold, second) / second.var().clamp_min(1e-12)


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

    def to(self, device: torch.device) -> Views:
        """On a device."""
        return Views(self.first.to(device), self.second.to(device), self.pictures.to(device), self.shift, self.factor)

    def foretold(self, fine: Tensor) -> Tensor:
        """Cells of the first view [B, C, P * factor, P * factor] -> the second one's patches [B, C, P - 1, P - 1]."""
        reach = self.second.shape[2] * self.factor
        down, across = self.shift
        return F.avg_pool2d(fine[:, :, down : down + reach, across : across + reach], self.factor)

    def interpolated(self) -> Tensor:
        """Cells of the first view by linear interpolation."""
        size = self.first.shape[2] * self.factor
        return F.interpolate(self.first, (size, size), mode="bilinear", align_corners=False)


def look(encoder: DenseEncoder, pictures: NDArray[np.uint8], side: int, factor: int, directions: int) -> Views:
    """Cut two views out of pictures uint8 [B, side + patch, side + patch, 3], and ask the model about both.

    Shift and directions come from PyTorch's random numbers, which the loop seeds by step.
    """
    cell = encoder.patch_px // factor
    down, across = (int(n) for n in torch.randint(0, factor, (2,)))
    y, x = down * cell, across * cell
    first, second = pictures[:, :side, :side], pictures[:, y : y + side, x : x + side]
    axes = torch.randn(encoder.card.dim, directions).numpy()
    seen = [encoder.patch_features(np.ascontiguousarray(view)) @ axes for view in (first, second)]
    maps = [torch.from_numpy(np.ascontiguousarray(one.transpose(0, 3, 1, 2))) for one in seen]
    scaled = torch.from_numpy(np.ascontiguousarray(first)).permute(0, 3, 1, 2).float() / 255
    return Views(maps[0], maps[1][:, :, :-1, :-1], scaled, (down, across), factor)


def _side(config: Config, encoder: DenseEncoder) -> int:
    patch = encoder.patch_px
    return -(-(config.side_px or max(encoder.card.image_px, 4 * patch)) // patch) * patch


def smoke(config: Config, out: Path) -> Config:
    """A few steps on a drawn world and a tiny model."""
    folder = draw_world(out / "smoke").absolute()
    return replace(
        config,
        model=str(folder / "model"),
        data=(DataSource(str(folder / "captions.jsonl")),),
        loop=smoke_loop(config.loop),
        shape=replace(config.shape, steps=2, radius=2, width=8),
        side_px=0,
        directions=4,
    )
