"""Recipe `contrastive`: tune a dual encoder on image-text pairs. GeoRSCLIP's method, and the way to train on your own.

    geoglot train contrastive --config configs/contrastive.toml --data DATA --out runs/mine
    torchrun --nproc-per-node 8 -m geoglot train contrastive --config ... --data DATA --out runs/mine

Implements: GeoRSCLIP (arXiv 2306.11300, section VI-A): InfoNCE, random crops of 0.9 to 1 of the image, flips, any
rotation; all weights, or small parts beside frozen ones (`[tuning]`, its Table I). Loss = the contrastive one that the
config names; a recipe with more losses subclasses `Contrastive`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.data.decode import Prepare
from geoglot.data.pairs import PairSet
from geoglot.data.sources import DataSource
from geoglot.errors import UnknownNameError, UsageError
from geoglot.models.peft.settings import Tuning
from geoglot.training.distributed import open_world
from geoglot.training.finetune import Finetune
from geoglot.training.journal import OnProgress
from geoglot.training.leakage import check_leakage, open_pictures
from geoglot.training.loop_config import Loop
from geoglot.training.objective import Contrastive, LossName
from geoglot.training.smoke import draw_world, smoke_loop

Corners = Literal["mean", "black"]


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the recipe.

    Attributes:
        model: Name or folder of the model to start from; it needs PyTorch weights.
        data: Image-text pairs; paths are relative to --data.
        loop: How to train.
        loss: "infonce", "multi_positive" or "sigmoid".
        captions: Captions an image in a batch; more than 1 needs a loss with several right answers.
        area: Least and most share of the image in a random crop.
        turn: Whether images are flipped and rotated at random. Not for captions that say "left" or "upper".
        corners: What a rotation brings in from outside: "mean" the colour that normalises to 0, pixels interpolated; or
            "black", nearest pixels, before normalising, as GeoRSCLIP's released augmentation does.
        validation: Held-out pairs for the metric, mean recall; none: no validation.
        leakage: Test sets that must not be among the training images: folders of images, or sources of pairs.
        leakage_by_embedding: Also compare embeddings, which costs a pass over all images.
        tuning: All weights, or small parts of one or both towers.
    """

    recipe: ClassVar[str] = "contrastive"
    model: str
    data: tuple[DataSource, ...]
    loop: Loop
    loss: LossName = "infonce"
    captions: int = 1
    area: tuple[float, float] = (0.9, 1.0)
    turn: bool = True
    corners: Corners = "mean"
    validation: DataSource | None = None
    leakage: tuple[DataSource, ...] = ()
    leakage_by_embedding: bool = False
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("there is no [[data]] in the config")
        if self.corners not in get_args(Corners):
            raise UnknownNameError("corners", self.corners, get_args(Corners))
        if self.captions > 1 and self.loss == "infonce":
            raise UsageError(f"captions = {self.captions} needs loss = multi_positive or sigmoid")
        if self.loop.evaluate_every and self.validation is None:
            raise UsageError("evaluate_every needs a [validation] source")


class Turned(Contrastive):
    """Contrastive training on images that are flipped and rotated: seen from above there is no up.

    Args:
        corners: See Config.
        towers, kind, more: As of Contrastive.
    """

    def __init__(self, towers: nn.Module, kind: LossName, corners: Corners = "mean", **more: Any) -> None:
        super().__init__(towers, kind, **more)
        self.corners = corners

    def pixels(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().pixels(images)
        if self.corners == "mean":
            return turned(super().pixels(images), *drawn_turns(len(images), images.device))
        bytes_first = images.permute(0, 3, 1, 2).float()
        bytes_first = turned(bytes_first, *drawn_turns(len(images), images.device), nearest=True)
        return super().pixels(bytes_first.permute(0, 2, 3, 1))


def drawn_turns(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Angles in radians over the whole circle, and -1 for what is mirrored, else 1; each [B]."""
    angle = torch.rand(count, device=device) * (2 * math.pi)
    return angle, torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)


def turned(x: Tensor, angle: Tensor, flip: Tensor, nearest: bool = False) -> Tensor:
    """Mirror images [B, 3, S, S] and rotate them; what comes in from outside is 0."""
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    maps = torch.stack([cos * flip, -sin, none, sin * flip, cos, none], 1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    mode = "nearest" if nearest else "bilinear"
    return F.grid_sample(x, grid, mode=mode, padding_mode="zeros", align_corners=False)


def run(config: Config, data: Path, out: Path, on_progress: OnProgress | None = None) -> Path:
    """Train, going on from what `out` holds.

    Returns:
        The folder of the tuned model.
    """
    with open_world(config.loop.device) as world:
        job = Finetune(config, data, out, tuning=config.tuning, world=world, on_progress=on_progress)
        start = job.start
        pixels: dict[str, Any] = {"side_px": start.image_px, "mean": start.mean, "std": start.std}
        model = (
            Turned(start.towers, config.loss, config.corners, **pixels)
            if config.turn
            else Contrastive(start.towers, config.loss, **pixels)
        )
        if world.leads and config.leakage and not (out / "last.pt").is_file():
            _look_for_leaks(config, data, out, job.mix.sets, model)
        return job.run(model, Prepare(start.image_px, config.area, config.captions))


def _look_for_leaks(config: Config, data: Path, out: Path, sets: Sequence[PairSet], model: Contrastive) -> None:
    tests = [open_pictures(source, data) for source in config.leakage]
    check_leakage(sets, tests, out, model=model if config.leakage_by_embedding else None, threads=config.loop.workers)


def smoke(config: Config, out: Path) -> Config:
    """The same recipe in a few steps, on drawn chips and a tiny model with random weights, both below `out`."""
    world = draw_world(out / "world")
    pairs, held_out = (DataSource(str(world / "captions.jsonl"), split=split) for split in ("train", "valid"))
    loop, model = smoke_loop(config.loop), str(world / "model")
    return replace(config, model=model, data=(pairs,), loop=loop, validation=held_out, leakage=())
