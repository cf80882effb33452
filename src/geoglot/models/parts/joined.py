"""A dual encoder joined from a pretrained image backbone and sentence vectors: two heads into one space.

    image [B, 3, S, S] -> maps at strides 16 and 32 -> one vector an image, one a place of 16 px
    sentence vectors [M, W], of any frozen text encoder -> [M, D]

An image and its places go through the same head, on the maps' mean or place by place, so words that fit images fit
places too. A head is a linear map plus what a hidden layer adds to it: at first it is the linear one alone.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.errors import ModelFileError
from geoglot.models.parts.efficientnet_lite import MIDDLE_WIDTH, WIDTH, EfficientNetLite

PATCH_PX = 16
"""Side in pixels of the square that one place covers."""


@dataclass(frozen=True, slots=True)
class JoinedShape:
    """Sizes of the heads.

    Attributes:
        dim: D, the joint space.
        hidden: Width of each head's hidden layer.
        text_width: W, of the sentence vectors.
        dropout: Of the sentence vectors while training.
    """

    dim: int = 256
    hidden: int = 512
    text_width: int = 512
    dropout: float = 0.1


class ImageHead(nn.Module):
    """Both maps -> the joint space, for the whole image or place by place."""

    def __init__(self, shape: JoinedShape) -> None:
        super().__init__()
        self.dim = shape.dim
        self.straight = nn.Linear(WIDTH, shape.dim)
        self.grow = nn.Linear(WIDTH, shape.hidden)
        self.detail = nn.Linear(MIDDLE_WIDTH, shape.hidden, bias=False)
        self.shrink = nn.Linear(shape.hidden, shape.dim, bias=False)
        nn.init.zeros_(self.shrink.weight)

    def forward(self, middle: Tensor, last: Tensor) -> Tensor:
        """[B, 112, H/16, W/16] and [B, 1280, H/32, W/32] -> [B, D], not normalised."""
        return self.pooled(middle.mean((2, 3)), last.mean((2, 3)))

    def pooled(self, middle: Tensor, last: Tensor) -> Tensor:
        """As `forward`, from the maps' means [B, 112] and [B, 1280]."""
        out: Tensor = self.straight(last) + self.shrink(F.gelu(self.grow(last) + self.detail(middle)))
        return out

    def places(self, middle: Tensor, last: Tensor) -> Tensor:
        """-> [B, H/16, W/16, D], not normalised; what the last map says is interpolated between its places."""
        coarse = last.permute(0, 2, 3, 1)  # [B, h, w, 1280]
        both = torch.cat([self.straight(coarse), self.grow(coarse)], 3).permute(0, 3, 1, 2)
        fine = F.interpolate(both, scale_factor=2.0, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
        detail = self.detail(middle.permute(0, 2, 3, 1))
        out: Tensor = fine[..., : self.dim] + self.shrink(F.gelu(fine[..., self.dim :] + detail))
        return out


class TextHead(nn.Module):
    """Sentence vectors [M, W] -> [M, D], not normalised."""

    def __init__(self, shape: JoinedShape) -> None:
        super().__init__()
        self.straight = nn.Linear(shape.text_width, shape.dim)
        self.grow = nn.Linear(shape.text_width, 2 * shape.hidden)
        self.shrink = nn.Linear(2 * shape.hidden, shape.dim, bias=False)
        self.dropout = shape.dropout
        nn.init.zeros_(self.shrink.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        x = F.dropout(vectors * math.sqrt(vectors.shape[1]), self.dropout, self.training)  # entries of about 1
        out: Tensor = self.straight(x) + self.shrink(F.gelu(self.grow(x)))
        return out


class JoinedTower(nn.Module):
    """Backbone, both heads, and the temperature."""

    def __init__(self, image: EfficientNetLite, shape: JoinedShape) -> None:
        super().__init__()
        self.image = image
        self.image_head = ImageHead(shape)
        self.text_head = TextHead(shape)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # arXiv 2103.00020, section 2.5

    def encode_image(self, x: Tensor) -> Tensor:
        """Normalised floats [B, 3, S, S] -> [B, D], any norm."""
        out: Tensor = self.image_head(*self.image(x))
        return out

    def image_and_places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-> [B, D] and [B, S/16, S/16, D], any norm, from one pass."""
        middle, last = self.image(x)
        return self.image_head(middle, last), self.image_head.places(middle, last)

    def encode_text(self, vectors: Tensor) -> Tensor:
        """Sentence vectors [M, W] -> [M, D], any norm."""
        out: Tensor = self.text_head(vectors)
        return out


def save_joined(towers: JoinedTower, shape: JoinedShape, file: Path) -> None:
    """Write the towers with their shape; the sentence encoder is not part of it."""
    torch.save({"shape": asdict(shape), "weights": towers.state_dict()}, file)


def load_joined(file: Path) -> JoinedTower:
    """Read what `save_joined` wrote, in evaluation mode.

    Raises:
        ModelFileError: Not such a file.
    """
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
        towers = JoinedTower(EfficientNetLite().fold(), JoinedShape(**state["shape"]))
        towers.load_state_dict(state["weights"])
    except (OSError, EOFError, KeyError, TypeError, RuntimeError, UnpicklingError) as error:
        raise ModelFileError(f"{file} does not hold joined towers: {error}") from error
    return towers.eval()
