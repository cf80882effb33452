"""The two graphs of a dual encoder as they are exported: raw pixels or token ids in, unit vectors out.

Three rewrites, none of which changes what is computed. The first convolution of a transformer does not overlap itself,
so it is a matrix product over patches, which runs faster and can be int8; scaling and normalising the pixels are folded
into its weights. Quick-GELU is written as ONNX Runtime recognises it. Texts keep a free length, so that a short query
costs little.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.models.towers.clip import DualModel
from geoglot.models.towers.transformer import Mlp, quick_gelu
from geoglot.models.towers.vit import ClipVit, SiglipVit
from geoglot.models.zoo.origin import Preprocess


class ImageGraph(nn.Module):
    """uint8 [N, S, S, 3] -> unit vectors [N, D]. Takes over the model's image tower: the model is of no use after."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: DualModel, preprocess: Preprocess) -> None:
        super().__init__()
        self.visual = model.visual
        recognisable(self.visual)
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.folds = isinstance(self.visual, ClipVit | SiglipVit)
        if isinstance(self.visual, ClipVit | SiglipVit):
            self.product = PatchProduct(self.visual.conv1, mean, std)
            self.visual.patches = self.product.forward  # type: ignore[method-assign]
        else:
            self.register_buffer("scale", (1 / (255 * std))[:, None, None])
            self.register_buffer("shift", (-mean / std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        x = images if self.folds else images.permute(0, 3, 1, 2).float() * self.scale + self.shift
        return F.normalize(self.visual(x), dim=1)


class PatchProduct(nn.Module):
    """A convolution whose stride is its size, over uint8 [B, H, W, 3], normalisation included, as a matrix product."""

    def __init__(self, conv: nn.Conv2d, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.side = conv.kernel_size[0]
        weight = conv.weight.double()  # [W, 3, p, p]
        bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias
        shift = (weight * (mean / std).double()[:, None, None]).sum((1, 2, 3))
        scaled = weight / (255 * std.double()[:, None, None])
        self.weight = nn.Parameter(scaled.permute(0, 2, 3, 1).flatten(1).float())  # [W, p * p * 3]
        self.bias = nn.Parameter((bias.double() - shift).float())

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        side = self.side
        rows, columns = images.shape[1] // side, images.shape[2] // side
        cut = images[:, : rows * side, : columns * side].reshape(images.shape[0], rows, side, columns, side, 3)
        flat = cut.permute(0, 1, 3, 2, 4, 5).reshape(images.shape[0], rows * columns, -1)  # [B, P, p * p * 3]
        return F.linear(flat.float(), self.weight, self.bias), (rows, columns)


class TextGraph(nn.Module):
    """int64 [M, T] -> unit vectors [M, D]."""

    def __init__(self, model: DualModel) -> None:
        super().__init__()
        self.model = model
        recognisable(model)
        self.model.visual = nn.Identity()  # type: ignore[assignment]

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.model.encode_text(tokens), dim=1)


def recognisable(model: nn.Module) -> None:
    """Write quick-GELU as x * sigmoid(1.702 x): ONNX Runtime runs that as one operator, but not its form with SiLU."""
    for module in model.modules():
        if isinstance(module, Mlp) and module.activation is quick_gelu:
            module.activation = _quick_gelu


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)
