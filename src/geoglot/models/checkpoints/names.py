"""The layouts in which dual encoders are released, and the way from each to geoglot's names.

geoglot's names are open_clip's wherever open_clip has one: a single attention projection `attn.in_proj_weight`,
`mlp.c_fc`, `mlp.c_proj`, the text tower at the root. Renaming is a table per layout; marks at the end of a new name say
what happens to the tensor: `#q #k #v #kv` parts of one projection to be stacked, `@t` transposed, `@1` a leading axis
taken off.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from math import isqrt
from typing import Literal

import torch
from torch import Tensor

from geoglot.errors import ModelFileError

Layout = Literal[
    "open_clip CLIP", "open_clip CustomTextCLIP", "open_clip XLM-R", "open_clip SigLIP (timm)", "Hugging Face CLIP",
    "Hugging Face SigLIP", "geoglot SigLIP",
]  # fmt: skip
Rules = tuple[tuple[str, str], ...]

_HF_BLOCKS: Rules = (
    (r"encoder\.layers\.(\d+)\.", r"transformer.resblocks.\1."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.self_attn\.([qkv])_proj\.(weight|bias)$", r".attn.in_proj_\2#\1"),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.(transformer\.)", r"\1"),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.(transformer\.)", r"visual.\1"),
)
_RULES: dict[Layout, Rules] = {
    "open_clip CLIP": (),
    "open_clip XLM-R": (),
    "geoglot SigLIP": (),
    "open_clip CustomTextCLIP": ((r"^text\.", ""),),
    "open_clip SigLIP (timm)": (
        (r"^text\.", ""),
        (r"^visual\.trunk\.patch_embed\.proj\.", "visual.conv1."),
        (r"^visual\.trunk\.pos_embed$", "visual.positional_embedding@1"),
        (r"^visual\.trunk\.blocks\.(\d+)\.", r"visual.transformer.resblocks.\1."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.attn\.qkv\.(weight|bias)$", r".attn.in_proj_\1"),
        (r"\.attn\.proj\.", ".attn.out_proj."),
        (r"\.mlp\.fc1\.", ".mlp.c_fc."),
        (r"\.mlp\.fc2\.", ".mlp.c_proj."),
        (r"^visual\.trunk\.norm\.", "visual.ln_post."),
        (r"^visual\.trunk\.attn_pool\.latent$", "visual.pool.probe"),
        (r"^visual\.trunk\.attn_pool\.(q|kv)\.(weight|bias)$", r"visual.pool.attn.in_proj_\2#\1"),
        (r"^visual\.trunk\.attn_pool\.proj\.", "visual.pool.attn.out_proj."),
        (r"^visual\.trunk\.attn_pool\.norm\.", "visual.pool.ln."),
        (r"^visual\.trunk\.attn_pool\.", "visual.pool."),
    ),
    "Hugging Face CLIP": (
        *_HF_BLOCKS,
        (r"^visual_projection\.weight$", "visual.proj@t"),
        (r"^text_projection\.weight$", "text_projection@t"),
    ),
    "Hugging Face SigLIP": (
        *_HF_BLOCKS,
        (r"^text_model\.head\.", "text_projection."),
        (r"^vision_model\.head\.attention\.", "visual.pool.attn."),
        (r"^vision_model\.head\.layernorm\.", "visual.pool.ln."),
        (r"^vision_model\.head\.", "visual.pool."),
    ),
}
_PARTS = (("q", "k", "v"), ("q", "kv"))


def name_layout(names: Collection[str]) -> Layout:
    """Which layout a set of names is.

    Raises:
        ModelFileError: None of those that are known.
    """

    def some(start: str) -> bool:
        return any(name.startswith(start) for name in names)

    if some("vision_model.") and some("text_model."):
        return "Hugging Face SigLIP" if "vision_model.head.probe" in names else "Hugging Face CLIP"
    if some("visual.trunk.") and some("text."):
        return "open_clip SigLIP (timm)"
    if some("visual.") and some("text.transformer.embeddings."):
        return "open_clip XLM-R"
    if some("visual.") and "text.token_embedding.weight" in names:
        return "open_clip CustomTextCLIP"
    if some("visual.") and "token_embedding.weight" in names:
        return "geoglot SigLIP" if "visual.pool.probe" in names else "open_clip CLIP"
    some_names = ", ".join(sorted(names)[:4])
    raise ModelFileError(
        f"the weights belong to no dual encoder that is known: {len(names)} tensors, as {some_names}",
        hint="docs/reference/checkpoint-formats.md lists what is recognised; both towers must be in the file.",
    )


def to_canonical(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Tensors under geoglot's names; values and precision stay. Works on the meta device as well.

    Raises:
        ModelFileError: Two tensors want one name, or parts of an attention projection are missing.
    """
    found: dict[str, Tensor] = {}
    for old, tensor in tensors.items():
        new, tensor = _reshape(_renamed(old, _RULES[layout]), tensor)
        if new in found:
            raise ModelFileError(f"two tensors of the file are {new!r}, one of them {old!r}", hint="Save it again.")
        found[new] = tensor
    return _stack_parts(found)


def _renamed(name: str, rules: Rules) -> str:
    for pattern, instead in rules:
        name = re.sub(pattern, instead, name)
    return name


def _reshape(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    plain, _, action = name.partition("@")
    if action == "t" and tensor.ndim == 2:
        tensor = tensor.T
    elif action == "1" and tensor.ndim == 3 and tensor.shape[0] == 1:
        tensor = tensor[0]
    elif plain in {"logit_scale", "logit_bias"} and tensor.numel() == 1:
        tensor = tensor.reshape(())
    elif plain == "visual.conv1.weight" and tensor.ndim == 2:
        tensor = _patches_to_convolution(tensor)
    return plain, tensor


def _patches_to_convolution(weight: Tensor) -> Tensor:
    """[W, P*P*3] over flattened patches (rows, columns, colours; SigLIP 2 "naflex") to [W, 3, P, P]."""
    side = isqrt(weight.shape[1] // 3)
    if side * side * 3 != weight.shape[1]:
        return weight
    return weight.reshape(-1, side, side, 3).permute(0, 3, 1, 2)


def _stack_parts(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name in [name for name in tensors if "#" in name]:
        whole, _, part = name.partition("#")
        parts.setdefault(whole, {})[part] = tensors.pop(name)
    for whole, given in parts.items():
        order = next((order for order in _PARTS if set(order) == set(given)), None)
        if order is None or whole in tensors or len({part.shape[1:] for part in given.values()}) > 1:
            raise ModelFileError(
                f"the file has only the parts {', '.join(sorted(given))} of {whole!r}, or parts that do not fit",
                hint="The file is not complete; save the whole state dict.",
            )
        tensors[whole] = torch.cat([given[part] for part in order])
    return tensors
