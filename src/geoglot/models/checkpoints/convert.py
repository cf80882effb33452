"""Write weights as safetensors: the one format that can be read without trust, mapped, and by anybody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from geoglot.errors import ModelFileError, UsageError
from geoglot.files import replacing
from geoglot.models.card import Card
from geoglot.models.checkpoints.fold import LONG, SHORT
from geoglot.models.checkpoints.load import ACTIVATION_KEY, CHOOSE, Loaded, load_checkpoint
from geoglot.models.towers.architecture import Activation, Architecture

FILE = "model.safetensors"
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_safetensors(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str]) -> Path:
    """Write tensors with texts beside them; the file appears whole or not at all. Same input, same bytes.

    Written here and not by the safetensors package, which orders the metadata at random and wants a copy of every
    mapped tensor at once.

    Raises:
        ModelFileError: A tensor's number format has no place in the format.
        StorageError: It cannot be written.
    """
    path = Path(path)
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # wide numbers first: all aligned
    with replacing(path, hint="Check the free space and the folder's rights.") as part, part.open("wb") as file:
        file.write(_header({name: tensors[name] for name in names}, metadata))
        for name in names:
            file.write(_bytes(tensors[name]))
    return path


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    table: dict[str, object] = {"__metadata__": {"format": "pt", **dict(sorted(metadata.items()))}}
    end = 0
    for name, tensor in tensors.items():
        first, end = end, end + tensor.numel() * tensor.element_size()
        table[name] = {"dtype": _dtype(name, tensor), "shape": list(tensor.shape), "data_offsets": [first, end]}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors start on a multiple of 8
    return len(text).to_bytes(8, "little") + text


def _dtype(name: str, tensor: Tensor) -> str:
    if tensor.dtype not in DTYPES:
        raise ModelFileError(f"{name!r} has the number format {tensor.dtype}", hint="Convert it to fp32 or fp16 first.")
    return DTYPES[tensor.dtype]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def convert_checkpoint(
    path: str | Path,
    model: Card | Architecture | None,
    out: str | Path,
    *,
    activation: Activation | None = None,
    sha256: str | None = None,
) -> Path:
    """Read a checkpoint strictly and write it as safetensors under geoglot's names.

    Args:
        path: What `load_checkpoint` takes.
        model: What it must be: a card, an architecture, or None to recognise it. What a card marks as doubtful is taken
            from the file (the text's context) or must be said (the activation).
        out: A file, or a folder that gets model.safetensors.
        activation: See `load_checkpoint`.
        sha256: Checksum of the input, checked before it is opened.

    Returns:
        The file that was written.

    Raises:
        ModelNotFoundError, ModelFileError, UsageError: See `load_checkpoint`.
        StorageError: It cannot be written.
    """
    loaded = load_for_card(path, model, activation=activation, sha256=sha256)
    out = Path(out)
    about = {
        ACTIVATION_KEY: loaded.architecture.activation,
        "geoglot.architecture": json.dumps(asdict(loaded.architecture)),
        "geoglot.layout": loaded.layout,
        "geoglot.from": Path(path).name,
    }
    return write_safetensors(loaded.tensors, out / FILE if out.is_dir() else out, about)


def load_for_card(
    path: str | Path,
    model: Card | Architecture | None,
    *,
    activation: Activation | None = None,
    sha256: str | None = None,
) -> Loaded:
    """`load_checkpoint`, where a card's doubts decide what the file or the caller may say otherwise."""
    if not isinstance(model, Card):
        return load_checkpoint(path, architecture=model, activation=activation, sha256=sha256)
    if model.architecture is None:
        raise UsageError(f"the card of {model.name!r} describes no architecture", hint="Give a PyTorch model's card.")
    wanted = _decide_activation(model, model.architecture, activation)
    if model.doubts.context == "known":
        return load_checkpoint(path, architecture=wanted, sha256=sha256)
    return load_checkpoint(path, architecture=wanted, contexts=(SHORT, LONG), sha256=sha256)


def _decide_activation(card: Card, wanted: Architecture, asked: Activation | None) -> Architecture:
    doubt = card.doubts.activation
    if doubt == "undecided" and asked is None:
        raise UsageError(f"the activation of {card.name} is not known", hint=card.doubts.activation_why or CHOOSE)
    if asked is None or asked == wanted.activation:
        return wanted
    if doubt == "known":
        raise UsageError(
            f"activation {asked!r} was asked for, {card.name} has {wanted.activation!r}", hint="Leave it out."
        )
    return replace(wanted, activation=asked)
