"""The `[loop]` table of a config: everything the training loop decides by, whatever the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from geoglot.errors import UnknownNameError, UsageError
from geoglot.training.schedules import ScheduleName

Precision = Literal["fp32", "bf16", "fp16"]

MAY_CHANGE = frozenset(
    {
        "log_every",
        "checkpoint_every",
        "workers",
        "worker_kind",
        "ahead",
        "corrupt_share",
        "tensorboard",
        "device",
        "allow_changed_loop",
    }
)
"""Settings that a resumed run may change: none of them moves a weight."""


@dataclass(frozen=True, slots=True)
class PartRate:
    """A learning rate of its own for a part of the model.

    Attributes:
        part: Pattern of parameter names, e.g. "towers.image.*"; the first table that matches a name counts.
        share: Of `learning_rate`.
    """

    part: str
    share: float

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise UsageError(f"share = {self.share} of {self.part!r} must be positive; freeze a part to keep it")


@dataclass(frozen=True, slots=True)
class Loop:
    """How to train.

    Attributes:
        batch: Images whose captions are each other's wrong answers, over all devices.
        steps: Optimiser steps; 0: as many as `epochs` take.
        epochs: Passes over all images; used when `steps` is 0.
        chunk: Images that go through the towers at once on a device; the gradient is still the whole batch's
            (cached gradients). 0: all.
        accumulate: Batches an optimiser step, each with its own loss; their gradients are averaged.
        precision: Of the towers: "fp32", or "bf16" or "fp16" where PyTorch's autocast thinks it safe.
        learning_rate, weight_decay, betas, eps: AdamW. Only tensors of two dimensions and more decay.
        rates: Parts of the model with a share of the learning rate.
        schedule, warmup, floor: Of the learning rate; `floor` as a share of it.
        clip: Largest norm of the gradient; 0: none.
        ema: Decay of a moving average of the weights, which is then what is evaluated and kept; 0: none.
        freeze: Patterns of parameter names that stay as they are, e.g. "towers.visual.*".
        checkpoint_activations: Compute each block's inside again in the backward pass instead of keeping it.
        seed: Of every random choice.
        log_every, checkpoint_every: Steps.
        evaluate_every: Steps between validations; 0: none.
        patience: Validations without a better metric after which the run ends; 0: never.
        allow_high_learning_rate: Go on with a rate that is likely to destroy pretrained weights.
        stuck_after: Steps after warm-up at which a loss that is still what guessing gives ends the run; 0: never.
        workers, worker_kind, ahead: Threads or processes that decode, and batches under way.
        corrupt_share: More corrupt samples than this end the run.
        tensorboard: Also write TensorBoard's files (extra "tensorboard").
        device: "auto", or a device of PyTorch.
        allow_changed_loop: Go on with a run whose `[loop]` was another, e.g. with a lower rate after a divergence.
    """

    batch: int
    steps: int = 0
    epochs: float = 0.0
    chunk: int = 0
    accumulate: int = 1
    precision: Precision = "fp32"
    learning_rate: float = 1e-5
    weight_decay: float = 0.2
    betas: tuple[float, ...] = (0.9, 0.98)
    eps: float = 1e-6
    rates: tuple[PartRate, ...] = ()
    schedule: ScheduleName = "cosine"
    warmup: int = 0
    floor: float = 0.0
    clip: float = 0.0
    ema: float = 0.0
    freeze: tuple[str, ...] = ()
    checkpoint_activations: bool = False
    seed: int = 0
    log_every: int = 10
    checkpoint_every: int = 500
    evaluate_every: int = 0
    patience: int = 0
    allow_high_learning_rate: bool = False
    stuck_after: int = 1000
    workers: int = 2
    worker_kind: Literal["thread", "process"] = "thread"
    ahead: int = 3
    corrupt_share: float = 0.05
    tensorboard: bool = False
    device: str = "auto"
    allow_changed_loop: bool = False

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.epochs > 0):
            raise UsageError(f"steps = {self.steps} and epochs = {self.epochs}: give one of them")
        positive = {n: getattr(self, n) for n in ("batch", "accumulate", "log_every", "checkpoint_every", "workers")}
        positive |= {"ahead": self.ahead, "learning_rate": self.learning_rate, "eps": self.eps}
        for name, value in positive.items():
            if not value > 0:
                raise UsageError(f"{name} = {value} must be positive")
        if self.batch < 2:
            raise UsageError(f"batch = {self.batch}: a contrast needs at least 2")
        shares = {"ema": self.ema, "floor": self.floor, "corrupt_share": self.corrupt_share}
        for name, value in shares.items():
            if not 0 <= value <= 1 or (name == "ema" and value == 1):
                raise UsageError(f"{name} = {value} is not a share")
        for name in ("chunk", "warmup", "clip", "patience", "evaluate_every", "stuck_after", "weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} = {getattr(self, name)} must not be negative")
        if self.patience and not self.evaluate_every:
            raise UsageError(f"patience = {self.patience} needs evaluate_every")
        _known("precision", self.precision, get_args(Precision))
        _known("schedule", self.schedule, get_args(ScheduleName))
        _known("worker_kind", self.worker_kind, ("thread", "process"))
        if len(self.betas) != 2:
            raise UsageError(f"betas = {self.betas}: AdamW has two")


def _known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownNameError(what, value, known)
