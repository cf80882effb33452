"""CLIP's ResNet (arXiv 2103.00020, section 2.4): three-convolution stem, blurred strides, attention pooling.

Parameter names are those of OpenAI's release. The pooling layer plays the part of a transformer's last block: its one
query is the mean token, and when every place asks in its stead, each gets an embedding of its own (arXiv 2112.01071).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.errors import UsageError
from geoglot.models.towers.architecture import VisionShape
from geoglot.models.towers.dense import Dense, LastBlock, attend
from geoglot.models.towers.positions import grid_positions
from geoglot.models.towers.transformer import random_table


class Bottleneck(nn.Module):
    """1x1, 3x3, average pooling in place of a stride, 1x1; the shortcut is pooled alike."""

    def __init__(self, inside: int, planes: int, stride: int) -> None:
        super().__init__()
        outside = 4 * planes
        self.conv1, self.bn1 = nn.Conv2d(inside, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes)
        self.avgpool = nn.AvgPool2d(stride)
        self.conv3, self.bn3 = nn.Conv2d(planes, outside, 1, bias=False), nn.BatchNorm2d(outside)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            shortcut = [("-1", nn.AvgPool2d(stride)), ("0", nn.Conv2d(inside, outside, 1, bias=False))]
            self.downsample = nn.Sequential(OrderedDict([*shortcut, ("1", nn.BatchNorm2d(outside))]))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.avgpool(F.relu(self.bn2(self.conv2(y))))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class AttentionPool(nn.Module):
    """Attention of the mean over all places, [B, C, h, w] -> [B, D]."""

    def __init__(self, width: int, heads: int, grid: int, dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = random_table(grid**2 + 1, width, std=width**-0.5)
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, dim)

    def tokens(self, features: Tensor) -> Tensor:
        """The mean, then all places in reading order, with positions: [B, 1 + h * w, C]."""
        x = features.flatten(2).transpose(1, 2)
        grid = (features.shape[2], features.shape[3])
        return torch.cat([x.mean(1, keepdim=True), x], 1) + grid_positions(self.positional_embedding, grid, 1)

    def _split(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        return x.reshape(b, n, self.heads, c // self.heads).transpose(1, 2)  # [B, heads, N, C / heads]

    def _merge(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(x.transpose(1, 2).flatten(2))
        return out

    def forward(self, features: Tensor) -> Tensor:
        x = self.tokens(features)
        q, k, v = self._split(self.q_proj(x[:, :1])), self._split(self.k_proj(x)), self._split(self.v_proj(x))
        return self._merge(F.scaled_dot_product_attention(q, k, v))[:, 0]

    def dense(self, features: Tensor, last_block: LastBlock) -> Dense:
        """All tokens as queries too; queries, keys and values are computed once for both paths."""
        x = self.tokens(features)
        q, k, v = self._split(self.q_proj(x)), self._split(self.k_proj(x)), self._split(self.v_proj(x))
        pooled = self._merge(F.scaled_dot_product_attention(q[:, :, :1], k, v))[:, 0]
        tokens = self._merge(attend(q, k, v, last_block))  # [B, 1 + h * w, D]
        return Dense(pooled, tokens[:, 1:].reshape(x.shape[0], *features.shape[2:], -1), tokens[:, 0])


class ModifiedResNet(nn.Module):
    """CLIP's convolutional image tower; total stride 32."""

    own_last_block: LastBlock = "segearth"

    def __init__(self, shape: VisionShape, dim: int) -> None:
        super().__init__()
        width, half = shape.width, shape.width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, 1, 1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        stages = []
        inside = width
        for stage, depth in enumerate(shape.layers):
            planes = width * 2**stage
            first = Bottleneck(inside, planes, 1 if stage == 0 else 2)
            stages.append(nn.Sequential(first, *(Bottleneck(4 * planes, planes, 1) for _ in range(depth - 1))))
            inside = 4 * planes
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.attnpool = AttentionPool(inside, shape.heads, shape.grid, dim)

    def features(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, H / 32, W / 32], sizes rounded down."""
        if min(images.shape[2:]) < 32:
            raise UsageError(f"images of {images.shape[2]} x {images.shape[3]} px are smaller than the stride of 32 px")
        x = images.contiguous(memory_format=torch.channels_last)  # the fastest layout for convolutions on a CPU
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.avgpool(F.relu(self.bn3(self.conv3(x))))
        out: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, H, W] -> [B, D]."""
        out: Tensor = self.attnpool(self.features(images))
        return out

    def dense(self, images: Tensor, last_block: LastBlock, keep_residual: bool = False) -> Dense:
        """See models/clip.py.

        Raises:
            UsageError: `keep_residual`: the pooling layer has no residual to keep.
        """
        if keep_residual:
            raise UsageError("keep_residual=True: the pooling layer of a ResNet has no residual")
        return self.attnpool.dense(self.features(images), last_block)
