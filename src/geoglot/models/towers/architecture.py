"""The shape of a dual encoder as plain values: enough to build it, to count it, to recognise a checkpoint. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
TextPooling = Literal["own", "highest", "last", "first", "end"]
Mask = Literal["own", "causal", "none"]
RARE = {"rare": True}
"""Marks a field in which few models differ; at its default it leaves no trace in a model's fingerprint."""


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
            "attention" (CLIP's ResNet) or "mean" (of all places, then projection: "convnet", and CLIPA's "vit").
        ln_pre: A norm stands before the blocks of a "vit" with class token.
        ln_pooled: The last norm comes after the mean, not before ("vit" with "mean").
    """

    kind: Literal["vit", "resnet", "convnet"]
    image_px: int
    patch_px: int
    width: int
    layers: tuple[int, ...]
    heads: int
    mlp_width: int
    pooling: Literal["cls", "map", "attention", "mean"]
    ln_pre: bool = field(default=True, metadata=RARE)
    ln_pooled: bool = field(default=False, metadata=RARE)

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
        pooling: Where a "clip" or "siglip" text is read off: "own" as its kind does it, "highest" at the highest id,
            "last" or "first" position, "end" at the first token `end_id`.
        mask: What a token sees: "own" as its kind does it, "causal" those before it, "none" all.
        end_id: See pooling.
    """

    kind: Literal["clip", "siglip", "xlmr", "concepts"]
    context: int
    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    hidden: int = 0
    pooling: TextPooling = field(default="own", metadata=RARE)
    mask: Mask = field(default="own", metadata=RARE)
    end_id: int = field(default=0, metadata=RARE)

    @property
    def causal(self) -> bool:
        """Whether a token of a "clip" or "siglip" text sees only those before it."""
        return self.kind == "clip" if self.mask == "own" else self.mask == "causal"

    @property
    def read_at(self) -> TextPooling:
        """The pooling, with "own" replaced by what the kind does."""
        if self.pooling != "own":
            return self.pooling
        return "highest" if self.kind == "clip" else "last"


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


def identity_of(part: Any) -> dict[str, Any]:
    """The values of an architecture, or of a part of it, without the rare settings that are at their default.

    What identifies vectors must not change when geoglot learns a setting that the model does not have.
    """
    values: dict[str, Any] = {}
    for one in fields(part):
        value = getattr(part, one.name)
        if not (one.metadata.get("rare") and value == one.default):
            values[one.name] = identity_of(value) if hasattr(value, "__dataclass_fields__") else value
    return values
