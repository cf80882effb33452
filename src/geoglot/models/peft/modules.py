"""The small parts themselves. Shapes: B batch, N tokens, W width of the tower, r rank, P prefix length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.models.peft.settings import GateOver


class LowRank(nn.Module):
    """A change of a matrix by (alpha / r) up down, nothing at the start.

    Implements: LoRA, arXiv 2106.09685, section 4.1.
    """

    def __init__(self, inside: int, outside: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, inside))
        self.up = nn.Parameter(torch.zeros(outside, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def delta(self) -> Tensor:
        """[outside, inside]."""
        return self.scale * (self.up @ self.down)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inside] -> [..., outside]: what the change adds to the matrix's output."""
        return self.scale * F.linear(F.linear(x, self.down), self.up)


class LowRankUpdate(nn.Module):
    """A parametrization: a weight plus a low-rank change of all of it, or of some of its row blocks.

    Works on any weight whose first dimension is its output, so on convolutions too, and everything that reads the
    weight sees the changed one: the class-token shortcut, dense features, export.

    Args:
        weight: [O, ...].
        rank, alpha: See LowRank.
        blocks: Into how many equal blocks of rows the weight falls (3: queries, keys, values).
        changed: Which of them change.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float, blocks: int = 1, changed: Sequence[int] = (0,)) -> None:
        super().__init__()
        rows, inside = len(weight) // blocks, weight[0].numel()
        self.blocks = blocks
        self.parts = nn.ModuleDict({str(at): LowRank(inside, rows, rank, alpha) for at in changed})

    def forward(self, weight: Tensor) -> Tensor:
        blocks = list(weight.chunk(self.blocks))
        for at, part in self.parts.items():
            assert isinstance(part, LowRank)
            blocks[int(at)] = blocks[int(at)] + part.delta().view_as(blocks[int(at)])
        return torch.cat(blocks)


class Bottleneck(nn.Module):
    """x + gate * up(relu(down(x))).

    Implements: the bottleneck adapter, arXiv 1902.00751, section 2.1; ReLU and one after the feed-forward sub-layer as
    arXiv 2005.00247. Weights start as N(0, 0.02), AdapterHub's "bert" initialisation.
    """

    def __init__(self, width: int, reduction: int, gate: Gate | None = None) -> None:
        super().__init__()
        inner = max(1, width // reduction)
        self.down, self.up, self.gate = nn.Linear(width, inner), nn.Linear(inner, width), gate
        for layer in (self.down, self.up):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, W] -> [B, N, W]."""
        said = self.up(F.relu(self.down(x)))
        out: Tensor = x + (said if self.gate is None else self.gate(x) * said)
        return out


class Gate(nn.Module):
    """How much a part may say, in (0, 1), computed from what the part sees: one number a token, or a row.

    Implements: UniPELT's gate, arXiv 2110.07577, section 3.2; over a row as AdapterHub (adapters 1.3.0).
    """

    def __init__(self, width: int, over: GateOver = "token") -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        self.over = over

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, W] -> [B, N, 1], or [B, 1, 1] over a row."""
        gates = torch.sigmoid(self.linear(x))
        return gates.mean(1, keepdim=True) if self.over == "row" else gates

    def of_all(self, x: Tensor, causal: bool) -> Tensor:
        """One number [B, 1, 1] a row, for what all tokens share: the mean of the tokens' gates.

        In a causal tower the first token's instead, unless the gate is one over the row: a mean would see the future,
        and the padding behind the text.
        """
        gates: Tensor = self(x)
        return gates[:, :1] if causal else gates.mean(1, keepdim=True)


class Stem(nn.Module):
    """The part of the prefix's network that all layers of a tower share: P places -> tanh of a hidden layer."""

    def __init__(self, length: int, width: int, hidden: int) -> None:
        super().__init__()
        self.places = nn.Embedding(length, width)
        self.grow = nn.Linear(width, hidden)

    def forward(self) -> Tensor:
        """[P, hidden]."""
        return torch.tanh(self.grow(self.places.weight))


class Prefix(nn.Module):
    """P keys and values that every token of a layer may attend to; computed by a small network while they are trained.

    Implements: prefix tuning, arXiv 2101.00190, sections 4.2 and 4.3. The last linear layer there has the rows of all
    layers; here each layer holds its own rows of it, which is the same function.
    """

    def __init__(self, stem: Stem, width: int) -> None:
        super().__init__()
        self.stem: Stem | None = stem
        self.last: nn.Module = nn.Linear(stem.grow.out_features, 2 * width)
        self.register_parameter("folded", None)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Keys and values, each [P, W]."""
        both: Tensor = self.last(self.stem()) if self.stem is not None else self.folded
        keys, values = both.chunk(2, dim=1)
        return keys, values

    def fold(self) -> None:
        """Keep the keys and values, drop the network."""
        self.folded = nn.Parameter(torch.cat(self(), 1).detach())
        self.stem = None
        self.last = nn.Identity()
