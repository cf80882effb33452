"""geoglot-mini as a PyTorch model like any other: same vectors as its own definition, opened, and written back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from geoglot.errors import ModelFileError, UsageError  # noqa: E402
from geoglot.evaluation.release_torch import release_torch  # noqa: E402
from geoglot.models.encoder import dense  # noqa: E402
from geoglot.models.load import load_encoder  # noqa: E402
from geoglot.models.tokenizers.concepts import ConceptTokenizer  # noqa: E402
from geoglot.models.towers.clip import build  # noqa: E402
from geoglot.models.towers.convnet import architecture_of, canonical_names, tower_shape  # noqa: E402
from geoglot.models.towers.convnet_training import MEAN, STD, DualTower, TowerShape  # noqa: E402
from geoglot.training.model_folder import load_start, write_model  # noqa: E402

PROSE = Path(__file__).resolve().parents[2] / "configs" / "mini_card.toml"


@pytest.fixture(scope="module")
def words() -> ConceptTokenizer:
    return ConceptTokenizer.from_glossary()


@pytest.fixture(scope="module")
def towers(words: ConceptTokenizer) -> DualTower:
    torch.manual_seed(0)
    made = DualTower(TowerShape(len(words.names), (8, 16, 32, 64), (1, 1, 1, 1), 16, text_width=16, text_heads=2))
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return made.eval()


@pytest.fixture(scope="module")
def folder(towers: DualTower, words: ConceptTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run, out = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("out") / "model"
    shape = {name: getattr(towers.shape, name) for name in TowerShape.__dataclass_fields__}
    torch.save({"shape": shape, "weights": towers.state_dict()}, run / "final.pt")
    words.save(run / "tokenizer.json")
    (run / "run.json").write_text(json.dumps({"unlearned": []}))
    release_torch(run, 64, out, PROSE)
    return out


def test_shape_there_and_back(towers: DualTower) -> None:
    assert tower_shape(architecture_of(towers.shape, 64)) == towers.shape
    with pytest.raises(ModelFileError, match="double"):
        architecture_of(TowerShape(10, (8, 12, 32, 64)), 64)


def test_same_vectors_as_the_definition(towers: DualTower) -> None:
    model = build(architecture_of(towers.shape, 64))
    model.load_state_dict(canonical_names(towers.state_dict()), strict=True)
    x = torch.rand(3, 3, 70, 100)
    ids = torch.tensor([[5, 9, 0, 0], [1, 0, 0, 0], [3, 4, 5, 0]])
    normalised = (x - MEAN) / STD
    with torch.no_grad():
        assert torch.allclose(model.encode_image(normalised), towers.image(x), atol=1e-5)
        assert torch.allclose(model.encode_text(model.needed(ids)), towers.text(ids), atol=1e-5)
        found = model.dense(normalised, None)
        assert found.patches.shape == (3, 3, 4, 16)  # rounded up
        assert torch.allclose(found.patches.mean((1, 2)), found.pooled, atol=1e-5)
        maps = towers.image.features(x)
        slow = torch.stack([towers.image.project(maps[:, :, i, j]) for i in range(3) for j in range(4)], 1)
        assert torch.allclose(found.patches.flatten(1, 2), slow, atol=1e-5)
    assert model.logit_scale.item() == pytest.approx(towers.log_scale.item())


def test_no_last_block_to_choose(towers: DualTower) -> None:
    model = build(architecture_of(towers.shape, 64), device="meta")
    for asked in ({"last_block": "segearth"}, {"keep_residual": True}):
        with pytest.raises(UsageError, match="convolutional"):
            model.dense(torch.rand(1, 3, 64, 64, device="meta"), **asked)  # type: ignore[arg-type]


def test_opens_as_a_dense_encoder(folder: Path, towers: DualTower) -> None:
    encoder = dense(load_encoder(str(folder), device="cpu"))
    assert encoder.patch_px == 32
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    places = encoder.patch_features(pixels)
    assert places.shape == (2, 2, 2, 16)
    assert np.allclose(np.linalg.norm(places, axis=-1), 1, atol=1e-5)
    with torch.no_grad():
        expected = towers.image(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)
    assert np.allclose(encoder.encode_images(pixels), torch.nn.functional.normalize(expected, dim=1), atol=1e-5)
    assert encoder.patch_features(pixels[:, :33, :40]).shape == (2, 2, 2, 16)  # rounded up, as in the light runtime
    assert encoder.encode_texts(["ships in a harbour", "a forest"]).shape == (2, 16)


def test_can_be_tuned_and_written(folder: Path, tmp_path: Path) -> None:
    start = load_start(load_encoder(str(folder), device="cpu").card)
    assert all(p.requires_grad for p in start.towers.parameters())
    with torch.no_grad():
        start.towers.visual.project.bias.add_(1.0)
    weights = {f"towers.{name}": value for name, value in start.towers.state_dict().items()}
    write_model(start, weights, tmp_path / "tuned", "tuned")
    tuned, before = (load_encoder(str(f), device="cpu") for f in (tmp_path / "tuned", folder))
    pixels = np.full((1, 64, 64, 3), 90, np.uint8)
    assert tuned.card.name == "tuned"
    assert not np.allclose(tuned.encode_images(pixels), before.encode_images(pixels))
    assert np.allclose(tuned.encode_texts(["harbour"]), before.encode_texts(["harbour"]))
