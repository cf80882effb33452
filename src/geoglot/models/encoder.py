"""The one seam between geoglot and its models: images and texts in, unit vectors of one space out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import MissingExtraError, ModelFileError, UnknownNameError, UsageError
from geoglot.models.card import Card
from geoglot.models.zoo.registry import DEFAULT_MODEL, bundled_models, find_card

if TYPE_CHECKING:
    from geoglot.models.towers.dense import LastBlock

__all__ = [
    "DEFAULT_MODEL",
    "DenseEncoder",
    "DualEncoder",
    "Images",
    "Vectors",
    "bundled_models",
    "dense",
    "find_card",
    "load_encoder",
]

Images = NDArray[np.uint8]
Vectors = NDArray[np.float32]

Runtime = Literal["light", "torch"]


@runtime_checkable
class DualEncoder(Protocol):
    """What every image-text model offers. Instances may be shared between threads."""

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
            last_block: How a transformer's last block attends (see models/dense.py); None is the model's own choice,
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


def load_encoder(
    name: str = DEFAULT_MODEL,
    *,
    threads: int | None = None,
    runtime: Runtime | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> DualEncoder:
    """Load a model by name or folder. Never touches the network.

    Sessions and weights are opened on first use: about 0.1 s for the bundled model, seconds for PyTorch.

    Args:
        name: A bundled, installed or released model's name, `hf-hub:org/repo[/file]`, `local-dir:folder`, or a folder
            that holds a card.toml.
        threads: CPU threads; default all cores.
        runtime: "light" (ONNX Runtime) or "torch"; default: light where the model has light files.
        device, precision: Of the PyTorch runtime; None chooses and says so (see TorchEncoder).

    Raises:
        ModelNotFoundError: No such model.
        ModelFileError: A file is missing, or the card is not valid; says where it looked and what brings the file.
        MissingExtraError: The model needs PyTorch and it is not installed.
    """
    card = find_card(name)
    chosen = runtime or _runtime_of(card)
    if chosen == "light":
        return _light(card, threads, device, precision)
    if chosen == "torch":
        return _torch(card, threads, device, precision)
    raise UnknownNameError("runtime", chosen, get_args(Runtime))


def _runtime_of(card: Card) -> Runtime:
    return "light" if {"image", "text"} <= set(card.files) else "torch"


def _light(card: Card, threads: int | None, device: str | None, precision: str | None) -> DualEncoder:
    from geoglot.models.onnx_encoder import LightEncoder

    if device is not None or precision is not None:
        raise UsageError(
            "the light runtime knows no device and no precision",
            hint="Leave them out, or ask for runtime 'torch'; int8 is chosen when a model is exported.",
        )
    if "image" not in card.files:
        raise ModelFileError(
            f"model {card.name!r} has no light files; it has: {', '.join(card.files) or 'none'}",
            hint=f"Run: geoglot models export {card.name} --precision int8" if card.files else card.how_to_get,
        )
    return LightEncoder(card, threads=threads)


def _torch(card: Card, threads: int | None, device: str | None, precision: str | None) -> DualEncoder:
    card.file("weights")  # a model that is not here is told before a package that is not
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise MissingExtraError(f"model {card.name!r}", "torch")
    from geoglot.models.torch_encoder import TorchEncoder

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return TorchEncoder(card, device=device, precision=precision)
