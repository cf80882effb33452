"""Dual encoders in PyTorch, built from an Architecture; parameter names are the canonical ones of checkpoints.

    model = build(architecture, device="meta")         # shapes only: counts, checks
    model.load_state_dict(tensors, strict=True, assign=True)

Every model offers `encode_image`, `encode_text`, `dense` and `patch_features`; `logit_scale` (a logarithm) and, for
SigLIP, `logit_bias` are scalars.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from geoglot.models.towers.architecture import Architecture
from geoglot.models.towers.convnet import ConceptText, ConvImage, tower_shape
from geoglot.models.towers.dense import Dense, LastBlock
from geoglot.models.towers.resnet_clip import ModifiedResNet
from geoglot.models.towers.text import TextTransformer
from geoglot.models.towers.vit import ClipVit, SiglipVit
from geoglot.models.towers.xlmr import XlmrText

ImageTower = ClipVit | SiglipVit | ModifiedResNet | ConvImage


def build(architecture: Architecture, *, device: str | torch.device | None = None) -> DualModel:
    """A model with random weights, in evaluation mode, fp32.

    Args:
        architecture: Its shape.
        device: Where the parameters lie; "meta" for none at all, which takes milliseconds and no memory.
    """
    place = torch.device(device or "cpu")
    with place, _Unfilled() if place.type == "meta" else nullcontext():
        model = _KINDS.get(architecture.text.kind, Clip)(architecture)
    return model.eval()


class _Unfilled(TorchFunctionMode):
    """Leaves out random filling: the meta device has nothing to fill, and would import sympy for it, a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.uniform_, Tensor.normal_) or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _image_tower(architecture: Architecture) -> ImageTower:
    vision = architecture.vision
    if vision.kind == "resnet":
        return ModifiedResNet(vision, architecture.dim)
    if vision.kind == "convnet":
        return ConvImage(tower_shape(architecture))
    if vision.pooling == "map":
        return SiglipVit(vision, architecture.activation)
    return ClipVit(vision, architecture.dim, architecture.activation)


class _ImageSide(nn.Module):
    """The image tower under `visual`, and the temperature."""

    visual: ImageTower

    def add_image_side(self, architecture: Architecture) -> None:
        """Make the parameters; a method, because the text side comes from another base class."""
        self.visual = _image_tower(architecture)
        siglip = architecture.text.kind == "siglip"
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.0 if siglip else 1 / 0.07)))
        if siglip:
            self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, H, W] of any size from one patch up -> [B, D], not normalised."""
        out: Tensor = self.visual(images)
        return out

    def dense(self, images: Tensor, last_block: LastBlock | None = "vanilla", *, keep_residual: bool = False) -> Dense:
        """Pooled embedding and patch features from one pass.

        Args:
            images: Normalised float [B, 3, H, W]; the position table is interpolated to the grid of H and W.
            last_block: How the last block attends; see towers/dense.py. None: the tower's own choice, "segearth"
                where it has attention to change.
            keep_residual: Keep the last block's residual and feed-forward layer on the patches. "vanilla" with it is
                the ordinary last block. Without it, as the methods have it, only attention's output counts.

        Raises:
            UnknownNameError: No such last block.
            UsageError: The images are smaller than a patch; or the tower has no such last block, or residual.
        """
        return self.visual.dense(images, last_block or self.visual.own_last_block, keep_residual)

    def patch_features(self, images: Tensor, last_block: LastBlock = "vanilla") -> tuple[Tensor, Tensor]:
        """Pooled [B, D] and patches [B, Ph, Pw, D], neither normalised; see `dense`."""
        found = self.dense(images, last_block)
        return found.pooled, found.patches


class Clip(_ImageSide, TextTransformer):
    """CLIP, Long-CLIP and SigLIP: the text tower's parameters lie at the root, as in open_clip."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture.text, architecture.dim, architecture.activation)
        self.add_image_side(architecture)


class XlmrClip(_ImageSide):
    """A CLIP image tower beside XLM-RoBERTa."""

    trims = True  # padding changes no text

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.text = XlmrText(architecture.text, architecture.dim)
        self.add_image_side(architecture)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids [B, T], padded with 1 -> [B, D], not normalised."""
        out: Tensor = self.text(ids)
        return out

    def needed(self, ids: Tensor) -> Tensor:
        """[B, T] without the columns that are padding in every row."""
        return self.text.needed(ids)


class ConceptClip(_ImageSide):
    """An image tower beside the small text tower over the glossary's concepts: geoglot-mini."""

    trims = True  # padding changes no text

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.text = ConceptText(tower_shape(architecture))
        self.add_image_side(architecture)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids [B, T], padded with 0 -> [B, D], not normalised."""
        out: Tensor = self.text(ids)
        return out

    def needed(self, ids: Tensor) -> Tensor:
        """[B, T] without the columns that are padding in every row."""
        return self.text.needed(ids)


DualModel = Clip | XlmrClip | ConceptClip
_KINDS: dict[str, type[XlmrClip] | type[ConceptClip]] = {"xlmr": XlmrClip, "concepts": ConceptClip}
