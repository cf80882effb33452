"""The vision transformers of CLIP and SigLIP: one pooled embedding an image, and one a patch, in the same space.

The last block's queries, keys and values are computed once. The pooled embedding needs them, the dense path attends
with them in its own way (towers/dense.py), so that patch features cost little more than an image's embedding. Where
only the class token is wanted (CLIP), the last block computes keys and values for the other tokens and nothing else,
unless it needs the whole row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.errors import UsageError
from geoglot.models.towers.architecture import Activation, VisionShape
from geoglot.models.towers.dense import Dense, LastBlock, attend
from geoglot.models.towers.positions import grid_positions
from geoglot.models.towers.transformer import Attention, Block, Mlp, Transformer, random_table


class _Vit(nn.Module):
    """Patches, positions and blocks; what both families share.

    Args:
        shape: Sizes.
        activation: Of the feed-forward layers.
        prefix: Tokens before the patches.
        eps: Of the layer norms: 1e-5 in CLIP, 1e-6 in SigLIP (as released).
    """

    own_last_block: LastBlock = "segearth"

    def __init__(self, shape: VisionShape, activation: Activation, prefix: int, eps: float) -> None:
        super().__init__()
        width, patch = shape.width, shape.patch_px
        self.prefix = prefix
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=prefix == 0)
        self.positional_embedding = random_table(prefix + shape.grid**2, width, std=width**-0.5)
        self.transformer = Transformer(width, shape.layers[0], shape.heads, shape.mlp_width, activation, eps)
        self.ln_post = nn.LayerNorm(width, eps)

    def patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """[B, 3, H, W] -> [B, Ph * Pw, width] and (Ph, Pw); a remainder of H or W is cut off, as a convolution does."""
        side = self.conv1.kernel_size[0]
        grid = (images.shape[2] // side, images.shape[3] // side)
        if 0 in grid:
            found = f"{images.shape[2]} x {images.shape[3]} px"
            raise UsageError(f"images of {found} are smaller than a patch of {side} px")
        return self.conv1(images).flatten(2).transpose(1, 2), grid


class ClipVit(_Vit):
    """CLIP's: class token, norm before the blocks, projection after them (arXiv 2103.00020).

    With "mean" pooling the image is the mean of its patches, normed before or after, as in CLIPA (arXiv 2305.07017).
    """

    def __init__(self, shape: VisionShape, dim: int, activation: Activation) -> None:
        super().__init__(shape, activation, prefix=1, eps=1e-5)
        scale = shape.width**-0.5
        self.class_embedding = random_table(shape.width, std=scale)
        self.ln_pre = nn.LayerNorm(shape.width) if shape.ln_pre else nn.Identity()
        self.mean, self.ln_pooled = shape.pooling == "mean", shape.ln_pooled
        self.proj = random_table(shape.width, dim, std=scale)

    def _last_input(self, images: Tensor) -> tuple[Tensor, Block, tuple[int, int]]:
        """The input of the last block [B, 1 + P, width], that block, and the grid."""
        patches, grid = self.patches(images)
        first = self.class_embedding.expand(images.shape[0], 1, -1)
        x = torch.cat([first, patches], 1) + grid_positions(self.positional_embedding, grid, 1)
        x, last = self.transformer.before_last(self.ln_pre(x))
        return x, last, grid

    def _pooled(self, x: Tensor, last: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The class token through the last block: queries of `_first`, keys and values of all tokens -> [B, D]."""
        attended = last.attn.merge(F.scaled_dot_product_attention(q, k, v))
        return self._project(last.finish(x[:, _first(last)], attended)[:, :1])[:, 0]

    def _project(self, x: Tensor) -> Tensor:
        out: Tensor = self.ln_post(x) @ self.proj
        return out

    def _mean(self, x: Tensor) -> Tensor:
        """All tokens after the last block [B, 1 + P, width] -> [B, D]."""
        patches = x[:, 1:]
        if self.ln_pooled:
            return self._project(patches.mean(1))
        out: Tensor = self.ln_post(patches).mean(1) @ self.proj
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, H, W] -> [B, D]."""
        x, last, _ = self._last_input(images)
        if self.mean:
            return self._mean(last(x))
        normed = last.ln_1(x)
        return self._pooled(x, last, *last.attn.split_few(normed[:, _first(last)], normed))

    def dense(self, images: Tensor, last_block: LastBlock, keep_residual: bool = False) -> Dense:
        """See models/clip.py."""
        x, last, grid = self._last_input(images)
        q, k, v = last.attn.split(last.ln_1(x))
        tokens = last.attn.merge(attend(q, k, v, last_block))
        tokens = self._project(last.finish(x, tokens) if keep_residual else tokens)  # [B, 1 + P, D]
        patches = tokens[:, 1:].reshape(images.shape[0], *grid, -1)
        if self.mean:
            ordinary = last.finish(x, last.attn.merge(F.scaled_dot_product_attention(q, k, v)))
            return Dense(self._mean(ordinary), patches, None)
        return Dense(self._pooled(x, last, q[:, :, _first(last)], k, v), patches, tokens[:, 0])


def _first(last: Block) -> slice:
    """The tokens that the class token's way through a block needs."""
    return slice(None) if last.whole_row else slice(1)


class MapPool(nn.Module):
    """SigLIP's pooling: one learned query attends to all tokens, then a feed-forward layer (arXiv 2106.04560)."""

    def __init__(self, shape: VisionShape, activation: Activation, eps: float) -> None:
        super().__init__()
        self.probe = random_table(1, 1, shape.width, std=shape.width**-0.5)
        self.attn = Attention(shape.width, shape.heads)
        self.ln = nn.LayerNorm(shape.width, eps)
        self.mlp = Mlp(shape.width, shape.mlp_width, activation)

    def _after(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.mlp(self.ln(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, W] -> [B, W]."""
        q, k, v = self.attn.split_few(self.probe, x)
        q = q.expand(x.shape[0], -1, -1, -1)  # not len(): an exporter would fix the batch
        return self._after(self.attn.merge(F.scaled_dot_product_attention(q, k, v)))[:, 0]

    def alone(self, x: Tensor) -> Tensor:
        """Each token pooled as if it were the image's only one, [B, N, W] -> [B, N, W]: its value, nothing else."""
        width = x.shape[2]
        values = F.linear(x, self.attn.in_proj_weight[2 * width :], self.attn.in_proj_bias[2 * width :])
        return self._after(self.attn.out_proj(values))


class SiglipVit(_Vit):
    """SigLIP's and SigLIP 2's at fixed resolution: no class token, attention pooling, no projection.

    Its patches have no place in the joint space of their own; we push each one through the pooling head alone, the
    counterpart of what MaskCLIP does with CLIP's ResNet. Our definition: no paper has one.
    """

    def __init__(self, shape: VisionShape, activation: Activation) -> None:
        super().__init__(shape, activation, prefix=0, eps=1e-6)
        self.pool = MapPool(shape, activation, eps=1e-6)

    def _last_input(self, images: Tensor) -> tuple[Tensor, Block, tuple[int, int]]:
        patches, grid = self.patches(images)
        x, last = self.transformer.before_last(patches + grid_positions(self.positional_embedding, grid, 0))
        return x, last, grid

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, H, W] -> [B, D]."""
        x, last, _ = self._last_input(images)
        out: Tensor = self.pool(self.ln_post(last(x)))
        return out

    def dense(self, images: Tensor, last_block: LastBlock, keep_residual: bool = False) -> Dense:
        """See models/clip.py."""
        x, last, grid = self._last_input(images)
        q, k, v = last.attn.split(last.ln_1(x))
        ordinary = last.finish(x, last.attn.merge(F.scaled_dot_product_attention(q, k, v)))
        tokens = last.attn.merge(attend(q, k, v, last_block))
        tokens = last.finish(x, tokens) if keep_residual else tokens
        patches = self.pool.alone(self.ln_post(tokens)).reshape(images.shape[0], *grid, -1)
        return Dense(self.pool(self.ln_post(ordinary)), patches, None)
