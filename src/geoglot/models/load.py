"""Load a model by name or folder, on the runtime that its files are for."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, get_args

from geoglot.data.glossary import Scale
from geoglot.errors import MissingExtraError, ModelFileError, UnknownNameError, UsageError
from geoglot.models.card import Card
from geoglot.models.encoder import DualEncoder
from geoglot.models.zoo.registry import DEFAULT_MODEL, find_card

Runtime = Literal["light", "torch"]


def load_encoder(
    name: str = DEFAULT_MODEL,
    *,
    threads: int | None = None,
    runtime: Runtime | None = None,
    device: str | None = None,
    precision: str | None = None,
    definitions: Scale | None = None,
) -> DualEncoder:
    """Load a model by name or folder. Never touches the network.

    Sessions and weights are opened on first use: about 0.1 s for the bundled model, seconds for PyTorch.

    Args:
        name: A bundled, installed or released model's name, `hf-hub:org/repo[/file]`, `local-dir:folder`, or a folder
            that holds a card.toml.
        threads: CPU threads; default all cores.
        runtime: "light" (ONNX Runtime) or "torch"; default: light where the model has light files.
        device, precision: Of the PyTorch runtime; None chooses and says so (see TorchEncoder).
        definitions: Let the looks of what a text names join its vector (see models/definitions.py); None is off.

    Raises:
        ModelNotFoundError: No such model.
        ModelFileError: A file is missing, or the card is not valid; says where it looked and what brings the file.
        MissingExtraError: The model needs PyTorch and it is not installed.
    """
    card = find_card(name)
    runtime = runtime or _runtime_of(card)
    if runtime not in get_args(Runtime):
        raise UnknownNameError("runtime", runtime, get_args(Runtime))
    encoder = (_light if runtime == "light" else _torch)(card, threads, device, precision)
    if definitions is None:
        return encoder
    from geoglot.models.definitions import with_definitions

    return with_definitions(encoder, definitions)


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
