"""Peak memory and CPU time of one step at a large effective batch: plain, and with cached gradients.

    python benchmarks/train_memory.py                      # batch 4,096, chunks of 128
    python benchmarks/train_memory.py --batch 4096 --chunk 64 --layers 6

Each way runs in a process of its own; what the process held before the step (weights, images, optimiser) is taken off.
Target: cached at most 1/4 of plain. The gradients of both are compared as well.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def step(batch_size: int, chunk: int, layers: int, out: str) -> None:
    """One backward pass; prints memory in MiB and seconds; keeps a gradient to compare."""
    import psutil
    import torch

    from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
    from geoglot.models.towers.clip import build
    from geoglot.training.distributed import World
    from geoglot.training.grad_cache import backward
    from geoglot.training.objective import Batch, Contrastive

    torch.manual_seed(0)
    torch.set_num_threads(2)
    shape = Architecture(
        VisionShape("vit", 32, 8, 96, (layers,), 4, 384, "cls"),
        TextShape("clip", 16, 512, 96, layers, 4, 384),
        64,
        "gelu",
    )
    model = Contrastive(build(shape).train(), "infonce", side_px=32)
    images = torch.randint(0, 256, (batch_size, 32, 32, 3), dtype=torch.uint8)
    batch = Batch(images, torch.randint(1, 511, (batch_size, 1, 16)), torch.arange(batch_size))
    batch.texts[:, 0, 15] = 511  # the end token
    backward(model, batch.part(slice(0, 8)), World())
    model.zero_grad()
    before, began = psutil.Process().memory_info().rss, time.process_time()
    terms, _ = backward(model, batch, World(), chunk=chunk)
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.save(out, model.towers.visual.conv1.weight.grad.numpy())  # type: ignore[union-attr]
    print(json.dumps({"mib": (peak - before) / 2**20, "seconds": seconds, "loss": terms["contrast"].item()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.out:
        return step(args.batch, args.chunk, args.layers, args.out)
    found, grads = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, chunk in (("plain", 0), ("cached", args.chunk)):
            file = str(Path(folder) / f"{name}.npy")
            command = [sys.executable, __file__, "--batch", str(args.batch), "--chunk", str(chunk)]
            command += ["--layers", str(args.layers), "--out", file]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name], grads[name] = json.loads(done.stdout), np.load(file)
            print(f"{name}: {found[name]['mib']:.0f} MiB over the start, {found[name]['seconds']:.1f} s of CPU, "
                  f"loss {found[name]['loss']:.5f}")  # fmt: skip
    memory, seconds = (found["cached"][key] / found["plain"][key] for key in ("mib", "seconds"))
    difference = np.abs(grads["cached"] - grads["plain"]).max() / np.abs(grads["plain"]).max()
    print(f"cached / plain: memory {memory:.3f}, CPU time {seconds:.2f}; gradients differ by {difference:.1e}")
    return None


if __name__ == "__main__":
    main()
