"""Dual encoders through the exporter and back: the light runtime against PyTorch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geoglot.errors import DisagreementError, EmptyQueryError, UsageError
from geoglot.files import sha256
from geoglot.models.card import CARD_FILE, Card
from geoglot.models.encoder import Images
from geoglot.models.export import dual, int8, towers
from geoglot.models.export.dual import export_model, least, sentences_for
from geoglot.models.load import load_encoder
from geoglot.models.onnx_encoder import LightEncoder
from geoglot.models.peft.attach import merge, tune
from geoglot.models.peft.files import save_parts
from geoglot.models.peft.settings import GateOver, Method, Tuning
from geoglot.models.torch_encoder import TorchEncoder
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.towers.clip import build
from geoglot.models.zoo.card_toml import card_values, write_card
from geoglot_sandbox.samples import draw_sample

pytest.importorskip("onnxscript")

GOLDEN = Path(__file__).parent / "golden_tokens"
SIZES: dict[str, int] = json.loads((GOLDEN / "manifest.json").read_text("utf-8"))["vocabulary"]
VIT = VisionShape("vit", 32, 8, 64, (2,), 2, 256, "cls")
KINDS: dict[str, tuple[VisionShape, TextShape, str, str, str]] = {
    "clip": (VIT, TextShape("clip", 77, SIZES["bpe"], 64, 2, 2, 256), "quick_gelu", "clip_bpe", "bpe.txt.gz"),
    "resnet": (
        VisionShape("resnet", 64, 32, 8, (1, 1, 1, 1), 4, 0, "attention"),
        TextShape("clip", 77, SIZES["bpe"], 64, 1, 2, 128),
        "gelu",
        "clip_bpe",
        "bpe.txt.gz",
    ),
    "siglip": (
        replace(VIT, pooling="map"),
        TextShape("siglip", 64, SIZES["gemma"], 64, 2, 2, 128),
        "gelu_tanh",
        "gemma",
        "gemma.json",
    ),
    "xlmr": (VIT, TextShape("xlmr", 77, SIZES["xlmr"], 32, 2, 2, 64, 48), "gelu", "sentencepiece_xlmr", "xlmr.json"),
}


def make(kind: str, folder: Path) -> Card:
    """A model folder with random weights, as `convert` writes one."""
    vision, text, activation, tokenizer, file = KINDS[kind]
    dim = 64 if vision.pooling == "map" else 32
    architecture = Architecture(vision, text, dim, activation)  # type: ignore[arg-type]
    torch.manual_seed(3)
    model = build(architecture)
    folder.mkdir(parents=True)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "model.safetensors")
    shutil.copyfile(GOLDEN / file, folder / file)
    shape: Any = asdict(architecture)
    values = {
        "name": f"tiny-{kind}",
        "version": "1",
        "dim": dim,
        "image_px": vision.image_px,
        "languages": ["en", "de", "zh"],
        "architecture": shape,
        "preprocess": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]},
        "tokenizer": {"kind": tokenizer},
        "files": {
            "weights": {"file": "model.safetensors", "sha256": sha256(folder / "model.safetensors")},
            "tokenizer": {"file": file, "sha256": sha256(folder / file)},
        },
    }
    return write_card(folder, values)


@cache
def chips() -> Images:
    kinds = ("harbor", "forest", "desert", "parking_lot", "tennis_court", "storage_tank")
    return np.stack([draw_sample(kind, seed=n, size_px=64).rgb for kind in kinds for n in (0, 1)])


@pytest.fixture(scope="module")
def _once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The exporter takes seconds a graph: each model's graphs are written once."""
    kept, write = tmp_path_factory.mktemp("graphs"), dual._write_graphs

    def copied(work: Any, folder: Path) -> None:
        if not (kept / work.card.name).exists():
            (kept / work.card.name).mkdir()
            write(work, kept / work.card.name)
        shutil.copytree(kept / work.card.name, folder, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dual, "_write_graphs", copied)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, _once: None) -> dict[str, tuple[Card, Card]]:
    """Kind -> (original, exported fp32)."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for kind in KINDS:
        card, out = make(kind, folder / kind), folder / f"{kind}-fp32"
        out.mkdir()
        found[kind] = card, export_model(card, out, precision="fp32", chips=chips(), chips_from="drawn chips")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_fp32_is_the_same_model(kind: str, made: dict[str, tuple[Card, Card]]) -> None:
    card, exported = made[kind]
    exported.verify()
    original, light = TorchEncoder(card, device="cpu", precision="fp32"), load_encoder(str(exported.folder))
    assert isinstance(light, LightEncoder)
    texts = ["a", "boats in a harbour", "ein Fluss bei einem Wald " * 20, "港口里的船"]
    for batch in (texts, texts[:1], texts[1:2] * 3):
        assert np.allclose(light.encode_texts(batch), original.encode_texts(batch), atol=1e-5)
    for images in (chips(), chips()[:1], chips()[:, :40], np.repeat(chips(), 3, 0)):
        assert np.allclose(light.encode_images(images), original.encode_images(images), atol=1e-5)
    assert light.encode_images(chips()[:0]).shape == light.encode_texts([]).shape == (0, exported.dim)
    assert light.truncation.cut == original.truncation.cut == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_says_what_was_measured(kind: str, made: dict[str, tuple[Card, Card]]) -> None:
    card, exported = made[kind]
    told = exported.about["export"]
    assert exported.name == f"tiny-{kind}-fp32"
    assert told["from_fingerprint"] == card.fingerprint
    assert told["measured_on"] == "drawn chips"
    assert told["agreement"]["pictures"] == len(chips())
    assert min(told["agreement"]["image_cosine"][1], told["agreement"]["text_cosine"][1]) >= 0.9999
    assert exported.architecture == card.architecture
    assert set(exported.files) == {"image", "text", "tokenizer"}


def test_no_traces_of_the_machine(made: dict[str, tuple[Card, Card]]) -> None:
    import onnx

    for _, exported in made.values():
        for role in ("image", "text"):
            model = onnx.load(str(exported.file(role)))
            assert not any(node.metadata_props for node in model.graph.node)
            assert not model.metadata_props


@pytest.mark.parametrize("kind", ["clip", "xlmr"])
def test_int8_agrees_and_is_int8(kind: str, made: dict[str, tuple[Card, Card]], tmp_path: Path) -> None:
    import onnx

    exported = export_model(made[kind][0], tmp_path, precision="int8", chips=chips(), chips_from="drawn chips")
    told = exported.about["export"]
    assert told["agreement"]["image_cosine"][1] >= 0.99
    assert told["agreement"]["text_cosine"][1] >= 0.99
    for role in ("image", "text"):
        graph = onnx.load(str(exported.file(role))).graph
        products = sum(node.op_type == "MatMulInteger" for node in graph.node)
        assert products >= 2 * 3  # two layers of three products at least; XLM-R has more
        assert sum(t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2 for t in graph.initializer) == products
    assert len(told["kept_fp32"]) == 2  # each graph's last product
    assert exported.fingerprint != made[kind][1].fingerprint


@pytest.mark.usefixtures("_once")
@pytest.mark.parametrize(
    ("method", "over"), [("adapter", "token"), ("prefix", "token"), ("unipelt", "token"), ("unipelt", "row")]
)
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_small_parts_are_exported_with_the_model(kind: str, method: Method, over: GateOver, tmp_path: Path) -> None:
    """Parts as a tuning run leaves them, beside the plain weights; their values are random."""
    plain = make(kind, tmp_path / "model")
    untuned = TorchEncoder(plain, device="cpu", precision="fp32")
    model = TorchEncoder(plain, device="cpu", precision="fp32").model
    tuning = Tuning(method, prefix_length=3, gate=over)
    tune(model, tuning)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) * parameter.requires_grad)
    merge(model)
    save_parts(model, tuning, plain.folder / "parts.safetensors", base=plain.fingerprint)
    values = card_values(plain.folder / CARD_FILE)
    values["name"] = f"tiny-{kind}-{method}-{over}"  # graphs are kept by name
    values["files"]["parts"] = {"file": "parts.safetensors", "sha256": sha256(plain.folder / "parts.safetensors")}
    card = write_card(plain.folder, values)
    assert card.fingerprint != plain.fingerprint
    tuned = TorchEncoder(card, device="cpu", precision="fp32")
    (tmp_path / "fp32").mkdir()
    exported = export_model(card, tmp_path / "fp32", precision="fp32", chips=chips(), chips_from="drawn")
    assert "parts" not in exported.files
    light, texts = load_encoder(str(exported.folder)), ["a", "boats in a harbour"]
    np.testing.assert_allclose(light.encode_texts(texts), tuned.encode_texts(texts), atol=1e-5)
    np.testing.assert_allclose(light.encode_images(chips()), tuned.encode_images(chips()), atol=1e-5)
    assert np.abs(untuned.encode_texts(texts) - tuned.encode_texts(texts)).max() > 0.01
    assert np.abs(untuned.encode_images(chips()) - tuned.encode_images(chips())).max() > 0.01
    (tmp_path / "int8").mkdir()  # refused, did it agree with the tuned model to less than a cosine of 0.99
    export_model(card, tmp_path / "int8", precision="int8", chips=chips(), chips_from="drawn")


def test_what_hurts_stays_fp32_then_it_is_refused(
    made: dict[str, tuple[Card, Card]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar that nothing passes: every step of the ladder is tried, and the last one stands if it may."""
    monkeypatch.setitem(dual.BARS, "int8", 1.1)
    monkeypatch.setattr(dual, "LADDER", (int8.LADDER[0], ("mlp.",)))
    with pytest.raises(DisagreementError, match=r"to a cosine of 0\.9\d+ at worst; the bar is 1\.1"):
        export_model(made["clip"][0], tmp_path, precision="int8", chips=chips(), chips_from="drawn chips")
    exported = export_model(
        made["clip"][0], tmp_path, precision="int8", chips=chips(), chips_from="drawn chips", allow_below=True
    )
    kept = exported.about["export"]["kept_fp32"]
    assert sum("mlp." in part for part in kept) == 2 * 2 * 2  # two products, two layers, two towers


def test_large_weights_go_into_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(towers, "LARGE_BYTES", 1000)
    graph, path = torch.nn.Linear(64, 32), tmp_path / "image.onnx"
    example = torch.randn(2, 64)
    towers.write_graph(graph, example, "images", path)
    towers.strip_traces(path)
    assert {dual._role(file.name) for file in tmp_path.iterdir()} == {"image", "image_data"}
    assert path.stat().st_size < 64 * 32 * 4 <= path.with_name("image.onnx.data").stat().st_size
    found = onnxruntime.InferenceSession(str(path)).run(None, {"images": example.numpy()})[0]
    assert np.allclose(found, graph(example).detach().numpy(), atol=1e-6)


def test_bad_input_is_said(made: dict[str, tuple[Card, Card]]) -> None:
    light = LightEncoder(made["clip"][1])
    with pytest.raises(EmptyQueryError):
        light.encode_texts(["a", " "])
    with pytest.raises(UsageError, match="uint8"):
        light.encode_images(chips().astype(np.float32))


def test_sentences_speak_the_models_languages(made: dict[str, tuple[Card, Card]]) -> None:
    texts = sentences_for(made["clip"][0])
    assert len(set(texts)) == dual.SENTENCES
    assert any("\u4e00" <= letter <= "\u9fff" for text in texts for letter in text)


def test_least_takes_the_worst() -> None:
    from geoglot.models.zoo.compare import Agreement

    assert least(Agreement((0.99, 0.97), (0.98, 0.96), 1.0, 1.0, 2, 2)) == 0.96
