"""XLM-RoBERTa as a text tower: masked mean of the tokens, then two linear layers without biases (open_clip's names).

Used by open_clip's multilingual models and RS-M-CLIP (arXiv 2410.23370).
"""

from __future__ import annotations

from torch import Tensor, nn

from geoglot.errors import MissingExtraError
from geoglot.models.towers.architecture import TextShape

_PAD, _POSITIONS = 1, 514  # of every released XLM-R: padding id, rows of the position table (512 and two reserved)


class XlmrText(nn.Module):
    """Token ids to embeddings, around transformers' XLMRobertaModel."""

    def __init__(self, shape: TextShape, dim: int) -> None:
        super().__init__()
        try:
            from transformers import XLMRobertaConfig, XLMRobertaModel
        except ImportError as error:
            raise MissingExtraError("a multilingual text tower (XLM-RoBERTa)", "torch") from error
        config = XLMRobertaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.mlp_width,
            max_position_embeddings=_POSITIONS,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            pad_token_id=_PAD,
        )
        self.transformer = XLMRobertaModel(config, add_pooling_layer=False)
        # Two unsaved index buffers that we pass in instead: on the meta device they would never get values.
        del self.transformer.embeddings.position_ids, self.transformer.embeddings.token_type_ids
        self.proj = nn.Sequential(
            nn.Linear(shape.width, shape.hidden, bias=False), nn.GELU(), nn.Linear(shape.hidden, dim, bias=False)
        )

    def forward(self, ids: Tensor) -> Tensor:
        """[B, T], padded with 1 -> [B, D], not normalised."""
        real = (ids != _PAD).long()
        positions = real.cumsum(1) * real + _PAD  # counted from 2; padding stays at 1 (fairseq's convention)
        states = self.transformer(
            input_ids=ids, attention_mask=real, position_ids=positions, token_type_ids=ids.new_zeros(ids.shape)
        ).last_hidden_state  # [B, T, W]
        mask = real[..., None].to(states.dtype)
        out: Tensor = self.proj((states * mask).sum(1) / mask.sum(1))
        return out

    def needed(self, ids: Tensor) -> Tensor:
        """[B, T] without the columns that are padding in every row."""
        return ids[:, : int((ids != _PAD).sum(1).max())]
