"""Random changes of colour, each image its own: brightness, contrast, saturation, hue; or no colour at all."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def jittered(
    x: Tensor, ranges: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1), share: float = 0.8, grey: float = 0.2
) -> Tensor:
    """Change the colours of RGB [B, 3, H, W] in [0, 1]; chance from PyTorch's generator.

    Brightness, contrast, saturation, hue, in this order, with the ranges of SimCLR's code (arXiv 2002.05709). Hue turns
    around the grey axis, which for small angles is what turning it in HSV does.

    Args:
        x: The images.
        ranges: Three factors are drawn from 1 - r to 1 + r; the last is the share of a full turn either way.
        share: How many images change.
        grey: How many images then lose their colour.
    """
    brightness, contrast, saturation, hue = (_draw(x, r) for r in ranges)
    y = (x * (1 + brightness)).clamp(0, 1)
    y = _toward(y, _luminance(y).mean((1, 2, 3), keepdim=True), 1 + contrast)
    y = _toward(y, _luminance(y), 1 + saturation)
    y = _turned(y, hue.flatten() * (2 * math.pi))
    y = torch.where(_chosen(x, share), y, x)
    return torch.where(_chosen(x, grey), _luminance(y).expand_as(y), y)


def _draw(x: Tensor, spread: float) -> Tensor:
    """[B, 1, 1, 1] between -spread and spread."""
    return spread * (2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1)


def _chosen(x: Tensor, share: float) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, device=x.device) < share


def _luminance(x: Tensor) -> Tensor:
    weights = torch.tensor(GREY, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def _toward(x: Tensor, plain: Tensor, factor: Tensor) -> Tensor:
    return (plain + (x - plain) * factor).clamp(0, 1)


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate colours around grey by `angle` [B] (Rodrigues' formula for the axis (1, 1, 1))."""
    cos, sin = angle.cos(), angle.sin()
    same, one, other = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin / math.sqrt(3), (1 - cos) / 3 + sin / math.sqrt(3)
    matrix = torch.stack([same, one, other, other, same, one, one, other, same], 1).view(-1, 3, 3)
    return torch.einsum("bij,bjhw->bihw", matrix, x).clamp(0, 1)
