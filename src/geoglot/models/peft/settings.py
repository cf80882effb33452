"""Which small parts are trained, with which sizes; published presets. No torch."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from geoglot.errors import UnknownNameError, UsageError

Method = Literal["full", "lora", "adapter", "prefix", "unipelt", "bitfit"]
Tower = Literal["image", "text"]
Placement = Literal["output", "both"]
GateOver = Literal["token", "row"]


@dataclass(frozen=True, slots=True)
class Tuning:
    """The `[tuning]` table of a config. Defaults are AdapterHub's, but for `gate`.

    Attributes:
        method: "full" trains everything; the others freeze the model and train small parts beside it (BitFit: its own
            biases).
        preset: "adapterhub" or "itra": sizes and towers come from there; empty: from the fields below.
        towers: Which towers get parts.
        rank, alpha, matrices: LoRA: inner width, numerator of its weight alpha / rank, and which of "q", "k", "v".
        reduction, placement: Adapter: tower width over inner width; "output" (Pfeiffer) or "both" (Houlsby).
        prefix_length, prefix_width: Prefix tuning: keys and values a layer, and the width of the layer they are
            computed through while they are trained.
        gate: UniPELT: "token", as the paper, gives each token gates of its own (what all share, the prefix, has their
            mean, and in a causal tower the first token's); "row", as AdapterHub, gives all tokens the mean over the
            row, padding included, so that texts are not cut to what they need.
    """

    method: Method = "full"
    preset: str = ""
    towers: tuple[Tower, ...] = ("image", "text")
    rank: int = 8
    alpha: float = 8.0
    matrices: tuple[str, ...] = ("q", "v")
    reduction: int = 16
    placement: Placement = "output"
    prefix_length: int = 30
    prefix_width: int = 512
    gate: GateOver = "token"

    def __post_init__(self) -> None:
        _known("tuning method", self.method, get_args(Method))
        _known("adapter placement", self.placement, get_args(Placement))
        _known("span of a gate", self.gate, get_args(GateOver))
        for tower in self.towers:
            _known("tower", tower, get_args(Tower))
        for matrix in self.matrices:
            _known("attention matrix", matrix, ("q", "k", "v"))
        if not self.towers or not self.matrices:
            raise UsageError("tuning needs at least one tower and one matrix")
        for name in ("rank", "alpha", "reduction", "prefix_length", "prefix_width"):
            if not getattr(self, name) > 0:
                raise UsageError(f"tuning: {name} = {getattr(self, name)} must be positive")
        if self.preset:
            preset_values(self.preset, self.method)

    def resolved(self) -> Tuning:
        """With the preset's values in place, and without its name."""
        if not self.preset:
            return self
        return replace(self, preset="", **preset_values(self.preset, self.method))


@cache
def _presets() -> dict[str, dict[str, dict[str, Any]]]:
    return tomllib.loads((Path(__file__).parent / "presets.toml").read_text("utf-8"))


def preset_values(preset: str, method: str) -> dict[str, Any]:
    """Fields of `Tuning` that a preset sets for a method.

    Raises:
        UnknownNameError: No such preset, or it does not have that method.
    """
    _known("tuning preset", preset, tuple(_presets()))
    _known(f"method of preset {preset!r}", method, tuple(_presets()[preset]))
    values = _presets()[preset][method]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownNameError(what, value, known)
