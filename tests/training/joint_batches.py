"""Run by two processes under `torchrun`: gradients of shares of a joint batch, and a short run of the whole loop.

python -m torch.distributed.run --nproc-per-node 2 joint_batches.py FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from tiny_towers import draw_data, grads, make_feed, objective, open_data, random_batch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from geoglot.training.distributed import World, open_world
from geoglot.training.grad_cache import backward
from geoglot.training.loop import train
from geoglot.training.loop_config import Loop
from geoglot.training.objective import LossName
from geoglot.training.recipes.farslip.region_losses import region_alignment
from geoglot.training.run_folder import facts_of

CASES: dict[str, tuple[LossName, int, int, tuple[int, int]]] = {
    "infonce": ("infonce", 1, 0, (6, 6)),
    "infonce-chunks": ("infonce", 1, 4, (6, 6)),
    "infonce-uneven": ("infonce", 1, 3, (7, 5)),
    "sigmoid": ("sigmoid", 2, 0, (6, 6)),
    "sigmoid-chunks": ("sigmoid", 2, 4, (6, 6)),
    "multi": ("multi_positive", 2, 0, (6, 6)),
    "multi-chunks": ("multi_positive", 2, 5, (7, 5)),
}
"""Loss, captions an image, chunk, images on each of the two processes."""

REGIONS = ((4, 3), (7, 0))
"""Regions on each of the two processes."""

LOOP = Loop(batch=8, steps=6, learning_rate=1e-2, warmup=2, chunk=3, ema=0.9, log_every=1, ahead=2, device="cpu")


def share(sizes: tuple[int, int], rank: int) -> slice:
    return slice(0, sizes[0]) if rank == 0 else slice(sizes[0], sum(sizes))


def region_rows() -> tuple[Tensor, Tensor, Tensor]:
    """Images, texts and labels of seven regions."""
    chance = torch.Generator().manual_seed(4)
    images, texts = (F.normalize(torch.randn(7, 5, generator=chance), dim=1) for _ in range(2))
    return images, texts, torch.tensor([3, 1, 3, 3, 8, 1, 9])


def region_grads(rows: slice, world: World) -> tuple[float, Tensor, Tensor]:
    """The loss of this process's regions, and the gradients of its rows."""
    images, texts, labels = region_rows()
    mine = [value[rows].clone().requires_grad_() for value in (images, texts)]
    loss = region_alignment(mine[0], mine[1], labels[rows], torch.tensor(7.0), world)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), *(value.grad for value in mine)


def loop_run(folder: Path, out: Path, world: World, loop: Loop = LOOP) -> None:
    with make_feed(folder, loop, world) as feed:
        train(objective("infonce"), feed, loop, out, facts_of("test", loop, open_data(folder), world), world)


def main(folder: Path) -> None:
    with open_world("cpu") as world:
        found = {}
        for name, (kind, captions, chunk, sizes) in CASES.items():
            model = objective(kind)
            batch = random_batch(12, captions).part(share(sizes, world.rank))
            backward(DistributedDataParallel(model), batch, world, chunk=chunk)
            found[name] = grads(model)
        twice = objective("infonce", dropout=0.3)  # cached and plain, the same chance on each process, then averaged
        wrapped = DistributedDataParallel(twice)
        for turn in range(2):
            torch.manual_seed(world.rank)
            batch = random_batch(12, seed=turn).part(share((6, 6), world.rank))
            backward(wrapped, batch, world, chunk=6 if turn else 0, scale=lambda loss: loss / 2, last=turn == 1)
        found["accumulated-dropout"] = grads(twice)
        regions = {sizes: region_grads(share(sizes, world.rank), world) for sizes in REGIONS}
        torch.save(regions, folder / f"regions-{world.rank}.pt")
        torch.save(found, folder / f"grads-{world.rank}.pt")
        if world.leads:
            draw_data(folder / "data")
        torch.distributed.barrier()
        loop_run(folder / "data", folder / "run", world)
        loop_run(folder / "data", folder / "half", world, replace(LOOP, checkpoint_every=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
