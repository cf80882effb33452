"""The pre-norm transformer that CLIP's and SigLIP's towers share, with open_clip's parameter names.

Source: CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343); GPT-2's layer order. Queries, keys and values come from
one matrix product, attention from PyTorch's fused kernel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.models.towers.architecture import Activation


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), OpenAI's activation, through the fused SiLU: one pass over memory less."""
    return F.silu(1.702 * x) * (1 / 1.702)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by the tanh formula, as SigLIP has it."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
}


def random_table(*shape: int, std: float) -> nn.Parameter:
    """A parameter with normally distributed values."""
    table = nn.Parameter(torch.empty(shape))
    nn.init.normal_(table, std=std)
    return table


class Attention(nn.Module):
    """Multi-head attention in three steps, so that a caller can do the middle one in its own way."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N, W] -> queries, keys, values, each [B, heads, N, W / heads]."""
        q, k, v = self._by_head(F.linear(x, self.in_proj_weight, self.in_proj_bias), 3)
        return q, k, v

    def split_few(self, queries: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `split`, with queries from [B, M, W] and keys and values from [B, N, W]."""
        width = x.shape[2]
        (q,) = self._by_head(F.linear(queries, self.in_proj_weight[:width], self.in_proj_bias[:width]), 1)
        k, v = self._by_head(F.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:]), 2)
        return q, k, v

    def _by_head(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B, N, parts * W] -> as many [B, heads, N, W / heads]."""
        width = x.shape[2] // parts
        split = x.reshape(x.shape[0], x.shape[1], parts, self.heads, width // self.heads)
        return split.permute(2, 0, 3, 1, 4).unbind()

    def merge(self, heads: Tensor) -> Tensor:
        """[B, heads, N, W / heads] -> [B, N, W], through the output projection."""
        out: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return out

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """[B, N, W] -> [B, N, W]; `causal`: a token sees itself and what is before it."""
        q, k, v = self.split(x)
        return self.merge(F.scaled_dot_product_attention(q, k, v, is_causal=causal))


class Mlp(nn.Module):
    """Two linear layers and an activation."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.activation(self.c_fc(x)))
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
        whole_row: Whether a token's output depends on all the others beside attention, as where a part takes a mean
            over them: then neither `finish` nor the queries may be given a few tokens only.
    """

    whole_row = False

    def __init__(self, width: int, heads: int, mlp_width: int, activation: Activation, eps: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, mlp_width, activation)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block, from its input and what its attention said, both [B, N, W]."""
        x = x + attended
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        return self.finish(x, self.attn(self.ln_1(x), causal))


class Transformer(nn.Module):
    """A stack of blocks."""

    def __init__(
        self, width: int, layers: int, heads: int, mlp_width: int, activation: Activation, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, mlp_width, activation, eps) for _ in range(layers))

    @property
    def whole_row(self) -> bool:
        """Whether any block is so."""
        return any(block.whole_row for block in self.resblocks)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """[B, N, W] -> [B, N, W]."""
        for block in self.resblocks:
            x = block(x, causal)
        return x

    def before_last(self, x: Tensor) -> tuple[Tensor, Block]:
        """All blocks but the last on [B, N, W], and the last block."""
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x)
        assert isinstance(last, Block)
        return x, last
