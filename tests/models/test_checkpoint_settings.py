"""Settings that a configuration states and no shape shows: the same vectors as open_clip, or a refusal by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from geoglot.errors import ModelFileError
from geoglot.models.card import Card
from geoglot.models.checkpoints.load import load_checkpoint
from geoglot.models.towers.clip import DualModel, build

GOLDEN = Path(__file__).parent / "golden_settings"
CASES = sorted(path.name for path in GOLDEN.iterdir())
HUGGING_FACE = Path(__file__).parent / "golden" / "clip-hf" / "folder"


def loaded(folder: Path) -> DualModel:
    found = load_checkpoint(folder)
    model = build(found.architecture)
    model.load_state_dict(found.tensors, strict=True)
    return model.eval()


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_vectors_are_open_clips(name: str) -> None:
    model, expected = loaded(GOLDEN / name), load_file(GOLDEN / name / "outputs.safetensors")
    images, ids = expected["images"], expected["ids"]
    torch.testing.assert_close(model.encode_image(images), expected["image_embeddings"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.dense(images).pooled, expected["image_embeddings"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.encode_text(ids), expected["text_embeddings"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.encode_text(model.needed(ids)), expected["text_embeddings"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_without_the_settings_the_vectors_are_others(name: str, tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    folder = shutil.copytree(GOLDEN / name, tmp_path / name)
    config = json.loads((folder / "open_clip_config.json").read_text())
    for key in ("pool_type", "final_ln_after_pool", "no_causal_mask", "eos_id"):
        config["model_cfg"]["vision_cfg"].pop(key, None)
        config["model_cfg"]["text_cfg"].pop(key, None)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model, expected = loaded(folder), load_file(GOLDEN / name / "outputs.safetensors")
    pairs = (
        (model.encode_image(expected["images"]), expected["image_embeddings"]),
        (
            model.encode_text(expected["ids"]),
            expected["text_embeddings"],
        ),
    )
    assert min(torch.cosine_similarity(a, b).min() for a, b in pairs) < 0.98


REFUSED = [
    ("vision_cfg", "ls_init_value", 1e-4),
    ("vision_cfg", "attentional_pool", True),
    ("vision_cfg", "qk_norm", True),
    ("vision_cfg", "pool_type", "none"),
    ("vision_cfg", "norm_kwargs", {"eps": 1e-6}),
    ("vision_cfg", "act_kwargs", {"approximate": "tanh"}),
    ("vision_cfg", "width", 64),
    ("vision_cfg", "a_setting_of_tomorrow", 1),
    ("text_cfg", "embed_cls", True),
    ("text_cfg", "proj_type", "none"),
    ("text_cfg", "pool_type", "none"),
    ("text_cfg", "norm_kwargs", {"eps": 1e-6}),
    ("text_cfg", "scale_attn", True),
    ("text_cfg", "hf_model_name", "roberta-base"),
    ("text_cfg", "layers", 3),
    ("model_cfg", "multimodal_cfg", {"layers": 12}),
    ("model_cfg", "nonscalar_logit_scale", True),
    ("file", "preprocess_cfg", {"mode": "L"}),
    ("file", "preprocess_cfg", {"resize_mode": "longest"}),
    ("file", "something", 1),
]


@pytest.mark.parametrize(("table", "key", "value"), REFUSED, ids=lambda v: str(v)[:20])
def test_what_is_not_built_is_refused_by_name(table: str, key: str, value: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN / "end-token", tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())
    {"file": config, "model_cfg": config["model_cfg"], **config["model_cfg"]}[table][key] = value
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    named = {"norm_kwargs": "norms have eps", "act_kwargs": "activations", "preprocess_cfg": "mode"}
    named |= {"width": "width", "layers": "layers"}
    with pytest.raises(ModelFileError, match=named.get(key, str(value) if key == "hf_model_name" else key)):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("table", "key", "value", "said"),
    [
        ("vision_config", "layer_norm_eps", 1e-6, "norms have eps"),
        ("vision_config", "num_channels", 4, "num_channels"),
        ("text_config", "hidden_size", 96, "width"),
        ("text_config", "rope_theta", 1e4, "rope_theta"),
        ("text_config_dict", "a_setting_of_tomorrow", 1, "a_setting_of_tomorrow"),
        (None, "auto_map", {"AutoModel": "code.Model"}, "auto_map"),
    ],
)
def test_hugging_faces_keys_are_refused_by_name(
    table: str | None, key: str, value: Any, said: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(HUGGING_FACE, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (config.setdefault(table, {}) if table else config)[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match=said):
        load_checkpoint(folder)


def test_values_at_their_default_and_unset_ones_are_read() -> None:
    assert load_checkpoint(HUGGING_FACE).architecture.text.pooling == "own"  # an eos_token_id that is the highest id


def test_the_end_token_of_hugging_face_is_read(tmp_path: Path) -> None:
    folder = shutil.copytree(HUGGING_FACE, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    for end, expected in ((2, ("own", 0)), (5, ("end", 5))):  # 2 means "at the highest id" in transformers
        config["text_config"]["eos_token_id"] = end
        (folder / "config.json").write_text(json.dumps(config))
        text = load_checkpoint(folder).architecture.text
        assert (text.pooling, text.end_id) == expected


def test_a_card_that_says_otherwise_is_refused() -> None:
    right = load_checkpoint(GOLDEN / "mean").architecture
    assert load_checkpoint(GOLDEN / "mean", architecture=right).architecture == right
    wrong = replace(right, vision=replace(right.vision, pooling="cls"))
    with pytest.raises(ModelFileError, match="image pooling mean in open_clip_config"):
        load_checkpoint(GOLDEN / "mean", architecture=wrong)


def test_input_of_the_configuration_is_read(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN / "mean", tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash", "size": 16}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    found = load_checkpoint(folder).preprocess
    assert found is not None
    assert (found.mean, found.std, found.resize) == ((0.5,) * 3, (0.5,) * 3, "squash")


def test_a_setting_that_a_model_does_not_have_leaves_its_fingerprint_alone() -> None:
    """The hash of a card written before pooling, masks and norms could be stated."""
    plain = load_checkpoint(GOLDEN / "end-token").architecture
    usual = replace(plain, text=replace(plain.text, pooling="own", end_id=0))
    cards = [Card("x", "1", 24, 16, ("en",), None, (), architecture=one) for one in (usual, plain)]
    assert cards[0].fingerprint == "cedfd826e4ab24ae"
    assert cards[1].fingerprint != cards[0].fingerprint
