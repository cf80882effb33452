"""Time of a FarSLIP stage-1 step against a twin that runs the crops one after another and the last block twice.

    python benchmarks/farslip_step.py --threads 1
    python benchmarks/farslip_step.py --device cuda --batch 40 --precision bf16

CLIP ViT-B/32 with random weights, 4 crops an image; forward, loss, backward, AdamW. The twin sees whole images, then
the crops, in passes of their own; in each the last block runs once as it is and once modified. Three comparisons in one
process, the two sides taking turns: the same loss and gradient on both sides, with the gradient stopped at the target
and with it flowing; and our default (stopped) against what the released code does (flowing). Loss and gradient of each
pair are compared first, and the products of matrices on both sides are counted: on a processor they fill the time, so
their ratio is about what another order of passes can win there. `--rounds 0` only compares and counts.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from statistics import median
from time import perf_counter

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from geoglot.data.sources import DataSource
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.towers.clip import build
from geoglot.models.towers.dense import Dense, attend
from geoglot.training.distributed import World
from geoglot.training.loop_config import Loop
from geoglot.training.objective import Batch
from geoglot.training.recipes.farslip.recipe import Config, FarSlip
from geoglot.training.weights import make_optimizer

CROPS = 4


class Separate(FarSlip):
    """The twin."""

    def _see(self, parts: dict[str, Tensor]) -> dict[str, Dense]:
        images = self._twice(self.pixels(parts["images"]))
        crops = [self._twice(self.pixels(parts["crops"][at::CROPS])) for at in range(CROPS)]
        pooled = torch.stack([crop.pooled for crop in crops], 1).flatten(0, 1)
        patches = torch.stack([crop.patches for crop in crops], 1).flatten(0, 1)
        return {"images": images, "crops": Dense(pooled, patches, None)}

    def _twice(self, x: Tensor) -> Dense:
        """The last block as it is on all tokens, and again with its attention changed."""
        tower = self.towers.visual
        tokens, last, grid = tower._last_input(x)
        pooled = tower._project(last(tokens))[:, 0]
        q, k, v = last.attn.split(last.ln_1(tokens))
        patches = tower._project(last.attn.merge(attend(q, k, v, "segearth")))[:, 1:]
        return Dense(pooled, patches.reshape(len(x), *grid, -1), None)


def shape(layers: int, side: int) -> Architecture:
    vision = VisionShape("vit", side, 32, 768, (layers,), 12, 3072, "cls")
    text = TextShape("clip", 77, 4000, 512, layers, 8, 2048)
    return Architecture(vision, text, 512, "quick_gelu")


def random_batch(count: int, side: int, device: torch.device) -> Batch:
    chance = torch.Generator().manual_seed(0)
    corners = torch.rand(count, CROPS, 2, 2, generator=chance) * 0.4
    boxes = torch.cat([corners[..., 0, :], 1 - corners[..., 1, :]], -1)
    texts = torch.zeros(count, 1, 77, dtype=torch.int64)
    texts[..., 0], texts[..., 14] = 3998, 3999  # a caption of a dozen words
    texts[..., 1:14] = torch.randint(1, 3000, (count, 1, 13), generator=chance)

    def pixels(*axes: int) -> Tensor:
        return torch.randint(0, 256, (*axes, side, side, 3), dtype=torch.uint8, generator=chance)

    extras = {"crops": pixels(count, CROPS), "crop_boxes": boxes}
    return Batch(pixels(count), texts, torch.arange(count), extras).to(device)


def stepper(kind: type[FarSlip], detach: bool, args: argparse.Namespace, batch: Batch) -> tuple[FarSlip, Callable]:
    """An objective, and a function that takes one step with it."""
    torch.manual_seed(0)
    loop = Loop(batch=args.batch, steps=1, learning_rate=1e-6, weight_decay=1.0)
    config = Config(
        loop=loop, model="random", data=(DataSource("none"),), patch_weight=0.1, crops=CROPS, last_block="segearth"
    )
    side = args.side
    model = kind(build(shape(args.layers, side)), replace(config, detach_target=detach), side_px=side)
    model.to(args.device).train()
    optimizer = make_optimizer(model, loop)
    kinds = {"fp32": nullcontext(), "bf16": torch.autocast(args.device.type, torch.bfloat16)}

    def step() -> Tensor:
        with kinds[args.precision]:
            outputs = model(batch)
        loss = torch.stack(list(model.loss(outputs, batch, World()).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        return loss.detach()

    return model, step


def operations(model: FarSlip, batch: Batch) -> float:
    """Billions of floating-point operations of matrix products and convolutions, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        torch.stack(list(model.loss(model(batch), batch, World()).values())).sum().backward()
    return float(counter.get_total_flops()) / 1e9


def difference(one: FarSlip, other: FarSlip) -> float:
    """Largest difference of a gradient, as a share of the largest gradient."""
    pairs = [(a.grad, b.grad) for a, b in zip(one.parameters(), other.parameters(), strict=True) if a.grad is not None]
    worst = max(float((a - b).abs().max()) for a, b in pairs if b is not None)
    return worst / max(float(a.abs().max()) for a, _ in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch = random_batch(args.batch, args.side, args.device)
    where = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else f"{args.threads} threads"
    print(f"{platform.machine()}, {where}, PyTorch {torch.__version__}, {args.precision}, batch {args.batch}")
    for what, ours, theirs in (
        ("gradient stopped on both sides", True, True),
        ("gradient flowing on both sides", False, False),
        ("our default against the released code", True, False),
    ):
        (model, ours_step), (twin, twin_step) = (
            stepper(FarSlip, ours, args, batch),
            stepper(Separate, theirs, args, batch),
        )
        losses = ours_step(), twin_step()
        apart = f"gradients differ by {difference(model, twin):.1e}" if ours == theirs else "gradients are not the same"
        print(f"{what}: losses {losses[0]:.5f} and {losses[1]:.5f}; {apart}")
        few, many = operations(model, batch), operations(twin, batch)
        print(f"  {few:.1f} against {many:.1f} billion operations a step: {many / few:.2f}x")
        if not args.rounds:
            continue
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(args.rounds):
            for step, kept in ((ours_step, times[0]), (twin_step, times[1])):
                began = perf_counter()
                step()
                kept.append(perf_counter() - began)
        fast, slow = map(median, times)
        rounds = f"rounds {_all(times[0])} | {_all(times[1])}"
        print(f"  {fast:.3f} s against {slow:.3f} s a step: {slow / fast:.2f}x ({rounds})")


def _all(times: list[float]) -> str:
    return " ".join(f"{t:.2f}" for t in times)


if __name__ == "__main__":
    main()
