"""Facts that the configuration adds to the shapes of the weights: heads, pixels, activation, pooling, masks.

Each key is read, changes no embedding, has the only value that we build, or is refused by name: config_keys.toml. A
setting that is passed over gives vectors that look right and are wrong.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from geoglot.config import from_table
from geoglot.errors import UsageError
from geoglot.models.checkpoints.zipped import refuse
from geoglot.models.towers.architecture import Activation, TextPooling
from geoglot.models.zoo.origin import Preprocess

ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
}
_TEXT_POOLINGS: dict[str, TextPooling] = {"argmax": "highest", "last": "last", "first": "first", "eos": "end"}
# transformers' defaults for keys that a configuration leaves out: activation, image heads, text heads.
_SIGLIP = ("gelu_pytorch_tanh", 12, 12)
_DEFAULTS = {"clip": ("quick_gelu", 12, 8), "siglip": _SIGLIP, "siglip2": _SIGLIP}
_HUGGING_FACE_SIZES = {"hidden_size": "width", "intermediate_size": "mlp_width", "patch_size": "patch_px"}
_LEGACY_END = 2  # in transformers: "at the highest id", whatever the end token's own id

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stated:
    """The facts in a configuration; None where it does not state one.

    Attributes:
        source: The file's name.
        activation: Of both towers.
        vision_heads, text_heads: Attention heads.
        image_px: Side of the native input.
        context: Most tokens of a text.
        mean_pooling: The image is the mean of its patches, not its class token.
        ln_pre, ln_pooled: See VisionShape.
        text_pooling, causal, end_id: See TextShape.
        vision_eps, text_eps: Of the layer norms.
        sizes: What shapes must say, too: ("image width", 768).
        preprocess: How images become the input.
    """

    source: str
    activation: Activation | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    image_px: int | None = None
    context: int | None = None
    mean_pooling: bool = False
    ln_pre: bool = True
    ln_pooled: bool = False
    text_pooling: TextPooling | None = None
    causal: bool | None = None
    end_id: int = 0
    vision_eps: float | None = None
    text_eps: float | None = None
    sizes: tuple[tuple[str, int], ...] = ()
    preprocess: Preprocess | None = None


def read_config(path: Path) -> Stated:
    """Read config.json (Hugging Face) or open_clip_config.json.

    Raises:
        ModelFileError: It is no such configuration, or states what geoglot does not know.
    """
    try:
        table = json.loads(path.read_text("utf-8"))
        return _open_clip(path, table) if "model_cfg" in table else _hugging_face(path, table)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        refuse(path, f"it is no configuration of a dual encoder ({error!r})")


@cache
def _keys() -> Table:
    return tomllib.loads(resources.files(__package__).joinpath("config_keys.toml").read_text("utf-8"))


def _check_keys(path: Path, family: str, name: str, table: Mapping[str, Any]) -> None:
    """Refuse what a table states beyond what is read or idle. A value of null is unset."""
    rules = _keys()[family][name]
    free = {key for kind in ("read", "idle", "tokenizer") for key in rules.get(kind, ())}
    free |= set(_keys()[family].get("any", {}).get("idle", ()))
    only = rules.get("only", {})
    for key, value in table.items():
        if value is None or key in free or (key in only and value in only[key]):
            continue
        refuse(
            path,
            f"its {name} states {key} = {json.dumps(value)[:80]}, which geoglot does not build",
            "Its vectors would be wrong. Only models with the settings of CLIP, CLIPA, SigLIP and XLM-R CLIP are read.",
        )


def _hugging_face(path: Path, table: Table) -> Stated:
    activation, image_heads, text_heads = _DEFAULTS[table["model_type"]]
    _check_keys(path, "hugging_face", "file", table)
    towers = []
    for name in ("vision_config", "text_config"):  # old files hold a second table, which wins
        tower = (table.get(name) or {}) | (table.get(f"{name}_dict") or {})
        _check_keys(path, "hugging_face", name, tower)
        towers.append(tower)
    vision, text = towers
    said = {tower.get("hidden_act", activation) for tower in towers}
    end = text.get("eos_token_id", _LEGACY_END) if table["model_type"] == "clip" else _LEGACY_END
    highest = end in (None, _LEGACY_END) or end == text.get("vocab_size", 49408) - 1
    return Stated(
        path.name,
        ACTIVATIONS[said.pop()] if len(said) == 1 else None,
        _count(vision.get("num_attention_heads", image_heads)),
        _count(text.get("num_attention_heads", text_heads)),
        _count(vision["image_size"]) if "image_size" in vision else None,
        text_pooling=None if highest else "end",
        end_id=0 if highest else _count(end),
        vision_eps=vision.get("layer_norm_eps"),
        text_eps=text.get("layer_norm_eps"),
        sizes=_sizes("image", vision, _HUGGING_FACE_SIZES) + _sizes("text", text, _HUGGING_FACE_SIZES),
    )


def _open_clip(path: Path, table: Table) -> Stated:
    model = table["model_cfg"]
    vision, text, pixels = model["vision_cfg"], model["text_cfg"], table.get("preprocess_cfg")
    tables = {"file": table, "model_cfg": model, "vision_cfg": vision, "text_cfg": text, "preprocess_cfg": pixels or {}}
    for name, one in tables.items():
        _check_keys(path, "open_clip", name, one)
    _check_hugging_face_text(path, text)
    plain = not vision.get("timm_model_name")
    transformer = plain and not isinstance(vision["layers"], list)
    own_text = not text.get("hf_model_name")
    pooling = text.get("pool_type") or "argmax"
    if vision.get("pool_type", "tok") not in ("tok", "avg") or pooling not in _TEXT_POOLINGS:
        said = f"{vision.get('pool_type', 'tok')!r} of images, {pooling!r} of texts"
        refuse(path, f"its pool_type is not known ({said})", "Known are tok and avg; argmax, last, first and eos.")
    return Stated(
        path.name,
        _open_clip_activation(path, model, plain),
        vision["width"] // vision.get("head_width", 64) if transformer else None,
        _count(text["heads"]) if "heads" in text else None,
        _count(vision["image_size"]) if isinstance(vision.get("image_size"), int) else None,
        _count(text["context_length"]) if "context_length" in text else None,
        mean_pooling=vision.get("pool_type") == "avg",
        ln_pre=not vision.get("no_ln_pre", False),
        ln_pooled=bool(vision.get("final_ln_after_pool", False)) and vision.get("pool_type") == "avg",
        text_pooling=_TEXT_POOLINGS[pooling] if own_text else None,
        causal=not text.get("no_causal_mask", False) if own_text else None,
        end_id=_end_id(text) if pooling == "eos" else 0,
        vision_eps=(vision.get("norm_kwargs") or {}).get("eps", 1e-5) if transformer else None,
        text_eps=(text.get("norm_kwargs") or {}).get("eps", 1e-5) if own_text else None,
        sizes=(_sizes("image", vision, {"width": "width", "patch_size": "patch_px"}) if transformer else ())
        + (_sizes("text", text, {"width": "width", "layers": "layers"}) if own_text else ()),
        preprocess=_preprocess(path, pixels) if pixels else None,
    )


def _check_hugging_face_text(path: Path, text: Table) -> None:
    name = text.get("hf_model_name")
    if name and "xlm-roberta" not in name:
        refuse(path, f"its text tower is {name!r}", "Of Hugging Face's text towers only XLM-RoBERTa is built.")


def _open_clip_activation(path: Path, table: Table, plain: bool) -> Activation | None:
    """open_clip states quick_gelu, or means GELU. It states nothing for a timm image tower: the text tower decides."""
    said = []
    for name in ("vision_cfg", "text_cfg")[0 if plain else 1 :]:
        more = table[name].get("act_kwargs") or {}
        if more not in ({}, {"approximate": "none"}, {"approximate": "tanh"}):
            refuse(path, f"its {name} states act_kwargs = {more!r}", "GELU, its tanh form and quick GELU are built.")
        tanh: Activation = "gelu_tanh" if more.get("approximate") == "tanh" else "gelu"
        said.append("quick_gelu" if table.get("quick_gelu", False) else tanh)
    if len(set(said)) > 1:
        refuse(path, f"its towers have the activations {' and '.join(said)}", "Both towers must have the same.")
    return said[0] if plain or said[0] != "gelu" else None


def _preprocess(path: Path, table: Table) -> Preprocess:
    known = {"mean", "std", "interpolation"}
    values = {key: value for key, value in table.items() if key in known and value is not None}
    values["resize"] = table.get("resize_mode") or "shortest"
    try:
        return from_table(Preprocess, values, "preprocess_cfg")
    except UsageError as error:
        refuse(path, f"its preprocess_cfg is not known ({error})", "Give a card that says how images become input.")


def _sizes(tower: str, table: Table, keys: dict[str, str]) -> tuple[tuple[str, int], ...]:
    return tuple((f"{tower} {name}", _count(table[key])) for key, name in keys.items() if table.get(key) is not None)


def _end_id(text: Table) -> int:
    end = text.get("eos_id", 2)
    if type(end) is not int or end < 0:
        raise ValueError(f"eos_id {end!r} is no token")
    return end


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is no count")
    return value
