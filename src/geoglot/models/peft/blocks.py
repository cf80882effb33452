"""Blocks of the CLIP and SigLIP towers with small parts inside; names of the frozen parameters stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.models.peft.modules import Bottleneck, Gate, LowRank, Prefix
from geoglot.models.towers.transformer import Attention, Block

MATRICES = ("q", "k", "v")


class TunedAttention(Attention):
    """Attention with prefixed keys and values, and with gated low-rank changes of its projections (UniPELT).

    A low-rank change without a gate needs no place here: it is a change of the weight (see LowRankUpdate).

    Args:
        frozen: The attention whose parameters are used.
        prefix: Keys and values that come first.
        prefix_gate: Scales both.
        changes: Low-rank changes of "q", "k" or "v".
        change_gates: One for each of them, scales it.
    """

    def __init__(
        self,
        frozen: Attention,
        prefix: Prefix | None = None,
        prefix_gate: Gate | None = None,
        changes: dict[str, LowRank] | None = None,
        change_gates: dict[str, Gate] | None = None,
    ) -> None:
        nn.Module.__init__(self)  # no parameters of its own: it holds those of `frozen`
        self.heads, self.out_proj = frozen.heads, frozen.out_proj
        self.in_proj_weight, self.in_proj_bias = frozen.in_proj_weight, frozen.in_proj_bias
        self.prefix, self.prefix_gate = prefix, prefix_gate
        self.changes, self.change_gates = nn.ModuleDict(changes or {}), nn.ModuleDict(change_gates or {})

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the plain one; keys and values have P more rows, in front."""
        return self.split_few(x, x)

    def split_few(self, queries: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the plain one; keys and values have P more rows, in front."""
        return self._split(queries, x, causal=False)

    def _split(self, queries: Tensor, x: Tensor, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().split_few(queries, x)
        q, k, v = self._changed(q, "q", queries), self._changed(k, "k", x), self._changed(v, "v", x)
        if self.prefix is None:
            return q, k, v
        gate = x.new_ones(x.shape[0], 1, 1) if self.prefix_gate is None else self.prefix_gate.of_all(x, causal)
        keys, values = (self._by_head(gate * part, 1)[0] for part in self.prefix())  # [B, heads, P, W / heads]
        return q, torch.cat([keys, k], 2), torch.cat([values, v], 2)

    def _changed(self, heads: Tensor, name: str, x: Tensor) -> Tensor:
        if name not in self.changes:
            return heads
        said = self.changes[name](x)
        said = self.change_gates[name](x) * said if name in self.change_gates else said
        return heads + self._by_head(said, 1)[0]

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """[B, N, W] -> [B, N, W]; `causal`: a token sees the prefix, itself and what is before it."""
        q, k, v = self._split(x, x, causal)
        mask = None
        if causal:
            ones = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=x.device)
            mask = ones.tril(k.shape[2] - q.shape[2])
        return self.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


class TunedBlock(Block):
    """A block with adapters, around a frozen one.

    Args:
        frozen: The block whose parts are used.
        attn: Instead of its attention.
        inner: Adapters on the output of the attention and of the feed-forward sub-layer, before the residual (Houlsby).
        outer: Adapter on the block's output (Pfeiffer).
    """

    def __init__(
        self, frozen: Block, attn: Attention, inner: Sequence[Bottleneck] = (), outer: Bottleneck | None = None
    ) -> None:
        nn.Module.__init__(self)
        self.ln_1, self.attn, self.ln_2, self.mlp = frozen.ln_1, attn, frozen.ln_2, frozen.mlp
        self.inner, self.outer = nn.ModuleList(inner), outer
        self.whole_row = any(isinstance(part, Gate) and part.over == "row" for part in self.modules())

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """As the plain one, adapters included."""
        first, second = self.inner if len(self.inner) else (nn.Identity(), nn.Identity())
        x = x + first(attended)
        out: Tensor = x + second(self.mlp(self.ln_2(x)))
        return out if self.outer is None else self.outer(out)
