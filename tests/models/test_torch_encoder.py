"""The PyTorch runtime: a model folder in, unit vectors and patch features out, clear words for what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from small_models import GOLDEN as TOKENS
from small_models import TINY, card_values
from torch.nn import functional as F

from geoglot.errors import EmptyQueryError, ModelFileError, UnknownNameError, UsageError
from geoglot.files import sha256
from geoglot.models.card import Card, read_card
from geoglot.models.encoder import DualEncoder
from geoglot.models.torch_encoder import TorchEncoder
from geoglot.models.towers.clip import build
from geoglot.models.towers.preprocess import fit
from geoglot.models.zoo.card_toml import toml_text
from geoglot.models.zoo.origin import Preprocess

Images = NDArray[np.uint8]
RNG = np.random.default_rng(3)


def model_folder(folder: Path) -> Path:
    """Random weights, CLIP's first merges, a card: what `pull` leaves behind."""
    torch.manual_seed(0)
    tensors = dict(build(TINY).state_dict())
    tensors["logit_scale"] = torch.tensor(4.6052)
    save_file(tensors, str(folder / "model.safetensors"))
    (folder / "bpe.txt.gz").write_bytes((TOKENS / "bpe.txt.gz").read_bytes())
    files = {"weights": "model.safetensors", "tokenizer": "bpe.txt.gz"}
    table = {role: {"file": name, "sha256": sha256(folder / name)} for role, name in files.items()}
    values = {**card_values(), "files": table, "preprocess": {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.25]}}
    (folder / "card.toml").write_text(toml_text(values), "utf-8")
    return folder


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    return read_card(model_folder(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def encoder(card: Card) -> TorchEncoder:
    return TorchEncoder(card, device="cpu")


def pixels(*shape: int) -> Images:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def normalised(images: Images) -> torch.Tensor:
    """Channel by channel, pixel by pixel of the card's preprocessing."""
    out = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    for channel, (mean, std) in enumerate(zip((0.5, 0.4, 0.3), (0.3, 0.2, 0.25), strict=True)):
        out[:, channel] = (images[..., channel].astype(np.float64) / 255 - mean) / std
    return torch.from_numpy(out)


@torch.no_grad()
def test_vectors_are_the_towers_own(encoder: TorchEncoder) -> None:
    images, texts = pixels(3, 32, 32, 3), ["boats in a harbour", "a field", "forest " * 200]
    expected = F.normalize(encoder.model.encode_image(normalised(images)), dim=-1).numpy()
    np.testing.assert_allclose(encoder.encode_images(images), expected, atol=2e-6)
    ids = torch.from_numpy(encoder.tokenizer.ids(texts))
    expected = F.normalize(encoder.model.encode_text(ids), dim=-1).numpy()
    found = encoder.encode_texts(texts)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(encoder.embed_texts(texts), encoder.model.encode_text(ids).numpy(), rtol=1e-5, atol=1e-6)
    assert (found.dtype, isinstance(encoder, DualEncoder)) == (np.float32, True)
    assert encoder.scale == pytest.approx(100.0, rel=1e-4)


def test_a_cut_text_is_counted(card: Card) -> None:
    fresh = TorchEncoder(card, device="cpu")
    fresh.encode_texts(["short", "forest " * 200])
    assert fresh.truncation.share == 0.5


def test_batches_do_not_change_anything(encoder: TorchEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts = pixels(7, 32, 32, 3), [f"text {i}" for i in range(7)]
    whole = encoder.encode_images(images), encoder.encode_texts(texts), encoder.patch_features(images, "sclip")
    monkeypatch.setattr("geoglot.models.torch_encoder._PIXELS", {"cpu": 3 * 32**2})
    monkeypatch.setattr("geoglot.models.torch_encoder._TEXTS", 3)
    parts = encoder.encode_images(images), encoder.encode_texts(texts), encoder.patch_features(images, "sclip")
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_nothing_in_nothing_out(encoder: TorchEncoder) -> None:
    assert encoder.encode_images(pixels(0, 32, 32, 3)).shape == (0, 16)
    assert encoder.encode_images(pixels(0, 50, 40, 3)).shape == (0, 16)
    assert encoder.encode_texts([]).shape == (0, 16)
    assert encoder.patch_features(pixels(0, 32, 32, 3)).shape[0] == 0


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 64), (33, 5), (7, 31), (1, 1)])
@torch.no_grad()
def test_patch_features_at_any_size(encoder: TorchEncoder, height: int, width: int) -> None:
    images = pixels(2, height, width, 3)
    found = encoder.patch_features(images, "segearth")
    rows, columns = -(-height // 8), -(-width // 8)
    assert found.shape == (2, rows, columns, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)
    filled = torch.zeros(2, 3, rows * 8, columns * 8)
    filled[:, :, :height, :width] = normalised(images)
    expected = F.normalize(encoder.model.patch_features(filled, "segearth")[1], dim=-1)
    np.testing.assert_allclose(found, expected.numpy(), atol=5e-6)


WRONG: list[tuple[Callable[[Images], object], str, str]] = [
    (lambda x: x.transpose(0, 3, 1, 2), "uint8 [2, 3, 32, 32]", "transpose(0, 2, 3, 1)"),
    (lambda x: x / np.float32(255), "float32 [2, 32, 32, 3]", "images * 255"),
    (lambda x: x.astype(np.float64), "float64", "astype('uint8')"),
    (lambda x: x.astype(np.uint16) * 40, "uint16", "Render the bands"),
    (lambda x: x.astype(np.float32) / 128 - 1, "float32", "normalisation is the model's own"),
    (lambda x: x > 3, "bool", ""),
    (lambda x: x[0], "[32, 32, 3]", "images[None]"),
    (lambda x: x[0, 0], "[32, 3]", ""),
    (lambda x: x[..., :1], "[2, 32, 32, 1]", "thrice"),
    (lambda x: np.concatenate([x, x[..., :1]], 3), "[2, 32, 32, 4]", "[..., :3]"),
    (lambda x: np.concatenate([x, x], 3), "[2, 32, 32, 6]", "three bands"),
    (lambda x: x[:, :0], "0 x 32 px are empty", ""),
    (lambda x: x.tolist(), "not list", "numpy.asarray"),
]


def test_the_token_comes_from_the_same_path_as_the_patches(encoder: TorchEncoder) -> None:
    images = RNG.integers(0, 255, (3, 20, 28, 3)).astype(np.uint8)
    patches, tokens = encoder.patches_and_token(images)
    np.testing.assert_allclose(patches, encoder.patch_features(images), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(tokens, axis=1), 1, atol=1e-5)
    batch = next(encoder._batches(images))
    wanted = F.normalize(encoder.model.dense(encoder._filled_up(batch), None).class_token, dim=-1)  # type: ignore[arg-type]
    np.testing.assert_allclose(tokens, wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize(("spoil", "says", "hint"), WRONG)
def test_wrong_images_are_told(encoder: TorchEncoder, spoil: Callable[[Images], object], says: str, hint: str) -> None:
    wrong = spoil(pixels(2, 32, 32, 3))
    for use in (encoder.encode_images, encoder.patch_features):
        with pytest.raises(UsageError) as caught:
            use(wrong)  # type: ignore[operator]
        assert says in str(caught.value)
        assert hint in caught.value.hint


def test_wrong_texts_and_names_are_told(encoder: TorchEncoder) -> None:
    with pytest.raises(EmptyQueryError):
        encoder.encode_texts(["a field", "  "])
    with pytest.raises(UnknownNameError, match="last block"):
        encoder.patch_features(pixels(1, 32, 32, 3), "clearclipp")  # type: ignore[arg-type]


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", ["45x71", "90x33", "17x20"])
def test_fitting_is_open_clips_bit_for_bit(resize: str, interpolation: str, size: str) -> None:
    golden = load_file(Path(__file__).parent / "golden" / "preprocessing.safetensors")
    how = Preprocess((0.0,), (1.0,), resize, interpolation)  # type: ignore[arg-type]
    found = fit(golden[size].numpy()[None], 32, how)[0]
    np.testing.assert_array_equal(found.transpose(2, 0, 1), golden[f"{size} {resize} {interpolation}"].numpy())


def test_images_of_another_size_are_fitted(encoder: TorchEncoder) -> None:
    images = pixels(2, 50, 40, 3)
    how = Preprocess((0.0,), (1.0,))
    np.testing.assert_array_equal(encoder.encode_images(images), encoder.encode_images(fit(images, 32, how)))


def test_device_and_precision_are_chosen_once_and_said(card: Card, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "geoglot.models")
    found = TorchEncoder(card)
    expected = ("cuda", "bf16") if torch.cuda.is_available() else ("cpu", "fp32")
    assert (found.device.type, found.precision) == expected
    assert f"on {found.device}, {found.precision}" in found.runtime
    assert found.runtime in caplog.text
    with pytest.raises(UnknownNameError, match="device 'tpu'"):
        TorchEncoder(card, device="tpu")
    with pytest.raises(UnknownNameError, match="device 'meta'"):
        TorchEncoder(card, device="meta")
    with pytest.raises(UsageError, match="no device 'cuda:99'"):
        TorchEncoder(card, device="cuda:99")
    with pytest.raises(UnknownNameError, match="precision 'fp8'"):
        TorchEncoder(card, precision="fp8")


def test_bf16_agrees_and_keeps_the_temperature(card: Card, encoder: TorchEncoder) -> None:
    rounded = TorchEncoder(card, device="cpu", precision="bf16")
    images = pixels(4, 32, 32, 3)
    assert (rounded.encode_images(images) * encoder.encode_images(images)).sum(1).min() > 0.995
    assert rounded.encode_images(images).dtype == np.float32
    assert rounded.model.visual.conv1.weight.dtype == torch.bfloat16
    assert rounded.scale == encoder.scale


@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles for the processor with g++")
def test_a_compiled_tower_gives_the_same_vectors(card: Card, encoder: TorchEncoder) -> None:
    compiled = TorchEncoder(card, device="cpu", precision="fp32", compile=True)
    assert "compiled" in compiled.runtime
    images = pixels(2, 32, 32, 3)
    np.testing.assert_allclose(compiled.encode_images(images), encoder.encode_images(images), atol=1e-5)


def test_weights_that_do_not_fit_their_card_are_told(card: Card, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["visual.extra"] = tensors.pop("ln_final.bias")
    tensors["visual.proj"] = tensors["visual.proj"][:, :8].contiguous()
    save_file(tensors, str(folder / "model.safetensors"))
    with pytest.raises(ModelFileError) as caught:
        TorchEncoder(read_card(folder), device="cpu").model
    for part in (
        "1 missing, such as ln_final.bias",
        "1 not expected, such as visual.extra",
        "shape, such as visual.proj",
    ):
        assert part in str(caught.value)


def test_half_a_file_is_told(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match="damaged"):
        TorchEncoder(read_card(folder), device="cpu").encode_images(pixels(1, 32, 32, 3))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"lacks model\.safetensors; looked in"):
        TorchEncoder(read_card(folder), device="cpu").model


def test_a_card_that_says_too_little_is_told(card: Card) -> None:
    with pytest.raises(ModelFileError, match="no architecture table"):
        TorchEncoder(replace(card, architecture=None))
    with pytest.raises(ModelFileError, match="no preprocess table"):
        TorchEncoder(replace(card, preprocess=None))
