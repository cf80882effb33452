"""Position tables at sizes they were not trained for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def grid_positions(table: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """Fit a square table of positions to another grid of patches, by bicubic interpolation without anti-aliasing.

    That is what transformers, DINO and SegEarth-OV do when they run a model at another size (open_clip, when it loads a
    model into another size, smooths first). Corners are not aligned. Computed in fp32 whatever the table's precision.

    Args:
        table: [prefix + g * g, W], rows of patches in reading order.
        grid: (Ph, Pw) wanted.
        prefix: Rows before the patches' that belong to no place (class token); kept as they are.

    Returns:
        [prefix + Ph * Pw, W]; the table itself when it fits.
    """
    side = round((table.shape[0] - prefix) ** 0.5)
    if grid == (side, side):
        return table
    square = table[prefix:].reshape(side, side, -1).permute(2, 0, 1)[None].float()  # [1, W, g, g]
    fitted = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)[0]  # [W, Ph, Pw]
    return torch.cat([table[:prefix], fitted.flatten(1).T.to(table.dtype)])
