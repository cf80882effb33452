"""Recipe `contrastive`: tune a dual encoder on image-text pairs. GeoRSCLIP's method, and the way to train on your own.

    geoglot train contrastive --config configs/contrastive.toml --data DATA --out runs/mine
    torchrun --nproc-per-node 8 -m geoglot train contrastive --config ... --data DATA --out runs/mine

Implements: GeoRSCLIP (arXiv 2306.11300, section VI-A): InfoNCE, random crops of 0.9 to 1 of the image, flips, any
rotation. Loss = the contrastive one that the config names; a recipe with more losses subclasses `Contrastive`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from geoglot.data.feed import Feed, Workshop
from geoglot.data.pairs import PairSet
from geoglot.data.pictures import Prepare
from geoglot.data.plan import BatchPlan
from geoglot.data.sources import DataSource, open_source
from geoglot.errors import UsageError
from geoglot.models.encoder import find_card
from geoglot.training.journal import OnProgress
from geoglot.training.leakage import check_leakage, open_pictures
from geoglot.training.loop import Evaluate, Report, train
from geoglot.training.objective import Contrastive, LossName, Objective
from geoglot.training.run_folder import facts_of
from geoglot.training.settings import Loop
from geoglot.training.starting_point import Start, load_start, write_model
from geoglot.training.validation import mean_recall
from geoglot.training.world import World, open_world


@dataclass(frozen=True, slots=True)
class Config:
    """What to train on what.

    Attributes:
        model: Name or folder of the model to start from; it needs PyTorch weights.
        data: Image-text pairs; paths are relative to --data.
        loop: How to train.
        loss: "infonce", "multi_positive" or "sigmoid".
        captions: Captions an image in a batch; more than 1 needs a loss with several right answers.
        area: Least and most share of the image in a random crop.
        turn: Whether images are flipped and rotated at random. Not for captions that say "left" or "upper".
        validation: Held-out pairs for the metric, mean recall; none: no validation.
        leakage: Test sets that must not be among the training images: folders of images, or sources of pairs.
        leakage_by_embedding: Also compare embeddings, which costs a pass over all images.
    """

    model: str
    data: tuple[DataSource, ...]
    loop: Loop
    loss: LossName = "infonce"
    captions: int = 1
    area: tuple[float, float] = (0.9, 1.0)
    turn: bool = True
    validation: DataSource | None = None
    leakage: tuple[DataSource, ...] = ()
    leakage_by_embedding: bool = False

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("there is no [[data]] in the config")
        if self.captions > 1 and self.loss == "infonce":
            raise UsageError(f"captions = {self.captions} needs loss = multi_positive or sigmoid")
        if self.loop.evaluate_every and self.validation is None:
            raise UsageError("evaluate_every needs a [validation] source")


class Turned(Contrastive):
    """Contrastive training on images that are flipped and rotated: seen from above there is no up."""

    def pixels(self, images: Tensor) -> Tensor:
        x = super().pixels(images)
        return turned(x) if self.training else x


def turned(x: Tensor) -> Tensor:
    """Rotate each image [B, 3, S, S] by any angle and flip half of them; what comes in from outside is 0, the mean."""
    angle = torch.rand(len(x), device=x.device) * (2 * math.pi)
    flip = torch.where(torch.rand(len(x), device=x.device) < 0.5, -1.0, 1.0)
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    maps = torch.stack([cos * flip, -sin, none, sin * flip, cos, none], 1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def run(config: Config, data: Path, out: Path, on_progress: OnProgress | None = None) -> Path:
    """Train, going on from what `out` holds; returns the folder of the tuned model."""
    with open_world(config.loop.device) as world:
        start = load_start(find_card(config.model))
        sets = [open_source(source, data) for source in config.data]
        kind = Turned if config.turn else Contrastive
        model = kind(start.towers, config.loss, side_px=start.image_px, mean=start.mean, std=start.std)
        if world.leads and config.leakage and not (out / "last.pt").is_file():
            _look_for_leaks(config, data, out, sets, model)
        plan = BatchPlan(sets, [s.weight for s in config.data], config.loop.batch, config.loop.seed)
        workshop = Workshop(
            sets, Prepare(start.image_px, config.area, config.captions), start.tokenizer.ids, config.loop.seed
        )
        loop, facts = config.loop, facts_of("contrastive", config, sets, world)
        with Feed(
            workshop,
            plan,
            rank=world.rank,
            size=world.size,
            workers=loop.workers,
            kind=loop.worker_kind,
            ahead=loop.ahead,
            corrupt_share=loop.corrupt_share,
        ) as feed:
            metric = _metric(config, data, start)
            report = train(
                model, feed, loop, out, facts, world, pretrained=("towers.*",), evaluate=metric, on_progress=on_progress
            )
        return _keep(report, start, model, out, world)


def _metric(config: Config, data: Path, start: Start) -> Evaluate | None:
    if config.validation is None:
        return None
    held_out = open_source(config.validation, data)

    def metric(model: Objective) -> float:
        assert isinstance(model, Contrastive)
        return mean_recall(held_out, model, start.tokenizer.ids)

    return metric


def _look_for_leaks(config: Config, data: Path, out: Path, sets: Sequence[PairSet], model: Contrastive) -> None:
    tests = [open_pictures(source, data) for source in config.leakage]
    check_leakage(sets, tests, out, model=model if config.leakage_by_embedding else None, threads=config.loop.workers)


def _keep(report: Report, start: Start, model: Contrastive, out: Path, world: World) -> Path:
    folder = out / "model"
    if world.leads:
        weights = out / "best.pt" if report.best else report.final
        write_model(start, torch.load(weights, weights_only=True, map_location="cpu")["weights"], folder, out.name)
    return folder


def smoke(config: Config) -> Config:
    """The same recipe in a few steps."""
    loop = replace(config.loop, batch=4, steps=2, epochs=0.0, chunk=2, warmup=1, log_every=1, checkpoint_every=1)
    return replace(config, loop=replace(loop, evaluate_every=0, patience=0), validation=None, leakage=())
