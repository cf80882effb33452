"""The PyTorch definition of the small dual encoder that geoglot ships: a convolutional image tower, a tiny text tower.

A residual network (He et al. 2016, arXiv 1512.03385, basic blocks; average-pooled shortcuts after He et al. 2019,
arXiv 1812.01187, "ResNet-D") because with ten thousand images the convolutional prior is worth more than attention; a
linear projection of the mean-pooled map, so that every place of the map projects into the joint space as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.models.tokenizers.concepts import PAD

MEAN, STD = 0.45, 0.225
"""Of pixels in [0, 1], the same for all colours: about those of aerial photographs."""
STRIDE = 32
"""Pixels from one place of the map to the next: five halvings."""


@dataclass(frozen=True, slots=True)
class TowerShape:
    """Sizes of both towers.

    Attributes:
        widths, depths: Channels and blocks of the four stages.
        dim: D, the joint embedding.
        vocabulary: Token ids, padding included.
        context: T, tokens of a text.
        text_width, text_layers, text_heads: Of the text transformer.
    """

    vocabulary: int
    widths: tuple[int, ...] = (48, 96, 192, 384)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    dim: int = 256
    context: int = 24
    text_width: int = 256
    text_layers: int = 2
    text_heads: int = 4


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            # The last argument changes nothing here, but ONNX Runtime's int8 pooling would count an odd rim as zeros.
            pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ImageTower(nn.Module):
    """RGB in [0, 1], float [B, 3, S, S] for any S >= 32 -> [B, D], not normalised."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        first = shape.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, first, 3, 2, 1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        )
        blocks, inside = [], first
        for stage, (width, depth) in enumerate(zip(shape.widths, shape.depths, strict=True)):
            for index in range(depth):
                blocks.append(Block(inside, width, 2 if stage and not index else 1))
                inside = width
        self.stages = nn.Sequential(*blocks)
        self.project = nn.Linear(inside, shape.dim)

    def features(self, images: Tensor) -> Tensor:
        """The map before pooling, [B, C, S/32, S/32]."""
        return self.maps((images - MEAN) / STD)

    def maps(self, normalised: Tensor) -> Tensor:
        """As `features`, from pixels that are normalised already."""
        out: Tensor = self.stages(self.stem(normalised))
        return out

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.project(self.features(images).mean((2, 3)))  # [B, D]
        return out


class TextTower(nn.Module):
    """Token ids [B, T] for any T up to the context, 0 is padding -> [B, D], not normalised."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        width = shape.text_width
        self.tokens = nn.Embedding(shape.vocabulary, width, padding_idx=PAD)
        self.positions = nn.Parameter(torch.zeros(shape.context, width))
        self.heads = shape.text_heads
        self.layers = nn.ModuleList(TextLayer(width, shape.text_heads) for _ in range(shape.text_layers))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, shape.dim)
        nn.init.normal_(self.tokens.weight, std=0.05)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, ids: Tensor) -> Tensor:
        present = ids != PAD  # [B, T]
        x = self.tokens(ids) + self.positions[: ids.shape[1]]  # [B, T, W]
        mask = torch.zeros(present.shape, dtype=x.dtype, device=x.device).masked_fill(~present, -1e4)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        weight = present.to(x.dtype)[..., None]
        pooled = (self.norm(x) * weight).sum(1) / weight.sum(1).clamp_min(1.0)  # [B, W]
        out: Tensor = self.project(pooled)
        return out


class TextLayer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.grow = nn.Linear(width, 2 * width)
        self.shrink = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = self.mix(self.norm1(x)).reshape(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [B, heads, T, W/heads]
        x = x + self.out(y.transpose(1, 2).reshape(b, t, w))
        out: Tensor = x + self.shrink(F.gelu(self.grow(self.norm2(x))))
        return out


class DualTower(nn.Module):
    """Both towers and the learned temperature."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.image = ImageTower(shape)
        self.text = TextTower(shape)
        self.log_scale = nn.Parameter(torch.tensor(2.66))  # ln(1 / 0.07), CLIP's start (arXiv 2103.00020, section 2.5)

    def scale(self) -> Tensor:
        """Multiplier of cosines, at most 50: beyond it small sets are memorised."""
        return self.log_scale.clamp(max=3.912).exp()
