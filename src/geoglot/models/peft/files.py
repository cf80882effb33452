"""Small parts as a file of their own: kilobytes to megabytes beside a model of gigabytes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoglot.errors import ModelFileError, UsageError
from geoglot.models.checkpoints.convert import write_safetensors
from geoglot.models.peft.attach import is_tuned, tune
from geoglot.models.peft.modules import Prefix
from geoglot.models.peft.settings import Tuning

FORMAT = "geoglot-parts-1"
LARGEST = 16_384  # any size of a part: the widest tower has 1,280


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that move, by name; shared ones once."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def save_parts(model: nn.Module, tuning: Tuning, path: Path, *, base: str) -> int:
    """Write the trained tensors only, as safetensors. Call it before `merge` (folded prefixes may be saved as well).

    Args:
        model: As `tune` left it, trained or not.
        tuning: What was added.
        path: A new file.
        base: Name of the weights that the parts belong to, e.g. a card's fingerprint.

    Returns:
        Bytes written.

    Raises:
        UsageError: Nothing small to save: the whole model was trained, or the parts are merged already.
        StorageError: The file cannot be written.
    """
    if tuning.method == "full" or not (is_tuned(model) or tuning.method == "bitfit"):
        raise UsageError(f"method {tuning.method!r} leaves no small parts to save", hint="Save the whole weights.")
    folded = any(isinstance(m, Prefix) and m.stem is None for m in model.modules())
    facts = {"format": FORMAT, "tuning": json.dumps(asdict(tuning.resolved())), "base": base, "folded": str(folded)}
    return write_safetensors(trained(model), path, facts).stat().st_size


def load_parts(model: nn.Module, path: Path, *, base: str | None = None) -> Tuning:
    """Put saved parts into a plain model.

    Args:
        model: The weights that the parts were trained beside; changed in place.
        path: What `save_parts` wrote.
        base: Name of `model`'s weights, as given to `save_parts`; None where both come from one model folder.

    Raises:
        ModelFileError: Not such a file, made for other weights, or of other shapes.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stream:
            facts = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    if facts.get("format") != FORMAT or not {"tuning", "base", "folded"} <= facts.keys():
        raise ModelFileError(f"{path} holds no small parts", hint="Give a file that a tuning run wrote.")
    if base is not None and facts["base"] != base:
        hint = "Load the model it belongs to."
        raise ModelFileError(f"{path} belongs to {facts['base']!r}, not to {base!r}", hint=hint)
    tuning = _tuning(facts["tuning"], path)
    tune(model, tuning)
    if facts["folded"] == "True":
        for module in model.modules():
            if isinstance(module, Prefix):
                module.fold()
    _fill(model, tensors, path)
    return tuning


def _tuning(text: str, path: Path) -> Tuning:
    """The header of the file, with types and sizes checked: memory is taken before any tensor is compared."""
    usual = asdict(Tuning())
    try:
        read: dict[str, Any] = json.loads(text)
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in read.items()}
        for name, value in values.items():
            if name not in usual or type(value) is not type(usual[name]):
                raise ValueError(f"{name} = {value!r}")
            if isinstance(value, int | float) and value > LARGEST:
                raise ValueError(f"{name} = {value!r} is above {LARGEST}")
        return Tuning(**values)
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{path} does not say which parts it holds: {error}") from error


@torch.no_grad()
def _fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if wanted.keys() != tensors.keys():
        odd = sorted(wanted.keys() ^ tensors.keys())[0]
        raise ModelFileError(f"{path} does not fit the model: {odd} is on one side only")
    for name, value in tensors.items():
        if value.shape != wanted[name].shape:
            found, needed = list(value.shape), list(wanted[name].shape)
            raise ModelFileError(f"{path} does not fit the model: {name} has shape {found}, not {needed}")
        wanted[name].copy_(value)
