"""Random views of a batch of chips: one affine resampling (crop, scale, turn, flip) and a change of light.

Seen from above there is no up: any rotation and both flips leave the meaning of a chip alone. Colour carries meaning
(water, crops, roofs), so the light changes mildly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class ViewRanges:
    """How far a view may go.

    Attributes:
        scale: Side of the crop as a share of the chip's side, (least, most).
        turn_degrees: Free rotation on top of quarter turns, either way.
        light: Brightness, contrast and saturation are multiplied by 1 +- this.
        tint: Each channel is multiplied by 1 +- this.
        grey: Share of views without colour.
    """

    scale: tuple[float, float] = (0.6, 1.0)
    turn_degrees: float = 15.0
    light: float = 0.3
    tint: float = 0.08
    grey: float = 0.05


def random_views(chips: Tensor, side_px: int, ranges: ViewRanges, generator: torch.Generator) -> Tensor:
    """uint8 [B, S, S, 3] -> float [B, 3, side, side] in [0, 1], one view a chip."""
    x = chips.permute(0, 3, 1, 2).float() / 255.0  # [B, 3, S, S]
    grid = F.affine_grid(_matrices(len(x), ranges, generator), [len(x), 3, side_px, side_px], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _relight(x, ranges, generator)


def random_views_and_regions(
    chips: Tensor, regions: Tensor, side_px: int, ranges: ViewRanges, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """As `random_views`, with what lies where: uint8 regions [B, M, M] -> [B, side / 4, side / 4], 0 outside."""
    x = chips.permute(0, 3, 1, 2).float() / 255.0  # [B, 3, S, S]
    maps = _matrices(len(x), ranges, generator)
    grid = F.affine_grid(maps, [len(x), 3, side_px, side_px], align_corners=False)
    coarse = F.affine_grid(maps, [len(x), 1, side_px // 4, side_px // 4], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    moved = F.grid_sample(regions[:, None].float(), coarse, mode="nearest", padding_mode="zeros", align_corners=False)
    return _relight(x, ranges, generator), moved[:, 0].to(torch.uint8)


def _matrices(count: int, ranges: ViewRanges, generator: torch.Generator) -> Tensor:
    """Affine maps [B, 2, 3] from the view's frame [-1, 1] to the chip's."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    scale = uniform(*ranges.scale)
    quarter = torch.randint(0, 4, (count,), generator=generator) * (math.pi / 2)
    angle = quarter + uniform(-1, 1) * math.radians(ranges.turn_degrees)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    room = 1.0 - scale
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [cos * flip, -sin, room * uniform(-1, 1), sin * flip, cos, room * uniform(-1, 1)]
    return torch.stack(rows, 1).reshape(count, 2, 3)


def _relight(x: Tensor, ranges: ViewRanges, generator: torch.Generator) -> Tensor:
    def factor(spread: float, channels: int = 1) -> Tensor:
        return 1.0 + spread * (2 * torch.rand(len(x), channels, 1, 1, generator=generator) - 1)

    grey = x.mean(1, keepdim=True)
    keep = factor(ranges.light) * (torch.rand(len(x), 1, 1, 1, generator=generator) >= ranges.grey)
    x = grey + (x - grey) * keep  # saturation, or none
    mean = x.mean((2, 3), keepdim=True)
    x = mean + (x - mean) * factor(ranges.light)  # contrast
    return (x * factor(ranges.light) * factor(ranges.tint, 3)).clamp(0.0, 1.0)
