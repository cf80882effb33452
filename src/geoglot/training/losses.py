"""Losses of image-text training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def multi_positive_nce(images: Tensor, texts: Tensor, scale: Tensor, positives: Tensor) -> Tensor:
    """Symmetric InfoNCE where a row may have several right answers, all equally right.

    With the identity as `positives` this is CLIP's loss (arXiv 2103.00020, Figure 3); the multi-positive form is the
    "sup-out" loss of Khosla et al. 2020 (arXiv 2004.11362, Eq. 2) between two modalities.

    Args:
        images: [B, D], unit norm.
        texts: [B, D], unit norm.
        scale: Scalar multiplier of the cosines.
        positives: bool [B, B]; [i, j] says that text j fits image i. The diagonal must be True.

    Returns:
        Scalar, mean over both directions, >= 0.
    """
    logits = scale * images @ texts.T  # [B, B]
    weight = positives.to(logits.dtype)
    rows = -(weight * F.log_softmax(logits, 1)).sum(1) / weight.sum(1)
    columns = -(weight * F.log_softmax(logits, 0)).sum(0) / weight.sum(0)
    return (rows.mean() + columns.mean()) / 2


def same_text(tokens: Tensor) -> Tensor:
    """bool [B, B]: rows of token ids [B, T] that are equal."""
    return (tokens[:, None, :] == tokens[None, :, :]).all(2)


def label_positives(text_labels: Tensor, image_labels: Tensor) -> Tensor:
    """bool [B, B]: [i, j] when text j is nothing but the name of image i's class. -1 stands for no label."""
    return (image_labels[:, None] == text_labels[None, :]) & (text_labels[None, :] >= 0)


def cosine_schedule(step: int, total: int, warmup: int) -> float:
    """Multiplier of the learning rate: linear warm-up from 0, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + float(torch.cos(torch.tensor((step - warmup) / max(1, total - warmup) * torch.pi))))
