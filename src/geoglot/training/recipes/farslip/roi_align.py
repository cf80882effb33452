"""RoIAlign in plain PyTorch: what a map of features says inside a box, without rounding the box to the map's grid.

Follows He et al. 2017 (arXiv 1703.06870, section 3) as torchvision's `roi_align(aligned=True, sampling_ratio=-1)` does
it: a box is cut into equal bins; a bin is the mean of ceil(bin height) x ceil(bin width) bilinear samples on a regular
lattice; the centre of cell (i, j) lies at (i + 0.5, j + 0.5). Samples more than one cell outside the map count as 0,
others are moved onto it.

A bilinear sample is a product of a row's and a column's weights, and so is a mean over a lattice. So each box needs two
small matrices, rows [Ph, H] and columns [Pw, W], and the bins are rows @ map @ columns^T: no gathering, any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geoglot.errors import UsageError


def roi_align(features: Tensor, boxes: Tensor, owners: Tensor, bins: tuple[int, int]) -> Tensor:
    """Features in boxes.

    Args:
        features: [B, H, W, D], channels last.
        boxes: [K, 4], x0 y0 x1 y1 as shares of the map's width and height, so 0 0 1 1 is the whole map.
        owners: int64 [K], which map each box lies on.
        bins: (Ph, Pw) of the result.

    Returns:
        [K, Ph, Pw, D]. Bins of a box of no size are 0.

    Raises:
        UsageError: Shapes that do not fit.
    """
    rows, columns = _weights(features, boxes, owners, bins)
    return torch.einsum("kpy,kyxd,kqx->kpqd", rows, features[owners], columns)


def roi_mean(features: Tensor, boxes: Tensor, owners: Tensor) -> Tensor:
    """The mean over as many bins as the map has places, [K, D]: `roi_align(..., (H, W)).mean((1, 2))`, but cheaper."""
    rows, columns = _weights(features, boxes, owners, (features.shape[1], features.shape[2]))
    return torch.einsum("ky,kyxd,kx->kd", rows.mean(1), features[owners], columns.mean(1))


def _weights(features: Tensor, boxes: Tensor, owners: Tensor, bins: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if features.ndim != 4 or boxes.ndim != 2 or boxes.shape[1] != 4 or owners.shape != boxes.shape[:1]:
        shapes = f"{list(features.shape)}, {list(boxes.shape)} and {list(owners.shape)}"
        raise UsageError(f"features, boxes and owners of shapes {shapes} are not [B, H, W, D], [K, 4] and [K]")
    places = boxes.float()  # places are numbers like 3.99: half precision would move them
    rows = _along(places[:, 1], places[:, 3], features.shape[1], bins[0])
    columns = _along(places[:, 0], places[:, 2], features.shape[2], bins[1])
    return rows.to(features.dtype), columns.to(features.dtype)


def _along(start: Tensor, end: Tensor, cells: int, bins: int) -> Tensor:
    """Weights of the cells of one axis in each bin, [K, bins, cells]; start and end [K] as shares of the axis."""
    first, size = start * cells - 0.5, (end - start) * cells / bins  # of a bin, in cells
    samples = size.ceil().clamp_min(0)  # [K], each box has its own number
    most = int(samples.max()) if len(samples) else 0
    index = torch.arange(most, device=start.device)
    inside_bin = (index + 0.5) / samples[:, None].clamp_min(1)  # [K, n], as shares of the bin
    bin_index = torch.arange(bins, device=start.device)[:, None]
    at = first[:, None, None] + (bin_index + inside_bin[:, None]) * size[:, None, None]  # [K, bins, n]
    counts = (index < samples[:, None])[:, None] & (at >= -1) & (at <= cells)
    at = at.clamp(0, cells - 1)
    hats = (1 - (at[..., None] - torch.arange(cells, device=start.device)).abs()).clamp_min(0)  # [K, bins, n, cells]
    return (hats * counts[..., None]).sum(2) / samples[:, None, None].clamp_min(1)
