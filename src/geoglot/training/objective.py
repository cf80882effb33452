"""The objective of a recipe: a module that turns a batch into embeddings, and a loss on those embeddings.

The split is what makes large batches possible on a small device: `forward` may run chunk by chunk, `loss` sees the rows
of the whole batch. A recipe with more losses subclasses `Contrastive` and adds to both dictionaries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.errors import UsageError
from geoglot.training.contrastive import Rows, info_nce, multi_positive, sigmoid
from geoglot.training.distributed import World

LossName = Literal["infonce", "multi_positive", "sigmoid"]
HIGHEST_SCALE = 100.0
"""CLIP's bound on the multiplier of cosines (arXiv 2103.00020, section 2.5)."""


class TwoTower(Protocol):
    """A dual encoder that can be trained; every nn.Module with these fits.

    Attributes:
        logit_scale: Scalar parameter, the natural logarithm of the multiplier of cosines.
    """

    logit_scale: nn.Parameter

    def encode_image(self, x: Tensor) -> Tensor:
        """Normalised floats [B, 3, H, W] -> [B, D], any norm."""
        ...

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids [B, T] -> [B, D], any norm."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Of one process.

    Attributes:
        images: uint8 [B, S, S, 3].
        texts: int64 [B, K, T].
        image_ids: int64 [B].
        extras: [B, ...] by name, what a recipe's own preparation added.
    """

    images: Tensor
    texts: Tensor
    image_ids: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: slice) -> Batch:
        """Some of the rows."""
        extras = {name: value[rows] for name, value in self.extras.items()}
        return Batch(self.images[rows], self.texts[rows], self.image_ids[rows], extras)

    def to(self, device: torch.device) -> Batch:
        """On a device; from pinned memory the copy does not block."""
        if device.type == "cpu":
            return self

        def moved(tensor: Tensor) -> Tensor:
            return tensor.pin_memory().to(device, non_blocking=True)

        extras = {name: moved(value) for name, value in self.extras.items()}
        return Batch(moved(self.images), moved(self.texts), moved(self.image_ids), extras)


Outputs = dict[str, Tensor]
"""The return value of `forward`. First dimension B (or B * K): rows of the batch. No dimension: shared by all rows."""


class Objective(nn.Module):
    """The form of what the loop trains."""

    def forward(self, batch: Batch) -> Outputs:
        """Rows of embeddings, and scalars that all rows share. Called on whole batches or on chunks of them."""
        raise NotImplementedError

    def loss(self, outputs: Outputs, batch: Batch, world: World) -> dict[str, Tensor]:
        """Named, weighted terms; their sum is minimised. Sees all rows of this process."""
        raise NotImplementedError

    def chance(self, rows: int) -> float | None:
        """The first term's value for a model that guesses, with `rows` images in the joint batch; None: unknown."""
        return None

    def measures(self, outputs: Outputs) -> dict[str, float]:
        """Numbers of a batch for the log, beside the terms that are minimised."""
        return {}

    def before_step(self, step: int) -> None:
        """Before each optimiser step, when gradients are there."""

    def after_step(self, step: int) -> None:
        """After each optimiser step: a place to keep a scale in bounds or to move a teacher."""


class Contrastive(Objective):
    """Images against captions.

    Args:
        towers: A `TwoTower` module.
        loss: Which contrastive loss.
        side_px: S, of the images.
        mean, std: Normalisation of pixels in [0, 1], from the model's card.

    A tower with a method `needed(ids)` says which columns of token rows it can do without: a caption has a dozen words,
    a context 77 places, so most of a text tower's work would be padding.
    """

    def __init__(
        self,
        towers: nn.Module,
        loss: LossName = "infonce",
        *,
        side_px: int = 224,
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        self.towers, self.kind, self.side_px = towers, loss, side_px
        bias = getattr(towers, "logit_bias", None)
        if loss == "sigmoid" and bias is None:
            raise UsageError("the sigmoid loss needs a model with a logit_bias", hint="Use loss = infonce.")
        if loss != "sigmoid" and bias is not None:
            bias.requires_grad_(False)  # it has no part in the loss; DDP would wait for its gradient
        self._captions = 1
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def model(self) -> TwoTower:
        """The towers, as what they are."""
        return cast(TwoTower, self.towers)

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> normalised [B, 3, S, S]. Recipes put their augmentation here: chance is repeatable."""
        x = images.permute(0, 3, 1, 2).float().div_(255.0)
        return (x - cast(Tensor, self.mean)) / cast(Tensor, self.std)

    def image_rows(self, images: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> unit rows [B, D], fp32."""
        return F.normalize(self.model.encode_image(self.pixels(images)).float(), dim=1)

    def text_rows(self, ids: Tensor) -> Tensor:
        """Token ids [M, T] -> unit rows [M, D], fp32."""
        needed = getattr(self.towers, "needed", None)
        return F.normalize(self.model.encode_text(needed(ids) if needed else ids).float(), dim=1)

    def forward(self, batch: Batch) -> Outputs:
        outputs = {
            "images": self.image_rows(batch.images),
            "texts": self.text_rows(batch.texts.flatten(0, 1)),
            "scale": self.model.logit_scale.view(()).exp(),
        }
        if self.kind == "sigmoid":
            outputs["bias"] = cast(Tensor, self.towers.logit_bias).view(()) * 1.0
        return outputs

    def loss(self, outputs: Outputs, batch: Batch, world: World) -> dict[str, Tensor]:
        ids = text_ids(batch.texts.flatten(0, 1))
        rows = Rows(outputs["images"], outputs["texts"], batch.image_ids, ids)
        self._captions = rows.captions
        if self.kind == "infonce":
            if rows.captions > 1:
                raise UsageError("infonce takes one caption an image", hint="Use loss = multi_positive.")
            return {"contrast": info_nce(rows, outputs["scale"], world)}
        if self.kind == "multi_positive":
            return {"contrast": multi_positive(rows, outputs["scale"], world)}
        return {"contrast": sigmoid(rows, outputs["scale"], outputs["bias"], world)}

    def chance(self, rows: int) -> float | None:
        """ln B from texts to images, ln K B with K right answers from images to texts: ln B + ln(K) / 2 together."""
        return None if self.kind == "sigmoid" else math.log(rows) + math.log(self._captions) / 2

    def after_step(self, step: int) -> None:
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(HIGHEST_SCALE))


def text_ids(ids: Tensor) -> Tensor:
    """int64 [M] for token rows [M, T]: equal rows have equal numbers, others differ but for a chance of 2^-64."""
    powers = torch.ones(ids.shape[1], dtype=torch.int64, device=ids.device).fill_(6364136223846793005).cumprod(0)
    mixed = (ids + 1) * 1442695040888963407
    return ((mixed ^ (mixed >> 29)) * powers).sum(1)
