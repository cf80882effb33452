"""Which weights move, and how: freezing, decay groups, the moving average, recomputed activations, dangerous rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from geoglot.errors import UsageError
from geoglot.training.loop_config import Loop

STACKS = {"resblocks", "layers", "layer", "blocks"}
"""Names under which towers keep their equal blocks."""

LARGEST_STEP = 2e-3
"""Learning rate over the size of a typical weight, above which a pretrained tower is not tuned but overwritten.

Adam moves every weight by about the learning rate a step, whatever the gradient, so a thousand steps at 2e-3 of a
weight's size may turn it into something else altogether. CLIP's weights are about 0.02 large: the limit lies near 4e-5.
Published tuning of whole towers keeps well below (GeoRSCLIP 1e-6, its retrieval tuning 5e-6); training from scratch is
well above (CLIP 5e-4). The number is our choice between the two, not a measurement.
"""


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Keep matching parameters as they are.

    Raises:
        UsageError: A pattern matches nothing, or nothing is left to train.
    """
    names = dict(model.named_parameters())
    for pattern in patterns:
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            first = next(iter(names))
            raise UsageError(f"freeze pattern {pattern!r} matches no parameter", hint=f"The first is {first}.")
        for name in matching:
            names[name].requires_grad_(False)
    if not any(p.requires_grad for p in names.values()):
        raise UsageError("every parameter is frozen: there is nothing to train")


def count(model: nn.Module) -> dict[str, int]:
    """Parameters: how many, and how many of them are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"all": sum(n for n, _ in sizes), "trained": sum(n for n, moves in sizes if moves)}


def share_of(name: str, loop: Loop) -> float:
    """Share of the learning rate at which a parameter moves."""
    return next((rate.share for rate in loop.rates if fnmatchcase(name, rate.part)), 1.0)


def make_optimizer(model: nn.Module, loop: Loop) -> torch.optim.AdamW:
    """AdamW on what moves; vectors and scalars (norms, biases, the temperature) do not decay, as in CLIP.

    Each group has the `share` of the learning rate that its parts move at.

    Raises:
        UsageError: A pattern of `rates` matches nothing that moves.
    """
    moving = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    for rate in loop.rates:
        if not any(fnmatchcase(name, rate.part) for name, _ in moving):
            raise UsageError(f"the part {rate.part!r} of rates matches no parameter that is trained")
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for decays in (True, False):
        for name, p in moving:
            if (p.ndim > 1) == decays:
                groups.setdefault((share_of(name, loop), decays), []).append(p)
    tables = [
        {"params": parts, "weight_decay": loop.weight_decay if decays else 0.0, "share": share}
        for (share, decays), parts in groups.items()
    ]
    betas = (loop.betas[0], loop.betas[1])
    return torch.optim.AdamW(tables, lr=loop.learning_rate, betas=betas, eps=loop.eps, fused=True)


def refuse_destructive_rate(model: nn.Module, pretrained: Sequence[str], loop: Loop) -> None:
    """Stop before a pretrained tower is destroyed.

    Args:
        model: What is trained.
        pretrained: Patterns of parameter names that hold pretrained weights.
        loop: Learning rate, the parts' shares of it, and the explicit override.

    Raises:
        UsageError: The rate is over the limit for the typical pretrained matrix that moves.
    """
    sizes = sorted(
        (float(p.detach().float().square().mean().sqrt()) / share_of(name, loop), name)
        for name, p in model.named_parameters()
        if p.requires_grad and p.ndim > 1 and any(fnmatchcase(name, pattern) for pattern in pretrained)
    )
    if not sizes or loop.allow_high_learning_rate:
        return
    typical, name = sizes[len(sizes) // 2]
    rate, size = loop.learning_rate * share_of(name, loop), typical * share_of(name, loop)
    limit = LARGEST_STEP * size
    if rate > limit:
        raise UsageError(
            f"learning_rate = {rate:g} would overwrite pretrained weights: they are about {size:.2g} "
            f"large and Adam moves each by the learning rate every step; the limit is {limit:.1g}",
            hint="Use 1e-6 to 1e-5 for whole towers, or freeze them; allow_high_learning_rate = true goes on anyway.",
        )


def checkpoint_blocks(model: nn.Module) -> int:
    """Let each block of the towers' stacks be computed again in the backward pass; how many there are.

    Costs a third more time; keeps one activation a block instead of a dozen. Dropout is drawn the same both times.

    Raises:
        UsageError: No such stack.
    """
    blocks = [
        module
        for name, module in model.named_modules()
        if len(parts := name.split(".")) > 1 and parts[-1].isdigit() and parts[-2] in STACKS
    ]
    for module in blocks:
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)
    if not blocks:
        raise UsageError(f"checkpoint_activations blocks no blocks named {', '.join(sorted(STACKS))}")
    return len(blocks)


class MovingAverage:
    """An exponential moving average of what moves, and a copy of every buffer.

    Args:
        model: What is trained.
        decay: Share of the old average that stays; less in the first steps, where the average would remember chance.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._model = model
        self.values = {name: value.detach().clone() for name, value in self._moving()}

    def _moving(self) -> Iterator[tuple[str, Tensor]]:
        yield from ((name, p) for name, p in self._model.named_parameters() if p.requires_grad)
        yield from self._model.named_buffers()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0. The decay is min(decay, (1 + step) / (10 + step))."""
        share = 1.0 - min(self.decay, (1 + step) / (10 + step))
        for name, value in self._moving():
            if value.is_floating_point():
                self.values[name].lerp_(value.detach(), share)
            else:
                self.values[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with the averaged weights, for a while."""
        live = {name: value.detach().clone() for name, value in self._moving()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(live)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, value in self._moving():
            value.copy_(values[name])
