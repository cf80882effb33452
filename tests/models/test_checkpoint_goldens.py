"""Files that the reference packages wrote (tools/golden/make_goldens.py), read back: same tensors, same outputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from geoglot.config import from_table
from geoglot.models.checkpoints.convert import convert_checkpoint
from geoglot.models.checkpoints.detect import detect, differences
from geoglot.models.checkpoints.load import load_checkpoint
from geoglot.models.checkpoints.open import read_tensors
from geoglot.models.towers.architecture import Architecture
from geoglot.models.towers.clip import build
from geoglot.models.zoo.registry import released_card, released_models

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "manifest.json").read_text("utf-8"))["cases"]
FILES = [pytest.param(case, file["path"], id=file["path"]) for case in CASES for file in case["files"]]


def _architecture(case: dict[str, Any]) -> Architecture:
    return from_table(Architecture, case["architecture"])


@pytest.mark.parametrize(("case", "file"), FILES)
@torch.no_grad()
def test_outputs_are_those_of_the_reference(case: dict[str, Any], file: str) -> None:
    architecture = _architecture(case)
    loaded = load_checkpoint(GOLDEN / file, architecture=architecture)
    assert loaded.architecture == architecture
    model = build(architecture)
    model.load_state_dict({name: tensor.float() for name, tensor in loaded.tensors.items()}, strict=True)
    expected = load_file(GOLDEN / case["name"] / "outputs.safetensors")
    for found, name in (
        (model.encode_image(expected["images"]), "image_embeddings"),
        (model.encode_text(expected["ids"]), "text_embeddings"),
        (loaded.tensors["logit_scale"].float(), "logit_scale"),
    ):
        torch.testing.assert_close(found, expected[name], rtol=0, atol=1e-5, msg=name)
    if "logit_bias" in expected:
        assert loaded.tensors["logit_bias"].float().item() == expected["logit_bias"].item()


@pytest.mark.parametrize(("case", "file"), FILES)
def test_shapes_tell_the_architecture(case: dict[str, Any], file: str) -> None:
    found = detect({name: tuple(tensor.shape) for name, tensor in read_tensors(GOLDEN / file).items()})
    assert differences(found, _architecture(case)) == []


@pytest.mark.parametrize(("case", "file"), FILES)
def test_conversion_keeps_every_bit_and_reads_back(case: dict[str, Any], file: str, tmp_path: Path) -> None:
    architecture = _architecture(case)
    out = convert_checkpoint(GOLDEN / file, architecture, tmp_path)
    again = load_checkpoint(out, architecture=architecture)
    before = load_checkpoint(GOLDEN / file, architecture=architecture)
    assert {n: t.dtype for n, t in again.tensors.items()} == {n: t.dtype for n, t in before.tensors.items()}
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in before.tensors.items())
    assert convert_checkpoint(GOLDEN / file, architecture, tmp_path / "b" / "c.safetensors").read_bytes() == (
        out.read_bytes()
    )


def test_formats_of_one_model_hold_the_same_tensors() -> None:
    for case in CASES:
        first, *others = (load_checkpoint(GOLDEN / f["path"], architecture=_architecture(case)) for f in case["files"])
        for other in others:
            assert set(other.tensors) == set(first.tensors)
            assert all(torch.equal(t.float(), first.tensors[name].float()) for name, t in other.tensors.items())


def test_a_converted_file_says_its_activation_itself(tmp_path: Path) -> None:
    out = convert_checkpoint(GOLDEN / "clip-vit-quickgelu/bare.pt", None, tmp_path, activation="quick_gelu")
    loaded = load_checkpoint(out)
    assert (loaded.architecture.activation, loaded.source) == ("quick_gelu", "the file's metadata")


def test_an_openai_archive_says_its_activation_by_its_class_names() -> None:
    loaded = load_checkpoint(GOLDEN / "clip-vit-openai/openai_jit.pt")
    assert loaded.architecture.activation == "quick_gelu"
    assert loaded.source == "class names in the TorchScript archive"


def test_a_folder_says_heads_pixels_and_activation_in_its_configuration() -> None:
    """Two heads of width 32 and 35 pixels on a grid of 4: nothing of that shows in the weights."""
    for case in (case for case in CASES if case["name"].endswith("-hf")):
        loaded = load_checkpoint(GOLDEN / case["files"][0]["path"])
        assert loaded.architecture == _architecture(case)
        assert loaded.source == "config.json"


def test_old_exports_of_xlmr_hold_their_position_ids(tmp_path: Path) -> None:
    case = next(case for case in CASES if case["family"] == "xlmr")
    tensors = read_tensors(GOLDEN / case["files"][0]["path"])
    ids = {"text.transformer.embeddings.position_ids": torch.arange(514)[None]}
    torch.save(tensors | ids, tmp_path / "old.pt")
    loaded = load_checkpoint(tmp_path / "old.pt", architecture=_architecture(case))
    assert set(loaded.tensors) == set(tensors)


def _released() -> dict[Architecture, str]:
    """Each architecture once, with the first card that has it."""
    cards = {name: released_card(name) for name in released_models()}
    return {card.architecture: name for name, card in reversed(cards.items()) if card.architecture is not None}


@pytest.mark.parametrize(("architecture", "name"), [pytest.param(a, n, id=n) for a, n in _released().items()])
def test_every_released_architecture_is_recognised(architecture: Architecture, name: str) -> None:
    shapes = {n: tuple(t.shape) for n, t in build(architecture, device="meta").state_dict().items()}
    found = detect(shapes)
    assert found.architecture(architecture.activation) == architecture
    other = replace(architecture, text=replace(architecture.text, vocabulary=7))
    assert differences(found, other) == [f"text vocabulary {architecture.text.vocabulary} in the file, 7 wanted"]
