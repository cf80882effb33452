"""A joint bilateral upsampler: maps of patches made finer along the edges of the picture they were seen in.

Each step doubles height and width. The source is first enlarged smoothly (bicubic); then each pixel becomes a weighted
mean of its (2 r + 1)^2 neighbours, with weights (Kopf et al. 2007; the learned form of FeatUp, arXiv 2403.10516, and of
SegEarth-OV's SimFeatUp, arXiv 2410.01768)

    spatial   exp(-(x^2 + y^2) / (2 sigma^2))             x, y on linspace(-1, 1, 2 r + 1)
    range     softmax over neighbours p of temperature * <proj(q), proj(p)>
    kernel    spatial * range, divided by its sum          + 0.1 * fix-up(kernel, guidance), where there is one

`proj` and the fix-up are small 1 x 1 networks of the guidance: the picture, averaged to the step's size. All steps
share their weights. The filter does not mix channels, so a model trained on features filters K score maps as well, and
models of any width share one upsampler. Plain PyTorch, in strips of rows: no compiled operator, bounded memory.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.errors import ModelFileError, UsageError
from geoglot.models.checkpoints.convert import write_safetensors
from geoglot.models.checkpoints.open import open_checkpoint

ELEMENTS = 1 << 24
"""Numbers that the unfolded neighbourhoods of one strip may hold: 64 MiB."""

FIX_UP_SHARE = 0.1
SMALLEST_SUM = 1e-7
KIND = "geoglot-upsampler"


@dataclass(frozen=True, slots=True)
class UpsamplerShape:
    """Sizes.

    Attributes:
        steps: Doublings; the factor is 2 ** steps.
        radius: r, of the neighbourhood.
        width: Channels of the guidance's projection.
        fix_up: Whether the kernel gets a learned correction.

    Raises:
        UsageError: A size below 1.
    """

    steps: int = 4
    radius: int = 5
    width: int = 32
    fix_up: bool = True

    def __post_init__(self) -> None:
        if min(self.steps, self.radius, self.width) < 1:
            raise UsageError(f"an upsampler needs steps, radius and width of at least 1, got {asdict(self)}")


class JointBilateral(nn.Module):
    """Maps [B, C, h, w] and pictures in [0, 1], [B, 3, H, W] -> [B, C, h * factor, w * factor]."""

    def __init__(self, shape: UpsamplerShape) -> None:
        super().__init__()
        self.shape = shape
        taps = (2 * shape.radius + 1) ** 2
        self.project = nn.Sequential(
            nn.Conv2d(3, shape.width, 1), nn.GELU(), nn.Dropout2d(0.1), nn.Conv2d(shape.width, shape.width, 1)
        )
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.sigma = nn.Parameter(torch.ones(()))
        self.correct = (
            nn.Sequential(nn.Conv2d(taps + 3, taps, 1), nn.GELU(), nn.Dropout2d(0.1), nn.Conv2d(taps, taps, 1))
            if shape.fix_up
            else None
        )

    @property
    def factor(self) -> int:
        """Side of the result over side of the source."""
        return int(2**self.shape.steps)

    def forward(self, source: Tensor, pictures: Tensor) -> Tensor:
        for _ in range(self.shape.steps):
            source = self.step(source, pictures)
        return source

    def step(self, source: Tensor, pictures: Tensor) -> Tensor:
        """One doubling."""
        size = (2 * source.shape[2], 2 * source.shape[3])
        guidance = F.adaptive_avg_pool2d(pictures, size)
        smooth = F.interpolate(source, size, mode="bicubic", align_corners=False)
        radius = self.shape.radius
        wide, projected = _around(smooth, radius), self.project(guidance)
        wide_projected = _around(projected, radius)
        rows = self._rows(size[1], max(source.shape[1], self.shape.width) * len(source))
        strips = []
        for top in range(0, size[0], rows):
            mine, reach = slice(top, top + rows), slice(top, top + rows + 2 * radius)
            kernel = self.kernel(projected[:, :, mine], wide_projected[:, :, reach], guidance[:, :, mine])
            strips.append(torch.einsum("bckhw,bkhw->bchw", _neighbours(wide[:, :, reach], radius), kernel))
        return torch.cat(strips, dim=2)

    def kernel(self, centre: Tensor, around: Tensor, guidance: Tensor) -> Tensor:
        """Weights [B, taps, h, w] of the neighbours.

        Args:
            centre: The projected guidance [B, width, h, w].
            around: The same with `radius` more on each side.
            guidance: [B, 3, h, w].
        """
        temperature = self.log_temperature.exp().clamp(1e-4, 1e4)
        alike = torch.einsum("bchw,bckhw->bkhw", centre, _neighbours(around, self.shape.radius))
        product = (temperature * alike).softmax(dim=1) * self.spatial()[None, :, None, None]
        kernel = product / product.sum(dim=1, keepdim=True).clamp_min(SMALLEST_SUM)
        if self.correct is None:
            return kernel
        corrected: Tensor = kernel + FIX_UP_SHARE * self.correct(torch.cat([kernel, guidance], dim=1))
        return corrected

    def spatial(self) -> Tensor:
        """[taps], row by row."""
        line = torch.linspace(-1, 1, 2 * self.shape.radius + 1, device=self.sigma.device)
        squares = line[:, None] ** 2 + line[None, :] ** 2
        return torch.exp(-squares / (2 * self.sigma**2)).flatten()

    def _rows(self, width: int, channels: int) -> int:
        taps = (2 * self.shape.radius + 1) ** 2
        return max(1, ELEMENTS // (channels * taps * width))


def _around(maps: Tensor, radius: int) -> Tensor:
    """With `radius` more on each side: mirrored, or where the map is too small for that, its border repeated."""
    mode = "reflect" if min(maps.shape[2:]) > radius else "replicate"
    return F.pad(maps, (radius,) * 4, mode=mode)


def _neighbours(wide: Tensor, radius: int) -> Tensor:
    """[B, C, h + 2 r, w + 2 r] -> [B, C, taps, h, w]: each pixel's neighbourhood, row by row."""
    side = 2 * radius + 1
    batch, channels, height, width = wide.shape
    taps = F.unfold(wide, side)
    return taps.view(batch, channels, side * side, height - 2 * radius, width - 2 * radius)


class TorchUpsampler:
    """An upsampler for segmentation: NumPy in, NumPy out (tasks/segment/scores.py, Upsampler)."""

    def __init__(self, model: JointBilateral, about: dict[str, Any] | None = None) -> None:
        self.model, self.about = model.eval(), about or {}

    @property
    def factor(self) -> int:
        """Cells a patch side."""
        return self.model.factor

    @torch.inference_mode()
    def upsample(self, scores: NDArray[np.float32], images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, C, Ph, Pw] and uint8 [N, H, W, 3] -> [N, C, Ph * factor, Pw * factor], one window at a time."""
        out = []
        for one, image in zip(scores, images, strict=True):
            picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
            out.append(self.model(torch.from_numpy(np.ascontiguousarray(one))[None], picture)[0].numpy())
        return np.stack(out)


def save_upsampler(model: JointBilateral, path: Path, about: dict[str, Any]) -> Path:
    """Write weights and shape as one safetensors file.

    Raises:
        StorageError: It cannot be written.
    """
    facts = {"kind": KIND, "shape": json.dumps(asdict(model.shape)), "about": json.dumps(about)}
    return write_safetensors(model.state_dict(), path, facts)


def load_upsampler(path: Path) -> TorchUpsampler:
    """Read what `save_upsampler` wrote.

    Raises:
        ModelFileError: Not such a file, or damaged.
    """
    opened = open_checkpoint(path)
    facts = opened.metadata or {}
    if facts.get("kind") != KIND:
        raise ModelFileError(f"{path} is not an upsampler", hint="geoglot train upsample writes one.")
    model = JointBilateral(UpsamplerShape(**json.loads(facts["shape"])))
    try:
        model.load_state_dict(dict(opened.tensors), strict=True)
    except RuntimeError as error:
        raise ModelFileError(f"{path} is damaged: {error}", hint="Train it again.") from error
    return TorchUpsampler(model, json.loads(facts.get("about", "{}")))
