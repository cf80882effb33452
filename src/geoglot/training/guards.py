"""Notice that a run has gone wrong, and say what to do: divergence, collapse, a loss that never moves."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from torch import Tensor

from geoglot.errors import CollapsedError, DivergedError

ALIKE = 0.99
"""Mean cosine between different images (or texts) of a batch above which a tower says the same of everything. Healthy
towers, which live in a narrow cone, stay below 0.9 (Liang et al. 2022, arXiv 2203.02053, Figure 2: about 0.5)."""

ALIKE_CHECKS = 5
APART = 0.95
"""Below this a tower has told things apart. Random towers start above ALIKE and need time; what falls back is lost."""

GUESSING = 0.98
"""Share of ln B that a loss must fall below to count as better than guessing."""

JUMP, JUMP_STEPS, MEMORY = 6.0, 5, 200
"""A loss this many standard deviations (and half of itself) above its last 200 values, five steps running."""


def mean_cosine(rows: Tensor) -> Tensor:
    """Mean cosine between different rows, [B, D] unit norm: (|sum|^2 - B) / (B (B - 1)). No B x B matrix."""
    count = len(rows)
    return (rows.float().sum(0).square().sum() - count) / max(1, count * (count - 1))


@dataclass(slots=True)
class Watch:
    """The values that were seen so far.

    Attributes:
        warmup: Steps in which nothing is judged but non-finite numbers.
        stuck_after: Steps after warm-up until a loss must be better than guessing; 0: never.
    """

    warmup: int
    stuck_after: int
    _past: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))
    _jumps: int = 0
    _alike: int = 0
    _moved: bool = False
    _apart: bool = False

    def loss(self, step: int, value: float, contrast: float, chance: float | None) -> None:
        """Look at a step's loss.

        Args:
            step: Counted from 0.
            value: The whole loss.
            contrast: Its first term.
            chance: What guessing gives for that term; None: unknown.

        Raises:
            DivergedError: Not finite, or it jumped and stays up.
            CollapsedError: Still what guessing gives.
        """
        if not math.isfinite(value):
            hint = "Run again with half the learning_rate, clip = 1, or bf16, and allow_changed_loop = true to go on."
            raise DivergedError(f"the loss is {value} at step {step + 1}", hint=hint)
        self._jumps = self._jumps + 1 if self._jumped(value) else 0
        if self._jumps >= JUMP_STEPS:
            usual = sum(self._past) / len(self._past)
            hint = "Run again with half the learning_rate or clip = 1, and allow_changed_loop = true to go on."
            raise DivergedError(f"the loss jumped from {usual:.3g} to {value:.3g} by step {step + 1}", hint=hint)
        if not self._jumps:
            self._past.append(value)
        self._moved = self._moved or (chance is not None and contrast < GUESSING * chance)
        if self._late(step) and chance is not None and not self._moved:
            hint = "Check that captions belong to their images; try another learning_rate or a longer warmup."
            message = f"after {step + 1} steps the loss, {contrast:.3f}, is still what guessing gives ({chance:.3f})"
            raise CollapsedError(message, hint=hint)

    def _late(self, step: int) -> bool:
        return bool(self.stuck_after) and step + 1 >= self.warmup + self.stuck_after

    def _jumped(self, value: float) -> bool:
        if len(self._past) < 20:
            return False
        mean = sum(self._past) / len(self._past)
        spread = math.sqrt(sum((v - mean) ** 2 for v in self._past) / len(self._past))
        return value > mean + JUMP * spread and value > 1.5 * mean

    def spread(self, step: int, images: float, texts: float) -> None:
        """Look at the mean cosines of a batch; called every now and then.

        Raises:
            CollapsedError: One tower has said the same of everything for a while: after it could do better, or after
                it had `stuck_after` steps to learn.
        """
        self._apart = self._apart or max(images, texts) < APART
        self._alike = self._alike + 1 if max(images, texts) > ALIKE and step >= self.warmup else 0
        if self._alike >= ALIKE_CHECKS and (self._apart or self._late(step)):
            which = "images" if images > texts else "texts"
            hint = "Lower learning_rate, lengthen warmup, and start again from an earlier checkpoint."
            alike = max(images, texts)
            raise CollapsedError(f"all {which} have the same embedding (mean cosine {alike:.4f})", hint=hint)

    def state(self) -> dict[str, object]:
        """Plain values."""
        seen = {"jumps": self._jumps, "alike": self._alike, "moved": self._moved, "apart": self._apart}
        return {"past": list(self._past), **seen}

    def restore(self, state: dict[str, object]) -> None:
        """Go on from `state`."""
        self._past = deque(state["past"], MEMORY)  # type: ignore[call-overload]
        self._jumps, self._alike = int(state["jumps"]), int(state["alike"])  # type: ignore[call-overload]
        self._moved, self._apart = bool(state["moved"]), bool(state["apart"])
