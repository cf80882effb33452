"""How the learning rate moves: a linear warm-up from 0, then a cosine, a line, or nothing."""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["cosine", "linear", "constant"]


def rate_at(step: int, total: int, warmup: int, name: ScheduleName = "cosine", floor: float = 0.0) -> float:
    """Multiplier of the learning rate at a step, counted from 0.

    Args:
        step, total: Which of how many.
        warmup: Steps until the full rate.
        name: What follows: half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983), a line, or the full rate.
        floor: Where cosine and line end.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    left = {"cosine": 0.5 * (1.0 + math.cos(math.pi * done)), "linear": 1.0 - done, "constant": 1.0}[name]
    return left if name == "constant" else floor + (1.0 - floor) * left
