"""The one seam between geoglot and its models: images and texts in, unit vectors of one space out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.models.card import Card

if TYPE_CHECKING:
    from geoglot.models.towers.dense import LastBlock

Images = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@runtime_checkable
class DualEncoder(Protocol):
    """The protocol of image-text models. Instances may be shared between threads."""

    @property
    def card(self) -> Card:
        """The model, described."""
        ...

    def encode_images(self, images: Images) -> Vectors:
        """RGB uint8 [N, S, S, 3] with S = card.image_px -> float32 [N, D], unit norm."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """M texts in any of card.languages -> float32 [M, D], unit norm.

        Raises:
            EmptyQueryError: A text is empty.
            UnknownWordsError: No word of a text is known to the model.
        """
        ...


@runtime_checkable
class DenseEncoder(DualEncoder, Protocol):
    """An encoder that also tells the places of an image apart. Ask `dense` for one."""

    @property
    def patch_px(self) -> int:
        """Side in pixels of the square that one place covers; 0 where the model's files offer no places."""
        ...

    def patch_features(self, images: Images, last_block: LastBlock | None = None) -> Vectors:
        """RGB uint8 [N, H, W, 3] of any size -> float32 [N, Ph, Pw, D], unit norm, in the texts' space.

        Nothing is resized. Place (i, j) covers the pixels from (i * patch_px, j * patch_px) on, and
        Ph = ceil(H / patch_px).

        Args:
            images: Sides of patch_px or more.
            last_block: How a transformer's last block attends (see towers/dense.py); None is the model's own choice,
                and the only one for a convolutional tower.

        Raises:
            UsageError: Not such an array, or the model knows no such last block.
        """
        ...


def dense(encoder: DualEncoder) -> DenseEncoder:
    """The same encoder, known to tell the places of an image apart.

    Raises:
        UsageError: It cannot.
    """
    if isinstance(encoder, DenseEncoder) and encoder.patch_px:
        return encoder
    raise UsageError(
        f"model {encoder.card.name!r} gives one vector for an image here, and none for the places in it",
        hint="Run it on PyTorch, from its own weights (runtime='torch'), or take geoglot-mini.",
    )


def background_prompts(encoder: DualEncoder) -> Vectors:
    """The vectors of the card's background prompts, float32 [K, D]; K = 0 for a card without."""
    card = encoder.card
    return encoder.encode_texts(card.background) if card.background else np.empty((0, card.dim), np.float32)
