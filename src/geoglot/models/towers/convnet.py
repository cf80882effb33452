"""geoglot-mini's towers (models/tower.py) in the form of every other PyTorch model: opened, tuned and written alike."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from geoglot.errors import ModelFileError, UsageError
from geoglot.models.tokenizers.concepts import PAD
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.towers.convnet_training import STRIDE, ImageTower, TextTower, TowerShape
from geoglot.models.towers.dense import Dense, LastBlock

TEXT_GROWTH = 2
"""Hidden over outer width of the text tower's feed-forward layers."""


class ConvImage(ImageTower):
    """The convolutional image tower on normalised pixels.

    Its projection is linear, so the mean of all places is the image.
    """

    own_last_block: LastBlock = "vanilla"

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, H, W] -> [B, D]."""
        return self.dense(images, "vanilla").pooled

    def dense(self, images: Tensor, last_block: LastBlock, keep_residual: bool = False) -> Dense:
        """See models/clip.py.

        Raises:
            UsageError: A last block is asked for that attends in a way of its own, or its residual.
        """
        if last_block != "vanilla" or keep_residual:
            asked = "keep_residual" if keep_residual else f"last_block {last_block!r}"
            raise UsageError(f"a convolutional tower has no last block to change, got {asked}", hint="Leave it out.")
        maps = self.maps(images)  # [B, C, Ph, Pw]
        patches = self.project(maps.permute(0, 2, 3, 1))
        return Dense(self.project(maps.mean((2, 3))), patches, None)


class ConceptText(TextTower):
    """The text tower over the glossary's concepts."""

    def needed(self, ids: Tensor) -> Tensor:
        """[B, T] without the columns that are padding in every row."""
        return ids[:, : max(1, int((ids != PAD).sum(1).max()))]


def tower_shape(architecture: Architecture) -> TowerShape:
    """The sizes that models/tower.py wants; what one tower does not say is the default."""
    vision, text = architecture.vision, architecture.text
    return TowerShape(
        vocabulary=text.vocabulary,
        widths=tuple(vision.width * 2**stage for stage in range(len(vision.layers))),
        depths=vision.layers,
        dim=architecture.dim,
        context=text.context,
        text_width=text.width,
        text_layers=text.layers,
        text_heads=text.heads,
    )


def architecture_of(shape: TowerShape, image_px: int) -> Architecture:
    """The other way.

    Raises:
        ModelFileError: The stages' widths do not double, which an Architecture cannot say.
    """
    if shape.widths != tuple(shape.widths[0] * 2**stage for stage in range(len(shape.widths))):
        raise ModelFileError(f"stages {shape.widths} channels wide do not double", hint="Keep it as an ONNX model.")
    depths, wide = shape.depths, shape.text_width
    vision = VisionShape("convnet", image_px, STRIDE, shape.widths[0], depths, 0, 0, "mean")
    text = TextShape(
        "concepts", shape.context, shape.vocabulary, wide, shape.text_layers, shape.text_heads, TEXT_GROWTH * wide
    )
    return Architecture(vision, text, shape.dim, "gelu")


def canonical_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a DualTower under the names that models/clip.py gives them."""
    firsts = {"image": "visual", "text": "text", "log_scale": "logit_scale"}
    split = {name: name.partition(".") for name in weights}
    return {firsts[first] + dot + rest: weights[name] for name, (first, dot, rest) in split.items()}


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Its batch normalisations: layers that behave otherwise while training."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
