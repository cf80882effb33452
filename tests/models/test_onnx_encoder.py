"""Vectors for places: the light runtime's second output, against loops and against PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geoglot.errors import UsageError
from geoglot.models.card import Card
from geoglot.models.encoder import DenseEncoder, dense
from geoglot.models.load import load_encoder
from geoglot.models.onnx_encoder import LightEncoder
from geoglot.models.towers.convnet_training import DualTower, TowerShape
from geoglot_sandbox.samples import draw_sample


@pytest.fixture(scope="module")
def encoder() -> DenseEncoder:
    return dense(load_encoder())


def chips(side_px: int) -> np.ndarray:
    return np.stack([draw_sample(kind, seed=1, size_px=side_px).rgb for kind in ("harbor", "forest")])


@pytest.mark.parametrize("size", [(96, 96), (97, 130), (64, 200), (32, 32)])
def test_any_size_gives_a_place_for_each_patch(encoder: DenseEncoder, size: tuple[int, int]) -> None:
    height, width = size
    images = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    found = encoder.patch_features(images)
    assert found.shape == (3, -(-height // encoder.patch_px), -(-width // encoder.patch_px), encoder.card.dim)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=3), 1, atol=1e-5)


def test_an_image_of_one_place_is_that_place(encoder: DenseEncoder) -> None:
    """The vector is the mean of its places before they are normalised; with one place the two are the same."""
    image = LightEncoder(replace(encoder.card, image_px=32))
    pixels = chips(32)
    assert np.allclose(image.encode_images(pixels), image.patch_features(pixels)[:, 0, 0], atol=1e-5)


def test_places_lean_to_their_image(encoder: DenseEncoder) -> None:
    images = chips(96)
    mean = encoder.patch_features(images).mean((1, 2))
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    assert ((mean * encoder.encode_images(images)).sum(1) > 0.97).all()


def test_a_place_is_found_where_it_lies(encoder: DenseEncoder) -> None:
    """Left half harbour, right half forest: each word's best place is in its own half."""
    harbor, forest = chips(192)
    both = np.concatenate([harbor[:, :96], forest[:, 96:]], axis=1)
    scores = encoder.patch_features(both[None])[0] @ encoder.encode_texts(["harbor", "forest"]).T  # [6, 6, 2]
    difference = (scores[..., 0] - scores[..., 1]).mean(0)
    assert difference[:3].mean() > difference[3:].mean()


def test_batches_change_nothing(encoder: DenseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.concatenate([chips(64), chips(64)[::-1]])
    whole = encoder.patch_features(images)
    monkeypatch.setattr("geoglot.models.onnx_encoder._PIXELS", 64 * 64)
    assert np.allclose(encoder.patch_features(images), whole, atol=1e-5)
    assert encoder.patch_features(images[:0]).shape == (0, 2, 2, encoder.card.dim)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 3, 96, 96), np.uint8), "must be uint8"),
        (np.zeros((1, 96, 96, 3), np.float32), "must be uint8"),
        (np.zeros((1, 31, 96, 3), np.uint8), "smaller than a patch"),
    ],
)
def test_wrong_images_are_refused(encoder: DenseEncoder, images: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encoder.patch_features(images)


def test_a_last_block_is_refused(encoder: DenseEncoder) -> None:
    with pytest.raises(UsageError, match="no last block"):
        encoder.patch_features(chips(64), "segearth")


def test_models_without_places_say_so() -> None:
    card = Card("plain", "1", 4, 8, ("en",), None, (), folder=Path("nowhere"))
    with pytest.raises(UsageError, match="none for the places") as caught:
        dense(LightEncoder(card))
    assert "torch" in str(caught.value.hint)


def test_the_graph_is_the_tower(tmp_path: Path) -> None:
    """The exported graph against PyTorch on a tiny tower: places, and their mean before normalisation, at odd sizes."""
    pytest.importorskip("onnxscript")
    import onnxruntime

    from geoglot.models.export.towers import PATCH_PX, export_image

    torch.manual_seed(0)
    towers = DualTower(TowerShape(8, (8, 8, 8, 8), (1, 1, 1, 1), 16, 4, 8, 1, 2)).eval()
    export_image(towers, 64, tmp_path / "image.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "image.onnx"))
    for height, width in ((64, 64), (33, 95), (130, 31)):
        images = np.random.default_rng(1).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        vectors, patches = session.run(None, {"images": images})
        with torch.no_grad():
            found = towers.image.features(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
        assert patches.shape == (2, -(-height // PATCH_PX), -(-width // PATCH_PX), 16)
        for n in range(2):
            total = torch.zeros(16)
            for row in range(patches.shape[1]):
                for column in range(patches.shape[2]):
                    place = towers.image.project(found[n, :, row, column])
                    total = total + place
                    expected = F.normalize(place, dim=0).detach().numpy()
                    assert np.allclose(patches[n, row, column], expected, atol=1e-5)
            assert np.allclose(vectors[n], F.normalize(total, dim=0).detach().numpy(), atol=1e-5)
