"""The five tuning methods of preset `adapterhub` say what AdapterHub's modules say: tools/golden/make_adapterhub.py."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from geoglot.errors import UsageError
from geoglot.models.checkpoints.names import to_canonical
from geoglot.models.peft.attach import merge, tune
from geoglot.models.peft.files import trained
from geoglot.models.peft.settings import Method, Tuning
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.towers.clip import Clip, build

GOLDEN = Path(__file__).parent / "golden_adapterhub"
METHODS: tuple[Method, ...] = ("lora", "adapter", "prefix", "unipelt", "bitfit")
SHAPE = Architecture(
    VisionShape("vit", 16, 8, 32, (2,), 2, 64, "cls"), TextShape("clip", 12, 40, 32, 2, 2, 64), 24, "quick_gelu"
)
NAMES = (
    (r"\.golden\b", ""),
    (r"^(text|vision)_model\.encoder\.layers\.(\d)\.", r"\1.transformer.resblocks.\2."),
    (r"self_attn\.prefix_tuning\.prefix_gates\.", "attn.prefix_gate.linear."),
    (r"self_attn\.([qv])_proj\.loras\.gate\.", r"attn.change_gates.\1.linear."),
    (r"self_attn\.([qv])_proj\.loras\.", r"attn.changes.\1."),
    (r"lora_A$", "down"),
    (r"lora_B$", "up"),
    (r"output_adapters\.adapters\.gate\.", "outer.gate.linear."),
    (r"output_adapters\.adapters\.adapter_(down\.0|up)\.", r"outer.\1."),
    (r"down\.0\.", "down."),
    (r"^prefix_tunings\.clip_(text|vision)_model_self_prefix\.", r"\1.transformer.resblocks.0.attn.prefix.stem."),
    (r"wte\.", "places."),
    (r"control_trans\.0\.", "grow."),
    (r"^text\.", ""),
    (r"^vision\.", "visual."),
)
UNGATED = ((r"changes\.q\.", "parametrizations.in_proj_weight.0.parts.0."),
           (r"changes\.v\.", "parametrizations.in_proj_weight.0.parts.2."))  # fmt: skip


def settings(method: Method) -> Tuning:
    """The preset's, with the golden files' width of the prefix's network."""
    return replace(Tuning(method, preset="adapterhub").resolved(), prefix_width=16)


def plain() -> Clip:
    tensors = load_file(GOLDEN / "plain.safetensors")
    weights = {name: t for name, t in tensors.items() if name not in ("images", "ids")}
    model = build(SHAPE)
    model.load_state_dict(to_canonical(weights, "Hugging Face CLIP"), strict=True)
    assert isinstance(model, Clip)
    return model


def ours(method: Method, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """AdapterHub's tensors under our names; its prefix network has one last layer for all blocks."""
    if method == "bitfit":
        return to_canonical(theirs, "Hugging Face CLIP")
    parts: dict[str, Tensor] = {}
    for old, tensor in theirs.items():
        name = old
        for pattern, instead in NAMES + (UNGATED if method == "lora" else ()):
            name = re.sub(pattern, instead, name)
        if "control_trans.2" in name:
            for at, rows in enumerate(tensor.chunk(2)):
                parts[name.replace("resblocks.0", f"resblocks.{at}").replace("stem.control_trans.2", "last")] = rows
        else:
            parts[name] = tensor
    return parts


def tuned(method: Method, tuning: Tuning) -> tuple[Clip, dict[str, Tensor]]:
    """Our model with AdapterHub's values in it, and what AdapterHub says."""
    theirs = load_file(GOLDEN / f"{method}.safetensors")
    said = {name: theirs.pop(name) for name in ("image_embeddings", "text_embeddings")}
    model, parts = plain(), ours(method, theirs)
    tune(model, tuning)
    assert parts.keys() == trained(model).keys()
    assert {name: t.shape for name, t in parts.items()} == {name: t.shape for name, t in trained(model).items()}
    model.load_state_dict(parts, strict=False)
    return model, said


def inputs() -> tuple[Tensor, Tensor]:
    tensors = load_file(GOLDEN / "plain.safetensors")
    return tensors["images"], tensors["ids"]


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_vectors_are_adapterhubs(method: Method) -> None:
    model, said = tuned(method, settings(method))
    images, ids = inputs()
    for _ in ("as trained", "merged"):
        torch.testing.assert_close(model.encode_image(images), said["image_embeddings"], rtol=0, atol=1e-5)
        torch.testing.assert_close(model.dense(images).pooled, said["image_embeddings"], rtol=0, atol=1e-5)
        torch.testing.assert_close(model.encode_text(ids), said["text_embeddings"], rtol=0, atol=1e-5)
        torch.testing.assert_close(model.encode_text(model.needed(ids)), said["text_embeddings"], rtol=0, atol=1e-5)
        merge(model)
    for name, now in (("image", plain().encode_image(images)), ("text", plain().encode_text(ids))):
        assert torch.cosine_similarity(now, said[f"{name}_embeddings"]).min() < 0.9  # the parts do say something


@pytest.mark.parametrize("other", [{"gate": "token"}, {"alpha": 2.0}])
@torch.no_grad()
def test_other_gates_and_weights_say_other_things(other: dict[str, object]) -> None:
    """Otherwise the test above would show nothing of them."""
    model, said = tuned("unipelt", replace(settings("unipelt"), **other))  # type: ignore[arg-type]
    images, ids = inputs()
    assert (model.encode_image(images) - said["image_embeddings"]).abs().max() > 1e-3
    assert (model.encode_text(ids) - said["text_embeddings"]).abs().max() > 1e-3


@torch.no_grad()
def test_gates_over_a_row_keep_the_padding() -> None:
    model, _ = tuned("unipelt", settings("unipelt"))
    ids = inputs()[1][[0, 2]]  # 4 and 7 of 12 tokens
    assert model.needed(ids).shape == (2, 12)
    assert plain().needed(ids).shape == (2, 7)
    with pytest.raises(UsageError, match="rows of 7 tokens"):
        model.encode_text(ids[:, :7])
