"""Weights in int8, arithmetic in fp32: a file a quarter as large, opened in an instant, with the results of fp32.

ONNX Runtime multiplies constant weights by their scale once, when a session opens. Activations are never quantised, so
nothing depends on the processor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STEPS = 127
_ALIKE = 1e-6  # of the largest entry: two entries that near are one, up to rounding in fp32
_TOLERANCE = 1e-3  # of a step
_LEAST = 1e-12


class Int8Linear(nn.Module):
    """A linear layer whose weights are stored as int8 with a scale for each output."""

    codes: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        codes, scale = quantize(linear.weight.detach())
        self.register_buffer("codes", codes.T.contiguous())
        self.register_buffer("scale", scale.T.contiguous())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    @property
    def weight(self) -> Tensor:
        """fp32 [out, in], as stored."""
        return (self.codes.float() * self.scale).T

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        out = x @ (self.codes.float() * self.scale)
        return out if self.bias is None else out + self.bias


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """fp32 [out, in] -> int8 [out, in] and scale [out, 1].

    A row whose entries are whole multiples of one step, as those that were int8 once, loses nothing.
    """
    scale = torch.stack([_scale(row) for row in weight])[:, None]
    return torch.round(weight / scale).clamp(-_STEPS, _STEPS).to(torch.int8), scale


def _scale(row: Tensor) -> Tensor:
    """The step of which all entries are multiples, at most 127 of it; without one, a 127th of the largest entry."""
    values = row.abs().sort().values
    largest = values[-1].clamp_min(_LEAST)
    gaps = values.diff(prepend=values.new_zeros(1))
    apart = gaps[gaps > largest * _ALIKE]
    steps = float(torch.round(largest / apart.min())) if len(apart) else 1.0
    multiples = values / largest * steps
    exact = steps <= _STEPS and float((multiples - torch.round(multiples)).abs().max()) < _TOLERANCE
    return largest / (steps if exact else _STEPS)


def int8_linears(module: nn.Module) -> nn.Module:
    """Put Int8Linear in the place of every linear layer, in place; the module is returned."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            int8_linears(child)
    return module
