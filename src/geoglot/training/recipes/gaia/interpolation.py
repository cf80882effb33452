"""Weights between a model before and after tuning: what was gained, with less of what was lost.

Implements: WiSE-FT, arXiv 2109.01903, Eq. 1, on all weights of both towers; PAINT (arXiv 2208.05592) chooses alpha on
validation data of both tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geoglot.errors import UsageError

ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The sweep of WiSE-FT's Figure 1."""


@dataclass(frozen=True, slots=True)
class Point:
    """One place on the line between two models.

    Attributes:
        alpha: 0 is the model before tuning, 1 the tuned one.
        kept: Metric of what the model could do before; higher is better.
        gained: Metric of what it was tuned for.
    """

    alpha: float
    kept: float
    gained: float


def blend(before: Mapping[str, Tensor], after: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) before + alpha after, computed in fp32, in the precision of `before`; integers come from `after`.

    Raises:
        UsageError: The two are not of one model, or alpha is outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha = {alpha} is outside 0 to 1")
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())[0]
        hint = "Merge small parts into the weights first; adapters and prefixes cannot be interpolated."
        raise UsageError(f"the two models differ in their tensors ({odd} is on one side only)", hint=hint)
    out = {}
    for name, old in before.items():
        new = after[name]
        if old.shape != new.shape:
            raise UsageError(f"{name} has shape {list(old.shape)} before and {list(new.shape)} after tuning")
        out[name] = torch.lerp(old.float(), new.float(), alpha).to(old.dtype) if old.is_floating_point() else new
    return out


def sweep(
    model: nn.Module,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    measure: Callable[[], tuple[float, float]],
    alphas: Sequence[float] = ALPHAS,
) -> list[Point]:
    """Measure the blends.

    Args:
        model: Takes each blend's weights; keeps those of the last alpha.
        before, after: Weights.
        measure: (kept, gained) of the model as it is; on validation data where alpha is to be chosen.
        alphas: Where.
    """
    points = []
    for alpha in alphas:
        model.load_state_dict(blend(before, after, alpha))
        points.append(Point(alpha, *measure()))
    return points


def choose(points: Sequence[Point]) -> Point:
    """The point with the best sum of both metrics; ties: the least alpha.

    PAINT takes the mean of two accuracies; ours may have different scales, so each counts as a share of its best value.

    Raises:
        UsageError: No points, or a metric that is nowhere positive.
    """
    if not points:
        raise UsageError("there is no alpha to choose from")
    kept, gained = max(p.kept for p in points), max(p.gained for p in points)
    if kept <= 0 or gained <= 0:
        raise UsageError(f"cannot weigh metrics whose best values are {kept} and {gained}")
    return max(points, key=lambda p: (p.kept / kept + p.gained / gained, -p.alpha))
