"""Contrastive losses between images and their captions, right over any number of processes.

Each process scores its own rows against everybody's ("local loss"): memory grows with b x B, not B x B. The mean of the
processes' losses is the loss of the joint batch, and so is the mean of their gradients, which is what DDP takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geoglot.training.distributed import World, gather


@dataclass(frozen=True, slots=True)
class Rows:
    """One process's part of a batch of b images with K captions each; caption rows lie image by image.

    Attributes:
        images: [b, D], unit norm.
        texts: [b * K, D], unit norm.
        image_ids: int64 [b].
        text_ids: int64 [b * K]; equal for equal texts.
    """

    images: Tensor
    texts: Tensor
    image_ids: Tensor
    text_ids: Tensor

    def gathered(self, world: World) -> tuple[Rows, int]:
        """Everybody's rows, and where this process's images begin."""
        images, first = gather(self.images, world)
        texts, _ = gather(self.texts, world)
        return Rows(images, texts, gather(self.image_ids, world)[0], gather(self.text_ids, world)[0]), first

    @property
    def captions(self) -> int:
        """K."""
        return len(self.texts) // len(self.images)


def info_nce(mine: Rows, scale: Tensor, world: World) -> Tensor:
    """CLIP's symmetric cross-entropy; each image has one caption, and all others are wrong for it.

    Implements: arXiv 2103.00020, Figure 3.

    Args:
        mine: Embeddings, K = 1.
        scale: Scalar multiplier of cosines.
        world: Who trains together.
    """
    whole, first = mine.gathered(world)
    target = torch.arange(first, first + len(mine.images), device=mine.images.device)
    to_text = F.cross_entropy(scale * mine.images @ whole.texts.T, target, reduction="sum")
    to_image = F.cross_entropy(scale * mine.texts @ whole.images.T, target, reduction="sum")
    return (to_text + to_image) / 2 * (world.size / len(whole.images))


def multi_positive(mine: Rows, scale: Tensor, world: World) -> Tensor:
    """InfoNCE where a row may have several right answers, all equally right (see `fits`).

    Implements: Khosla et al. 2020 (arXiv 2004.11362, Eq. 2, "sup-out"), between two modalities.
    """
    whole, _ = mine.gathered(world)
    to_text = _spread(scale * mine.images @ whole.texts.T, fits(mine, whole)) / len(whole.images)
    to_image = _spread(scale * mine.texts @ whole.images.T, fits(whole, mine).T) / len(whole.texts)
    return (to_text + to_image) / 2 * world.size


def sigmoid(mine: Rows, scale: Tensor, bias: Tensor, world: World) -> Tensor:
    """Every pair is a yes-or-no question of its own.

    Implements: SigLIP (arXiv 2303.15343, Eq. 1); with K captions an image has K right answers.

    Args:
        mine: Embeddings.
        scale, bias: Of the logits, scale * cosine + bias.
        world: Who trains together.
    """
    whole, first = mine.gathered(world)
    owner = torch.arange(len(whole.texts), device=mine.images.device) // mine.captions  # [B * K]
    own = torch.arange(first, first + len(mine.images), device=owner.device)[:, None] == owner
    logits = scale * mine.images @ whole.texts.T + bias  # [b, B * K]
    return F.softplus(torch.where(own, -logits, logits)).sum() * (world.size / len(whole.images))


def fits(left: Rows, right: Rows) -> Tensor:
    """bool [images of left, texts of right]: the text was written for that image, or reads like one that was."""
    captions = right.captions
    owners = right.image_ids.repeat_interleave(captions)
    out = left.image_ids[:, None] == owners
    for column in left.text_ids.view(len(left.images), -1).T:  # K times, to spare K-fold memory
        out = out | (column[:, None] == right.text_ids)
    return out


def _spread(logits: Tensor, positives: Tensor) -> Tensor:
    """Cross-entropy against equal shares of all positives, summed over rows."""
    weight = positives.to(logits.dtype)
    return -((weight * F.log_softmax(logits, 1)).sum(1) / weight.sum(1)).sum()
