"""Losses of image-text training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def multi_positive_nce(
    images: Tensor, texts: Tensor, scale: Tensor, positives: Tensor, unsure: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE where a row may have several right answers, all equally right.

    With the identity as `positives` this is CLIP's loss (arXiv 2103.00020, Figure 3); the multi-positive form is the
    "sup-out" loss of Khosla et al. 2020 (arXiv 2004.11362, Eq. 2) between two modalities.

    Args:
        images: [B, D], unit norm.
        texts: [B, D], unit norm.
        scale: Scalar multiplier of the cosines.
        positives: bool [B, B]; [i, j] says that text j fits image i. The diagonal must be True.
        unsure: bool [B, B]; pairs that count neither as right nor as wrong. Never where `positives` is True.

    Returns:
        Scalar, mean over both directions, >= 0.
    """
    logits = scale * images @ texts.T  # [B, B]
    if unsure is not None:
        logits = logits.masked_fill(unsure, -1e4)
    weight = positives.to(logits.dtype)
    rows = -(weight * F.log_softmax(logits, 1)).sum(1) / weight.sum(1)
    columns = -(weight * F.log_softmax(logits, 0)).sum(0) / weight.sum(0)
    return (rows.mean() + columns.mean()) / 2


def same_text(tokens: Tensor) -> Tensor:
    """bool [B, B]: rows of token ids [B, T] that are equal."""
    return (tokens[:, None, :] == tokens[None, :, :]).all(2)


def label_positives(text_labels: Tensor, image_labels: Tensor, kin: Tensor) -> Tensor:
    """bool [B, B]: [i, j] when text j merely names the class of image i, or a class that shares a name with it.

    Args:
        text_labels, image_labels: [B], class numbers; -1 stands for none.
        kin: bool [K, K], True on the diagonal.
    """
    known = (image_labels[:, None] >= 0) & (text_labels[None, :] >= 0)
    return known & kin[image_labels[:, None], text_labels[None, :]]


def maybe_positives(labels: Tensor, sources: Tensor, kin: Tensor) -> Tensor:
    """bool [B, B]: image i and the owner of text j come from different sources but from classes that share a name."""
    return label_positives(labels, labels, kin) & (sources[:, None] != sources[None, :])


def cosine_schedule(step: int, total: int, warmup: int) -> float:
    """Multiplier of the learning rate: linear warm-up from 0, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + float(torch.cos(torch.tensor((step - warmup) / max(1, total - warmup) * torch.pi))))
