"""What the configuration beside the weights adds to their shapes: heads, pixels, the activation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoglot.models.checkpoints.zipped import refuse
from geoglot.models.towers.architecture import Activation

ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
}
# What a configuration leaves unsaid, by transformers' configuration classes: activation, image heads, text heads.
_SIGLIP = ("gelu_pytorch_tanh", 12, 12)
_DEFAULTS = {"clip": ("quick_gelu", 12, 8), "siglip": _SIGLIP, "siglip2": _SIGLIP}


@dataclass(frozen=True, slots=True)
class Stated:
    """What a configuration states; None where it does not.

    Attributes:
        source: The file's name.
        activation: Of both towers.
        vision_heads, text_heads: Attention heads.
        image_px: Side of the native input.
        context: Most tokens of a text.
    """

    source: str
    activation: Activation | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    image_px: int | None = None
    context: int | None = None


def read_config(path: Path) -> Stated:
    """Read config.json (Hugging Face) or open_clip_config.json.

    Raises:
        ModelFileError: It is no such configuration.
    """
    try:
        table = json.loads(path.read_text("utf-8"))
        return _open_clip(path.name, table["model_cfg"]) if "model_cfg" in table else _hugging_face(path.name, table)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        refuse(path, f"it is no configuration of a dual encoder ({error!r})")


def _hugging_face(source: str, table: dict[str, Any]) -> Stated:
    activation, image_heads, text_heads = _DEFAULTS[table["model_type"]]
    vision, text = table.get("vision_config") or {}, table.get("text_config") or {}
    said = {tower.get("hidden_act", activation) for tower in (vision, text)}
    return Stated(
        source,
        ACTIVATIONS[said.pop()] if len(said) == 1 else None,
        _count(vision.get("num_attention_heads", image_heads)),
        _count(text.get("num_attention_heads", text_heads)),
        _count(vision["image_size"]) if "image_size" in vision else None,
    )


def _open_clip(source: str, table: dict[str, Any]) -> Stated:
    vision, text = table["vision_cfg"], table["text_cfg"]
    plain = "timm_model_name" not in vision
    return Stated(
        source,
        _open_clip_activation(table, plain),
        vision["width"] // vision.get("head_width", 64) if plain and not isinstance(vision["layers"], list) else None,
        _count(text["heads"]) if "heads" in text else None,
        _count(vision["image_size"]) if isinstance(vision.get("image_size"), int) else None,
        _count(text["context_length"]) if "context_length" in text else None,
    )


def _open_clip_activation(table: dict[str, Any], plain: bool) -> Activation | None:
    """open_clip says quick_gelu or means GELU; a timm image tower it leaves unsaid: the text tower speaks for it."""
    if table.get("quick_gelu", False):
        return "quick_gelu"
    if table["text_cfg"].get("act_kwargs", {}).get("approximate") == "tanh":
        return "gelu_tanh"
    return "gelu" if plain else None


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is no count")
    return value
