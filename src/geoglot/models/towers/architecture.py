"""The shape of a dual encoder as plain values: enough to build it, to count it, to recognise a checkpoint. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]


@dataclass(frozen=True, slots=True)
class VisionShape:
    """The image tower.

    Attributes:
        kind: "vit", "resnet" for CLIP's modified ResNet, or "convnet" for geoglot-mini's (models/tower.py).
        image_px: Side of the native square input.
        patch_px: Side of a patch; for "resnet" and "convnet" the total stride, 32.
        width: Channels of the transformer; for "resnet" and "convnet" of the stem's last convolution.
        layers: Blocks; a transformer has one number, the others one a stage.
        heads: Attention heads (of the pooling layer, for "resnet"; 0 for "convnet").
        mlp_width: Hidden width of the feed-forward layers; 0 for "resnet" and "convnet".
        pooling: "cls" (class token, then projection), "map" (SigLIP's attention pooling, no projection),
            "attention" (CLIP's ResNet) or "mean" (of all places, then projection: "convnet").
    """

    kind: Literal["vit", "resnet", "convnet"]
    image_px: int
    patch_px: int
    width: int
    layers: tuple[int, ...]
    heads: int
    mlp_width: int
    pooling: Literal["cls", "map", "attention", "mean"]

    @property
    def grid(self) -> int:
        """Patches along one side at the native size."""
        return self.image_px // self.patch_px


@dataclass(frozen=True, slots=True)
class TextShape:
    """The text tower.

    Attributes:
        kind: "clip" (causal, pooled at the end token), "siglip" (bidirectional, pooled at the last position), "xlmr"
            (XLM-RoBERTa, masked mean, two-layer projection without biases) or "concepts" (geoglot-mini's: it sees in
            both directions, masked mean).
        context: T, most tokens of a text.
        vocabulary: Rows of the token table.
        width, layers, heads, mlp_width: Of the transformer.
        hidden: Width between the two projection layers ("xlmr" only).
    """

    kind: Literal["clip", "siglip", "xlmr", "concepts"]
    context: int
    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """A dual encoder.

    Attributes:
        vision, text: The towers.
        dim: D, the joint space.
        activation: Of the CLIP and SigLIP transformers. It cannot be read from weights: a card or the user says it.
    """

    vision: VisionShape
    text: TextShape
    dim: int
    activation: Activation
