"""The processes that train together: one, or many under `torchrun`; embeddings are gathered with their gradient."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class World:
    """This process among all that train together.

    Attributes:
        rank, size: Which of how many.
        device: Of this process.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0


@contextmanager
def open_world(device: str = "auto") -> Iterator[World]:
    """The world that `torchrun` describes in the environment; without it, this process alone.

    Args:
        device: "auto" (CUDA where there is one), or a device of PyTorch.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "auto":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield World(rank, size, place)
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(rank, size, place)
    finally:
        dist.destroy_process_group()


def gather(rows: Tensor, world: World) -> tuple[Tensor, int]:
    """All processes' rows, in order of rank, and where this one's begin. Gradients flow back to every process.

    Processes may have different numbers of rows (a corrupt sample is missing).

    Args:
        rows: [b, ...].

    Returns:
        [B, ...] and the offset.
    """
    if world.size == 1:
        return rows, 0
    counts = torch.zeros(world.size, dtype=torch.int64, device=rows.device)
    counts[world.rank] = len(rows)
    dist.all_reduce(counts)
    told = counts.tolist()
    out: Tensor = _Gather.apply(rows, told, world.rank)  # type: ignore[no-untyped-call]
    return out, sum(told[: world.rank])


class _Gather(torch.autograd.Function):
    """Forward: everybody's rows. Backward: the sum of what everybody's loss wants of mine."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], rank: int) -> Tensor:
        ctx.counts, ctx.rank = counts, rank
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        whole = grads[0].contiguous().clone()
        dist.all_reduce(whole)
        start = sum(ctx.counts[: ctx.rank])
        return whole[start : start + ctx.counts[ctx.rank]], None, None


def total(value: float, world: World) -> float:
    """Sum of a number over all processes."""
    if world.size == 1:
        return value
    there = torch.tensor([value], dtype=torch.float64, device="cpu" if world.device.type == "cpu" else world.device)
    dist.all_reduce(there)
    return float(there)
