"""A second copy of a network that follows the trained one slowly, or not at all (arXiv 1703.01780)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """A frozen copy in evaluation mode.

    Args:
        student: What is copied now, and followed later.
        decay: Share of the old weights that stays at a step; 1: the copy never moves.
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(student).requires_grad_(False).eval()
        self.decay = decay

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode, whatever is around it."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """Move towards the student: weights and floating buffers (running statistics) by a share, counters at once.

        By name, so that the order of parameters does not matter. Cost: one pass over the weights.
        """
        mine = dict(_tensors(self.model))
        for name, value in _tensors(student):
            if value.is_floating_point():
                mine[name].lerp_(value.detach().to(mine[name].dtype), 1.0 - self.decay)
            else:
                mine[name].copy_(value)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())
