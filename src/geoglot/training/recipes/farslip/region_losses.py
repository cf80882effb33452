"""FarSLIP's losses on parts of images (arXiv 2511.14901): patch-to-patch distillation, region-category alignment."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from geoglot.models.towers.dense import Dense
from geoglot.training.distributed import World, gather
from geoglot.training.recipes.farslip.roi_align import roi_mean

Distill = Literal["roi2pooled", "roi2cls", "combined"]
Align = Literal["cls", "pooled", "roi"]


def patch_agreement(
    patches: Tensor, crops: Dense, boxes: Tensor, owners: Tensor, distill: Distill, *, detach: bool = True
) -> Tensor:
    """How well an image's patches inside each crop's box say what the crop says when it is an image of its own.

    The loss is 1 minus the mean of this; it is 0 for a crop of the whole image by the same network.

    Args:
        patches: [B, Ph, Pw, D] of whole images.
        crops: What the teacher says of the K crops.
        boxes: [K, 4] of the crops, as shares of the image.
        owners: int64 [K], the image of each crop.
        distill: Target: "roi2pooled" the mean of the crop's patches (FarSLIP's), "roi2cls" its image embedding (what
            CLIPSelf and others do), "combined" half of each.
        detach: Stop the gradient at the target. The released code lets it flow, which also pulls the crop towards the
            patches that shall learn from it.

    Returns:
        Cosines [K].
    """
    inside = F.normalize(roi_mean(patches, boxes, owners).float(), dim=1)
    targets = {"roi2pooled": [crops.patches.mean((1, 2))], "roi2cls": [crops.pooled]}
    wanted = targets[distill] if distill in targets else [*targets["roi2pooled"], *targets["roi2cls"]]
    cosines = [(inside * F.normalize((t.detach() if detach else t).float(), dim=1)).sum(1) for t in wanted]
    return torch.stack(cosines).mean(0)


def faded(rows: Tensor, share: float) -> Tensor:
    """The same rows, of which only a share of the gradient flows back."""
    return rows if share == 1 else rows * share + rows.detach() * (1 - share)


def region_alignment(images: Tensor, texts: Tensor, labels: Tensor, scale: Tensor, world: World) -> Tensor:
    """Regions against their texts, where all regions of one label are right for each other, equally.

    Half the cross-entropy from regions to texts, half the other way, against rows of the matrix "same label" that are
    made to sum to 1 (as StableRep, arXiv 2306.00984, Eq. 2). With labels that all differ it is CLIP's InfoNCE.

    Args:
        images: [k, D], unit norm; this process's regions, k may be 0.
        texts: [k, D], unit norm.
        labels: int64 [k].
        scale: Scalar multiplier of cosines.
        world: Who trains together.

    Returns:
        The mean over everybody's regions, times the number of processes over theirs (see contrastive.py); 0 if there
        are none.
    """
    all_images, _ = gather(images, world)
    all_texts, _ = gather(texts, world)
    all_labels, _ = gather(labels, world)
    if not len(all_labels):
        return (images.sum() + texts.sum()) * 0.0
    right = (labels[:, None] == all_labels).to(images.dtype)
    right = right / right.sum(1, keepdim=True)
    to_text = (right * F.log_softmax(scale * images @ all_texts.T, 1)).sum()
    to_image = (right * F.log_softmax(scale * texts @ all_images.T, 1)).sum()
    return -(to_text + to_image) / 2 * (world.size / len(all_labels))
