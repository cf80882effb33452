"""Does bf16 pay for convolutions on this CPU? Training steps a second of the bundled model's image tower.

python benchmarks/bf16_convolutions.py
"""

from __future__ import annotations

import time

import torch
from stand_in import machine

from geoglot.models.towers.convnet_training import ImageTower, TowerShape


def rate(bf16: bool, batch: int = 32, side_px: int = 96, seconds: float = 8.0) -> float:
    """Images a second, forward and backward."""
    tower = ImageTower(TowerShape(vocabulary=2)).to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, side_px, side_px).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = tower(images).float().square().mean()
        loss.backward()

    step()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step()
        steps += 1
    return batch * steps / (time.perf_counter() - started)


if __name__ == "__main__":
    print(machine())
    fp32, bf16 = rate(False), rate(True)
    print(f"fp32 {fp32:.0f} images/s, bf16 autocast {bf16:.0f} images/s, ratio {bf16 / fp32:.2f}")
