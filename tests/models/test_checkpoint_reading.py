"""Reading weights: wrappings, layouts, who says the activation, what is refused and how it is said."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from argparse import Namespace
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from geoglot.errors import ModelFileError, ModelNotFoundError, UnknownNameError, UsageError
from geoglot.models.card import Card
from geoglot.models.checkpoints.convert import convert_checkpoint, load_for_card
from geoglot.models.checkpoints.detect import detect
from geoglot.models.checkpoints.load import load_checkpoint
from geoglot.models.checkpoints.open import read_tensors
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.towers.clip import build
from geoglot.models.zoo.origin import Doubts

CLIP = Architecture(
    VisionShape("vit", 16, 8, 64, (2,), 1, 96, "cls"), TextShape("clip", 77, 30, 64, 2, 1, 80), 16, "quick_gelu"
)
LONG = replace(CLIP, text=replace(CLIP.text, context=248))
SIGLIP = Architecture(
    VisionShape("vit", 16, 8, 64, (1,), 2, 96, "map"), TextShape("siglip", 16, 30, 64, 1, 2, 80), 64, "gelu_tanh"
)
State = dict[str, Tensor]


def _state(architecture: Architecture = CLIP) -> State:
    torch.manual_seed(3)
    return {name: torch.randn(t.shape) for name, t in build(architecture, device="meta").state_dict().items()}


def _save(folder: Path, content: Any, name: str = "model.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def _same(found: State, expected: State) -> bool:
    return set(found) == set(expected) and all(torch.equal(found[name], t) for name, t in expected.items())


# --- wrappings -----------------------------------------------------------------------------------


def _trainer(state: State, prefix: str) -> dict[str, Any]:
    return {
        "epoch": np.int64(20),
        "name": "run",
        "best": np.float64(0.7),
        "loss": np.float32(0.5),
        "state_dict": OrderedDict((prefix + name, t) for name, t in state.items()),
        "state_dict_teacher": {name: torch.zeros(1) for name in state},
        "optimizer": {"state": {0: {"exp_avg": torch.randn(9)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "scaler": {"scale": 65536.0},
    }


def test_wrappings_come_off(tmp_path: Path) -> None:
    state = _state()
    wrapped = {
        "bare": state,
        "model": {"model": state},
        "trainer": _trainer(state, ""),
        "parallel": _trainer(state, "module."),
        "parameters": {name: torch.nn.Parameter(t) for name, t in state.items()},
        "extras": state | {"input_resolution": torch.tensor(16), "context_length": torch.tensor(77)},
        "buffers": state | {"attn_mask": torch.full((77, 77), -torch.inf)},
    }
    for name, content in wrapped.items():
        loaded = load_checkpoint(_save(tmp_path, content, f"{name}.pt"), architecture=CLIP)
        assert _same(loaded.tensors, state), name
        assert not any(t.requires_grad for t in loaded.tensors.values())
    notes = load_checkpoint(tmp_path / "trainer.pt", architecture=CLIP).notes
    assert any("optimizer" in note and "state_dict_teacher" in note for note in notes)


def test_only_one_module_prefix_comes_off(tmp_path: Path) -> None:
    path = _save(tmp_path, {f"module.module.{name}": t for name, t in _state().items()})
    with pytest.raises(ModelFileError, match="module"):
        load_checkpoint(path, architecture=CLIP)


def test_mapped_tensors_are_not_read_before_they_are_used(tmp_path: Path) -> None:
    """A mapped file of 64 MB costs next to no memory of this process's own."""
    import psutil

    path = _save(tmp_path, {"state_dict": {"a": torch.ones(1000)}, "optimizer": {"b": torch.ones(16_000_000)}})
    before = psutil.Process().memory_full_info().uss
    tensors = read_tensors(path)
    assert psutil.Process().memory_full_info().uss - before < 32_000_000
    assert tensors["a"].sum() == 1000


# --- layouts -------------------------------------------------------------------------------------


def _nested(state: State) -> State:
    return {n if n.startswith(("visual.", "logit_")) else f"text.{n}": t for n, t in state.items()}


def _itra(state: State) -> State:
    def name(old: str) -> str:
        if old.startswith("visual."):
            return old.replace("visual.", "image_backbone.", 1)
        return old if old.startswith("logit_") else f"text_backbone.{old}"

    return {name(n): t for n, t in state.items()}


def test_other_layouts_of_the_same_model(tmp_path: Path) -> None:
    state = _state()
    for make, layout in ((_nested, "open_clip CustomTextCLIP"), (_itra, "open_clip CLIP")):
        loaded = load_checkpoint(_save(tmp_path, {"state_dict": make(state)}), architecture=CLIP)
        assert loaded.layout == layout
        assert _same(loaded.tensors, state)


def _naflex(state: State) -> State:
    """SigLIP 2 "naflex" as Hugging Face names it, written out by hand for one block a tower."""
    out: State = {}
    for tower, ours in (("vision_model", "visual."), ("text_model", "")):
        block, theirs = f"{ours}transformer.resblocks.0.", f"{tower}.encoder.layers.0."
        for kind in ("weight", "bias"):
            for part, rows in zip("qkv", state[f"{block}attn.in_proj_{kind}"].chunk(3), strict=True):
                out[f"{theirs}self_attn.{part}_proj.{kind}"] = rows
            out[f"{theirs}self_attn.out_proj.{kind}"] = state[f"{block}attn.out_proj.{kind}"]
            out[f"{theirs}layer_norm1.{kind}"] = state[f"{block}ln_1.{kind}"]
            out[f"{theirs}layer_norm2.{kind}"] = state[f"{block}ln_2.{kind}"]
            out[f"{theirs}mlp.fc1.{kind}"] = state[f"{block}mlp.c_fc.{kind}"]
            out[f"{theirs}mlp.fc2.{kind}"] = state[f"{block}mlp.c_proj.{kind}"]
    for kind in ("weight", "bias"):
        out[f"vision_model.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
        out[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        out[f"text_model.head.{kind}"] = state[f"text_projection.{kind}"]
        out[f"vision_model.head.attention.in_proj_{kind}"] = state[f"visual.pool.attn.in_proj_{kind}"]
        out[f"vision_model.head.attention.out_proj.{kind}"] = state[f"visual.pool.attn.out_proj.{kind}"]
        out[f"vision_model.head.layernorm.{kind}"] = state[f"visual.pool.ln.{kind}"]
        out[f"vision_model.head.mlp.fc1.{kind}"] = state[f"visual.pool.mlp.c_fc.{kind}"]
        out[f"vision_model.head.mlp.fc2.{kind}"] = state[f"visual.pool.mlp.c_proj.{kind}"]
    out["vision_model.head.probe"] = state["visual.pool.probe"]
    patches = state["visual.conv1.weight"]  # [W, 3, rows, columns] -> pixels row by row, colours last
    pixels = [patches[:, :, y, x] for y in range(patches.shape[2]) for x in range(patches.shape[3])]
    out["vision_model.embeddings.patch_embedding.weight"] = torch.cat(pixels, dim=1)
    out["vision_model.embeddings.patch_embedding.bias"] = state["visual.conv1.bias"]
    out["vision_model.embeddings.position_embedding.weight"] = state["visual.positional_embedding"]
    out["text_model.embeddings.token_embedding.weight"] = state["token_embedding.weight"]
    out["text_model.embeddings.position_embedding.weight"] = state["positional_embedding"]
    out["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    return out | {"logit_scale": state["logit_scale"][None], "logit_bias": state["logit_bias"][None]}


def test_siglip2_naflex_in_parts(tmp_path: Path) -> None:
    state = _state(SIGLIP)
    theirs = sorted(_naflex(state).items())
    parts = {"model-1.safetensors": dict(theirs[:20]), "model-2.safetensors": dict(theirs[20:])}
    for file, tensors in parts.items():
        save_file({name: t.contiguous() for name, t in tensors.items()}, tmp_path / file)
    index = {name: file for file, tensors in parts.items() for name in tensors}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    tower = {"num_attention_heads": 2}
    config = {"model_type": "siglip2", "vision_config": tower, "text_config": tower}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_checkpoint(tmp_path)
    assert loaded.architecture == SIGLIP
    assert _same(loaded.tensors, state)

    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"model-2\.safetensors"):
        load_checkpoint(tmp_path)


def test_long_clip_is_folded_and_never_cut(tmp_path: Path) -> None:
    state = _state(LONG)
    table = state["positional_embedding"]
    two = state | {"positional_embedding_res": table.clone(), "positional_embedding": torch.zeros_like(table)}
    two["positional_embedding"][:20] = table[:20]
    two["positional_embedding_res"][:20] = 9.0
    assert _same(load_checkpoint(_save(tmp_path, two), architecture=LONG).tensors, state)
    with pytest.raises(ModelFileError, match="text context 248 in the file, 77 wanted"):
        load_checkpoint(tmp_path / "model.pt", architecture=CLIP)
    found = detect({name: tuple(t.shape) for name, t in two.items()})
    assert found.text.context == 248
    assert any("folded" in note for note in found.notes)


# --- who says the activation ---------------------------------------------------------------------

TIMM = {"timm_model_name": "vit_base_patch16_siglip_256"}


def test_nobody_says_the_activation(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing states the activation") as caught:
        load_checkpoint(_save(tmp_path, _state()))
    assert "quick_gelu" in caught.value.hint
    assert "card" in caught.value.hint


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_cfg": {"vision_cfg": {"width": 64, "layers": 2}, "text_cfg": {}, "quick_gelu": True}}, "quick_gelu"),
        ({"model_cfg": {"vision_cfg": {"width": 64, "layers": 2}, "text_cfg": {}}}, "gelu"),
        ({"model_cfg": {"vision_cfg": TIMM, "text_cfg": {"act_kwargs": {"approximate": "tanh"}}}}, "gelu_tanh"),
        ({"model_cfg": {"vision_cfg": TIMM, "text_cfg": {}}}, None),
        ({"model_type": "clip"}, "quick_gelu"),  # what Hugging Face leaves unsaid
        ({"model_type": "siglip"}, "gelu_tanh"),
        (
            {"model_type": "clip", "vision_config": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "gelu"}},
            "gelu",
        ),
        ({"model_type": "clip", "vision_config": {"hidden_act": "gelu"}}, None),  # the towers disagree
    ],
)
def test_configurations_by_hand(config: dict[str, Any], expected: str | None, tmp_path: Path) -> None:
    from geoglot.models.checkpoints.config import read_config

    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert read_config(path).activation == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_type": "bert"}', '{"model_cfg": 3}', "[" * 100_000])
def test_other_configurations_are_refused(text: str, tmp_path: Path) -> None:
    save_file(_state(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelFileError, match="configuration"):
        load_checkpoint(tmp_path)


def _folder(folder: Path, quick: bool) -> Path:
    save_file(_state(), folder / "open_clip_model.safetensors")
    config = {"vision_cfg": {"image_size": 16, "width": 64, "layers": 2}, "text_cfg": {"heads": 1}, "quick_gelu": quick}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


def test_card_configuration_and_caller(tmp_path: Path) -> None:
    folder = _folder(tmp_path, quick=False)
    assert load_checkpoint(folder).architecture == replace(CLIP, activation="gelu")
    said = load_checkpoint(folder, activation="quick_gelu")
    assert (said.architecture, said.source) == (CLIP, "said by the caller")
    with pytest.raises(ModelFileError, match=r"activation gelu in open_clip_config\.json, quick_gelu wanted"):
        load_checkpoint(folder, architecture=CLIP)
    with pytest.raises(UsageError, match="was asked for"):
        load_checkpoint(folder, architecture=CLIP, activation="gelu")
    with pytest.raises(UnknownNameError, match="relu"):
        load_checkpoint(folder, activation="relu")  # type: ignore[arg-type]


def test_summary_is_one_line_with_all_that_was_decided(tmp_path: Path) -> None:
    summary = load_checkpoint(_save(tmp_path, _state(LONG)), activation="quick_gelu").summary
    assert "\n" not in summary
    for part in ("/8", "open_clip CLIP", "patch 8", "grid 2x2", "width 64", "context 248", "quick_gelu", "caller"):
        assert part in summary


def _card(doubts: Doubts) -> Card:
    return Card("m", "1", 16, 16, ("en",), None, (), architecture=CLIP, doubts=doubts)


def test_a_card_in_doubt_asks_or_lets_the_file_decide(tmp_path: Path) -> None:
    short, long = _save(tmp_path, _state(), "short.pt"), _save(tmp_path, _state(LONG), "long.pt")
    with pytest.raises(ModelFileError, match="248"):
        load_for_card(long, _card(Doubts()))
    either = _card(Doubts(context="detect"))
    assert load_for_card(short, either).architecture == CLIP
    assert load_for_card(long, either).architecture == LONG
    with pytest.raises(UsageError, match=r"the activation of .* is not known"):
        load_for_card(short, _card(Doubts(activation="undecided")))
    chosen = load_for_card(short, _card(Doubts(activation="undecided")), activation="gelu")
    assert chosen.architecture.activation == "gelu"
    with pytest.raises(UsageError, match="'gelu' was asked for"):
        load_for_card(short, _card(Doubts()), activation="gelu")


# --- strictness ----------------------------------------------------------------------------------


def test_missing_left_over_and_misshapen_tensors_are_listed(tmp_path: Path) -> None:
    state = _state()
    del state["ln_final.bias"]
    state["visual.head.weight"] = torch.zeros(3)
    state["visual.proj"] = torch.zeros(64, 16)
    state["logit_scale"] = torch.zeros(2)
    with pytest.raises(ModelFileError) as caught:
        load_checkpoint(_save(tmp_path, state), architecture=CLIP)
    for part in ("1 missing: ln_final.bias", "1 left over: visual.head.weight", "1 of another shape: logit_scale"):
        assert part in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensors_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    state = _state()
    state["visual.conv1.weight"][3, 1, 2, 2] = value
    with pytest.raises(ModelFileError, match=r"visual\.conv1\.weight.*NaN or Inf"):
        load_checkpoint(_save(tmp_path, state), architecture=CLIP)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    state = _state()
    state["visual.proj"] = state["visual.proj"].to(torch.int8)
    with pytest.raises(ModelFileError, match="int8"):
        load_checkpoint(_save(tmp_path, state), architecture=CLIP)


def test_another_architecture_than_the_cards_names_both(tmp_path: Path) -> None:
    wanted = replace(CLIP, vision=replace(CLIP.vision, patch_px=16, width=768, mlp_width=3072))
    with pytest.raises(ModelFileError) as caught:
        load_checkpoint(_save(tmp_path, _state()), architecture=wanted)
    for part in ("ViT-width 64/8", "ViT-B/16", "image patch_px 8 in the file, 16 wanted"):
        assert part in str(caught.value)


def test_heads_that_nobody_says(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="attention heads"):
        load_checkpoint(_save(tmp_path, _state(SIGLIP)), activation="gelu_tanh")


def test_half_a_projection_is_refused(tmp_path: Path) -> None:
    theirs = _naflex(_state(SIGLIP))
    del theirs["vision_model.encoder.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(ModelFileError, match="parts q, v"):
        load_checkpoint(_save(tmp_path, theirs), architecture=SIGLIP)


# --- files that are something else ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("backbone.model.sam_mask_decoder.iou_token.weight", "RSRefSeg 2"),
        ("clip_vision_encoder.base_model.model.model.x.lora_A.default.weight", "RSRefSeg 2"),
        ("base_model.model.text_model.q_proj.lora_A.default.weight", "LoRA"),
        ("visual.transformer.resblocks.0.attn.out_proj.base_layer.weight", "LoRA"),
        ("image_encoder.trunk.blocks.0.norm1.weight", "SAM 2"),
        ("image_encoder.blocks.0.norm1.weight", "a SAM segmentation"),
        ("image_encoder.patch_embed.seq.0.c.weight", "MobileSAM"),
        ("vision_encoder.layers.0.attn.qkv.weight", "Hugging Face"),
        ("qformer.encoder.layer.0.weight", "BLIP-2"),
    ],
)
def test_other_models_are_named(name: str, what: str, tmp_path: Path) -> None:
    for content in ({name: torch.zeros(1)}, {"model": {f"module.{name}": torch.zeros(1)}}):
        with pytest.raises(ModelFileError, match=what):
            load_checkpoint(_save(tmp_path, content), architecture=CLIP)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([torch.zeros(1)], "a list, not a table"),
        (torch.zeros(3), "a Tensor, not a table"),
        ({"a": 1}, "a int, not a tensor"),
        ({}, "no tensors"),
        ({"a": torch.zeros(1), "b": "text"}, "a str, not a tensor"),
        ({"a": torch.zeros(1).expand(10**12)}, "not stored in full"),
        ({"a": torch.zeros(1)}, "no dual encoder that is known"),
        ({"state_dict": {"a": torch.zeros(1)}, "args": Namespace(lr=1)}, "argparse.Namespace"),
        ({"visual.conv1.weight": torch.zeros(2, 2).to_sparse()}, "_rebuild_sparse_tensor"),
    ],
)
def test_other_contents_are_refused(content: Any, what: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=what):
        load_checkpoint(_save(tmp_path, content), architecture=CLIP)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("pickle")
        info.size = 10
        tar.addfile(info, io.BytesIO(bytes(10)))
    return buffer.getvalue()


def _legacy() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("run/epoch_20.pt", b"x" * 100)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "neither"),
        (b"\0" * 700, "neither"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (_tar(), "tar archive"),
        (_legacy(), "bare pickle"),
        (pickle.dumps({"a": np.zeros(3)}), "bare pickle"),
        (b"cos\nsystem\n(S'true'\ntR.", "neither"),
        (_zipped(), r"no data\.pkl"),
        (b"PK\x05\x06" + bytes(18), "zip|archive"),
    ],
)
def test_other_files_are_named(content: bytes, what: str, tmp_path: Path) -> None:
    for name in ("model.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match=what) as caught:
            read_tensors(tmp_path / name)
        assert caught.value.hint


def test_missing_files_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nothing"):
        read_tensors(tmp_path / "nothing.pt")
    with pytest.raises(ModelFileError, match=r"looked for model\.safetensors"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_half_downloaded_files_are_refused(share: float, tmp_path: Path) -> None:
    save_file(_state(), tmp_path / "whole.safetensors")
    for path in (_save(tmp_path, _state()), tmp_path / "whole.safetensors"):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelFileError):
            read_tensors(path)


def test_checksums(tmp_path: Path) -> None:
    import hashlib

    path = _save(tmp_path, _state())
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_checkpoint(path, architecture=CLIP, sha256=right.upper()).architecture == CLIP
    with pytest.raises(ModelFileError, match=right):
        load_checkpoint(path, architecture=CLIP, sha256="0" * 64)
    with pytest.raises(UsageError, match="folder"):
        read_tensors(tmp_path, sha256=right)


def test_metadata_of_what_is_converted(tmp_path: Path) -> None:
    from safetensors import safe_open

    out = convert_checkpoint(_save(tmp_path, _trainer(_state(), "module.")), CLIP, tmp_path / "out.safetensors")
    with safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["geoglot.activation"] == "quick_gelu"
    assert metadata["geoglot.from"] == "model.pt"
    assert json.loads(metadata["geoglot.architecture"])["vision"]["patch_px"] == 8
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
