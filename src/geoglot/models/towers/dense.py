"""How the last block of an image tower attends when every patch, not only the image, shall lie in the joint space.

CLIP learns from its pooled token alone: in the last block the other tokens gather what serves that one, and lose their
own place. These variants let each patch attend to what resembles it instead. With q, k, v [B, heads, N, d] of the last
block and s = d ** -0.5, the weights applied to v are:

    vanilla    softmax(q kᵀ s)                                            CLIP, arXiv 2103.00020
    maskclip   identity                                                   arXiv 2112.01071
    sclip      softmax(q qᵀ s) + softmax(k kᵀ s)                          arXiv 2312.01597
    clearclip  softmax(q qᵀ s)                                            arXiv 2407.12442
    segearth   softmax(q qᵀ s) + softmax(k kᵀ s) + softmax(v vᵀ s)        arXiv 2410.01768; a sum, not a mean

Token 0 (the class token, where there is one) takes part like a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attention

from geoglot.errors import UnknownNameError

LastBlock = Literal["vanilla", "maskclip", "sclip", "clearclip", "segearth"]


@dataclass(frozen=True, slots=True)
class Dense:
    """The output of an image tower for B images, from one pass.

    Attributes:
        pooled: The image embedding [B, D] of the ordinary path; not normalised.
        patches: [B, Ph, Pw, D] in the joint space; not normalised.
        class_token: Token 0 of the modified path, [B, D], for methods that subtract it from the patches; None for
            SigLIP, which has no such token.
    """

    pooled: Tensor
    patches: Tensor
    class_token: Tensor | None


_VARIANTS: dict[LastBlock, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "vanilla": lambda q, k, v: attention(q, k, v),
    "maskclip": lambda q, k, v: v,
    "sclip": lambda q, k, v: attention(q, q, v) + attention(k, k, v),
    "clearclip": lambda q, k, v: attention(q, q, v),
    "segearth": lambda q, k, v: attention(q, q, v) + attention(k, k, v) + attention(v, v, v),
}

LAST_BLOCKS: tuple[LastBlock, ...] = tuple(_VARIANTS)


def attend(q: Tensor, k: Tensor, v: Tensor, last_block: LastBlock) -> Tensor:
    """The chosen weights applied to v: [B, heads, N, d], all three and the result.

    Raises:
        UnknownNameError: No such variant.
    """
    if last_block not in _VARIANTS:
        raise UnknownNameError("last block", last_block, LAST_BLOCKS)
    return _VARIANTS[last_block](q, k, v)
