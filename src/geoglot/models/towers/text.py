"""The text transformers of CLIP (77 tokens, or 248 as Long-CLIP) and SigLIP, with open_clip's names.

In those names the text tower's tensors lie at the root of the model, so models/clip.py inherits from this class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoglot.errors import UsageError
from geoglot.models.towers.architecture import Activation, TextShape
from geoglot.models.towers.transformer import Transformer, random_table


class TextTransformer(nn.Module):
    """Token ids to embeddings.

    "clip": each token sees those before it, and the text is read off at its end token, the vocabulary's highest id.
    "siglip": all tokens see each other, padding too, and the text is read off at the last position. TextShape's mask
    and pooling change either.
    """

    def __init__(self, shape: TextShape, dim: int, activation: Activation) -> None:
        super().__init__()
        clip = shape.kind == "clip"
        self.causal, self.read_at, self.end_id = shape.causal, shape.read_at, shape.end_id
        self.context = shape.context
        eps = 1e-5 if clip else 1e-6  # as released
        self.token_embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.positional_embedding = random_table(shape.context, shape.width, std=0.01)
        self.transformer = Transformer(shape.width, shape.layers, shape.heads, shape.mlp_width, activation, eps)
        self.ln_final = nn.LayerNorm(shape.width, eps)
        width = shape.width
        self.text_projection = random_table(width, dim, std=width**-0.5) if clip else nn.Linear(width, dim)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids [B, T] -> [B, D], not normalised; T is the context, or what `needed` leaves of it.

        Raises:
            UsageError: T does not suit the tower.
        """
        length = ids.shape[1]
        if length > self.context or (not self.trims and length != self.context):
            raise UsageError(f"rows of {length} tokens do not suit a text tower of {self.context}")
        x = self.token_embedding(ids) + self.positional_embedding[:length]  # [B, T, W]
        x = self.transformer(x, causal=self.causal)
        pooled = self.ln_final(x[torch.arange(ids.shape[0], device=ids.device), self._place(ids)])  # [B, W]
        project = self.text_projection
        out: Tensor = project(pooled) if isinstance(project, nn.Linear) else pooled @ project
        return out

    def needed(self, ids: Tensor) -> Tensor:
        """[B, T] without the columns that no text needs: shorter rows, the same embeddings."""
        return ids[:, : int(self._place(ids).max()) + 1] if self.trims else ids

    @property
    def trims(self) -> bool:
        """Whether what follows the place where a text is read off changes nothing."""
        return self.causal and self.read_at != "last" and not self.transformer.whole_row

    def _place(self, ids: Tensor) -> Tensor:
        """Where each text is read off, int64 [B]."""
        if self.read_at == "highest":
            return ids.argmax(1)
        if self.read_at == "end":
            return (ids == self.end_id).int().argmax(1)
        return torch.full_like(ids[:, 0], 0 if self.read_at == "first" else ids.shape[1] - 1)
