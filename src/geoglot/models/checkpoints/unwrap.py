"""From what a trainer saved to a flat table of tensors, with the names of the plain model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geoglot.errors import ModelFileError
from geoglot.models.checkpoints.zipped import refuse

WRAPPINGS = ("state_dict", "model", "model_state_dict")
# ITRA, the trainer behind some remote-sensing CLIPs, names its two towers otherwise.
_ITRA = (("text_backbone.", ""), ("image_backbone.", "visual."))
# Numbers that OpenAI keeps among the weights, and buffers that follow from the architecture.
_NOT_WEIGHTS = re.compile(r"(^|\.)(input_resolution|context_length|vocab_size|attn_mask|position_ids|token_type_ids)$")
# Files that people have beside their dual encoders; the first pattern that some name matches says what it is.
FOREIGN = (
    (r"sam_(prompt_encoder|mask_decoder)|clip_(vision|text)_encoder\.base_model", "an RSRefSeg 2 segmentation model"),
    (r"(^|\.)lora_[AB](\.|$)|(^|\.)base_layer\.|^base_model\.model\.", "a LoRA adapter (peft), or a model with one"),
    (r"^image_encoder\.trunk\.|^(obj_ptr|maskmem|memory_encoder)", "a SAM 2 segmentation model"),
    (r"^image_encoder\.patch_embed\.seq\.", "a MobileSAM segmentation model"),
    (r"^image_encoder\.blocks\.", "a SAM segmentation model"),
    (r"^(vision_encoder\.(layers|neck)|shared_image_embedding)\.", "a SAM segmentation model (Hugging Face)"),
    (r"^(qformer|language_model)\.", "a captioning model (BLIP-2)"),
)


def unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by plain name, and notes on what was left out.

    A trainer's table keeps its state dict under one of WRAPPINGS; optimiser, scaler and teacher stay behind. One
    leading `module.` goes, ITRA's names become open_clip's, numbers that are no weights go.

    Raises:
        ModelFileError: No table of tensors, tensors that are no plain dense ones, or a model of another kind.
    """
    table, notes = _inner(content, path)
    tensors = {name: value.detach() for name, value in table.items() if _is_tensor(name, value, path)}
    if not tensors:
        refuse(path, "it holds no tensors", "Give the file with the model's weights.")
    tensors = _rename(tensors, path)
    _refuse_foreign(tensors, path)
    dropped = sorted(name for name in tensors if _NOT_WEIGHTS.search(name))
    if dropped:
        notes.append(f"left out, no weights: {', '.join(dropped)}")
    return {name: value for name, value in tensors.items() if name not in dropped}, tuple(notes)


def _inner(content: Any, path: Path) -> tuple[Mapping[str, Any], list[str]]:
    if not isinstance(content, Mapping):
        refuse(path, f"it holds a {type(content).__name__}, not a table of tensors", "Save model.state_dict().")
    for key in WRAPPINGS:
        if isinstance(content.get(key), Mapping):
            others = sorted(str(other) for other in content if other != key)
            return content[key], [f"taken from {key!r}"] + ([f"left behind: {', '.join(others)}"] if others else [])
    return content, []


def _is_tensor(name: Any, value: Any, path: Path) -> bool:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        refuse(path, f"its entry {name!r} is a {type(value).__name__}, not a tensor", "Save model.state_dict() alone.")
    if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        refuse(path, f"its tensor {name!r} is not stored in full", "Save dense, contiguous tensors.")
    return True


def _rename(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    renamed = {_plain(name.removeprefix(prefix)): value for name, value in tensors.items()}
    if len(renamed) < len(tensors):
        refuse(path, "two of its names become one when prefixes are taken off")
    return renamed


def _plain(name: str) -> str:
    for start, instead in _ITRA:
        if name.startswith(start):
            return instead + name.removeprefix(start)
    return name


def _refuse_foreign(tensors: Mapping[str, Tensor], path: Path) -> None:
    for pattern, what in FOREIGN:
        if name := next((name for name in tensors if re.search(pattern, name)), None):
            raise ModelFileError(
                f"{path} is {what}, not a dual encoder: it holds {name!r}",
                hint="This reader takes CLIP and SigLIP models; merge an adapter into its model first.",
            )
