from __future__ import annotations

import logging
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from tiny_towers import alone, draw_data, objective, open_data, word_ids  # noqa: E402
from torch import nn  # noqa: E402

from geoglot.cli.app import app  # noqa: E402
from geoglot.config import load_config  # noqa: E402
from geoglot.data.sources import DataSource  # noqa: E402
from geoglot.errors import UnknownNameError, UsageError  # noqa: E402
from geoglot.files import sha256  # noqa: E402
from geoglot.models.card import read_card  # noqa: E402
from geoglot.models.checkpoints.convert import FILE, write_safetensors  # noqa: E402
from geoglot.models.tokenizers.concepts import ConceptTokenizer  # noqa: E402
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape  # noqa: E402
from geoglot.models.towers.clip import build  # noqa: E402
from geoglot.models.zoo.card_toml import write_card  # noqa: E402
from geoglot.training.journal import read_log  # noqa: E402
from geoglot.training.leakage import check_leakage, open_pictures  # noqa: E402
from geoglot.training.loop_config import Loop  # noqa: E402
from geoglot.training.recipes import contrastive  # noqa: E402
from geoglot.training.registry import RECIPES, load_recipe, run_recipe  # noqa: E402
from geoglot.training.run_folder import read_facts  # noqa: E402
from geoglot.training.validation import mean_recall, recall_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, held-out pairs, and a tiny model with random weights."""
    folder = tmp_path_factory.mktemp("world")
    draw_data(folder / "train", 24)
    draw_data(folder / "valid", 8, seed=1)
    (folder / "model").mkdir()
    words = ConceptTokenizer.from_glossary(["red", "green", "blue", "grey"])
    words.save(folder / "model" / "tokenizer.json")
    vision = VisionShape("vit", 16, 4, 24, (1,), 2, 48, "cls")
    text = TextShape("siglip", words.context, len(words.names), 24, 1, 2, 48)
    shape = Architecture(vision, text, 16, "gelu")
    torch.manual_seed(0)
    write_safetensors(build(shape).state_dict(), folder / "model" / FILE, {})
    files = {"weights": FILE, "tokenizer": "tokenizer.json"}
    card = {
        "name": "tiny",
        "version": "0",
        "dim": 16,
        "image_px": 16,
        "languages": ["en"],
        "architecture": asdict(shape),
    }
    card |= {"preprocess": {"mean": [0.4] * 3, "std": [0.2] * 3}, "tokenizer": {"kind": "concepts"}}
    card |= {"files": {role: {"file": n, "sha256": sha256(folder / "model" / n)} for role, n in files.items()}}
    write_card(folder / "model", card)
    text_config = f"""
        model = "{folder / "model"}"
        area = [0.8, 1]
        [[data]]
        path = "train/captions.jsonl"
        [validation]
        path = "valid/captions.jsonl"
        [[leakage]]
        path = "valid"
        [loop]
        batch = 8
        epochs = 2.0
        chunk = 3
        learning_rate = 1e-3
        allow_high_learning_rate = true
        evaluate_every = 3
        log_every = 1
        checkpoint_every = 2
        ema = 0.5
        device = "cpu"
    """
    (folder / "c.toml").write_text(text_config)
    return folder


def test_it_trains_validates_and_leaves_a_model(world: Path, tmp_path: Path) -> None:
    config = load_config(contrastive.Config, world / "c.toml")
    folder = contrastive.run(config, world, tmp_path / "tuned")
    rows = list(read_log(tmp_path / "tuned" / "log.jsonl"))
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "metric" in row] == [3, 6]
    before, after = read_card(world / "model"), read_card(folder)
    after.verify()
    assert (after.name, after.about["tuned_from"]) == ("tuned", "tiny 0")
    assert after.fingerprint != before.fingerprint
    from geoglot.models.torch_encoder import TorchEncoder

    assert TorchEncoder(after).encode_texts(["red field"]).shape == (1, 16)
    assert (tmp_path / "tuned" / "leaks.tsv").read_text().startswith("train\ttest")


def test_like_repeats_a_run(world: Path, tmp_path: Path) -> None:
    run_recipe("contrastive", world / "c.toml", world, tmp_path / "one")
    run_recipe(None, None, world, tmp_path / "two", like=tmp_path / "one" / "run.json")
    one, two = ([r.get("loss") for r in read_log(tmp_path / n / "log.jsonl")] for n in ("one", "two"))
    assert one == two
    assert read_facts(tmp_path / "two" / "run.json")["config"] == read_facts(tmp_path / "one" / "run.json")["config"]
    with pytest.raises(UsageError, match="is a run of contrastive"):
        run_recipe("mini", None, world, tmp_path / "x", like=tmp_path / "one" / "run.json")
    with pytest.raises(UsageError, match="only one of them"):
        run_recipe("contrastive", None, world, tmp_path / "x")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UsageError, match="does not say which recipe"):
        run_recipe(None, None, world, tmp_path / "x", like=tmp_path / "bad.json")


def test_the_command(world: Path, tmp_path: Path) -> None:
    words = [
        "train",
        "contrastive",
        "--config",
        str(world / "c.toml"),
        "--data",
        str(world),
        "--out",
        str(tmp_path / "r"),
    ]
    done = CliRunner().invoke(app, [*words, "--smoke"])
    assert done.exit_code == 0, done.output
    assert "Done:" in done.stdout
    assert len([r for r in read_log(tmp_path / "r" / "log.jsonl") if "loss" in r]) >= 2


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_recipes(name: str) -> None:
    module = load_recipe(name)
    assert callable(module.run)
    assert callable(module.smoke)
    with pytest.raises(UnknownNameError, match="contrastve"):
        load_recipe("contrastve")


def test_shipped_config_parses() -> None:
    config = load_config(contrastive.Config, ROOT / "configs" / "contrastive.toml")
    assert config.data == (DataSource("train.csv"),)
    assert isinstance(config.loop, Loop)
    assert config.validation == DataSource("valid.csv")


def test_what_does_not_fit_is_refused() -> None:
    config = contrastive.Config("m", (DataSource("x"),), Loop(batch=2, steps=1))
    for changes, message in (
        ({"data": ()}, "no \\[\\[data\\]\\]"),
        ({"captions": 2}, "needs loss"),
        ({"loop": Loop(batch=2, steps=1, evaluate_every=1)}, "validation"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(config, **changes)  # type: ignore[arg-type]


def test_turned_images_are_turns() -> None:
    x = torch.rand(3, 3, 9, 9)
    torch.manual_seed(0)
    turns = contrastive.drawn_turns(3, x.device)
    torch.manual_seed(0)
    assert all(torch.equal(a, b) for a, b in zip(turns, contrastive.drawn_turns(3, x.device), strict=True))
    once = contrastive.turned(x, *turns)
    assert once.shape == x.shape
    middle = x[:, :, 4, 4]
    assert torch.allclose(once[:, :, 4, 4], middle, atol=1e-5), "the middle stays"
    disc = ((torch.arange(9)[:, None] - 4) ** 2 + (torch.arange(9) - 4) ** 2) <= 9
    assert torch.allclose((once * disc).mean((2, 3)), (x * disc).mean((2, 3)), atol=0.05), "nothing within is lost"


def test_black_corners_are_those_of_the_released_augmentation() -> None:
    """torchvision's RandomRotation of a PIL image, which is what released: `Image.rotate`, nearest, black outside."""
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (64, 64, 3)).astype(np.uint8)
    for degrees in (0.0, 17.0, 90.0, 131.0, 211.5, 359.0):
        wanted = np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.NEAREST))
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        angle = torch.tensor([math.radians(degrees)])
        got = contrastive.turned(x, angle, torch.ones(1), nearest=True)[0].permute(1, 2, 0).numpy()
        assert (got == wanted).all(2).mean() > 0.99, degrees  # at multiples of 45 many centres fall between two pixels
    mirrored = contrastive.turned(x, torch.zeros(1), -torch.ones(1), nearest=True)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(mirrored, image[:, ::-1])


def test_black_corners_come_before_normalising() -> None:
    towers, images = nn.Identity(), torch.full((8, 16, 16, 3), 255, dtype=torch.uint8)
    shown = {}
    for corners in ("mean", "black"):
        torch.manual_seed(1)
        pixels = {"side_px": 16, "mean": (0.5,) * 3, "std": (0.25,) * 3}
        shown[corners] = contrastive.Turned(towers, "infonce", corners, **pixels).train().pixels(images)
    assert set(shown["black"].unique().tolist()) == {-2.0, 2.0}  # (0 - mean) / std, (1 - mean) / std; nothing between
    assert shown["mean"].min() == 0.0
    assert contrastive.Turned(towers, "infonce", "black", **pixels).eval().pixels(images).unique().tolist() == [2.0]


# --- leakage and validation ----------------------------------------------------------------------


def test_leaks_are_found_named_and_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = open_data(draw_data(tmp_path / "train", 12))
    draw_data(tmp_path / "test", 6, seed=9)
    shutil.copy(tmp_path / "train" / "3.png", tmp_path / "test" / "renamed.png")
    (tmp_path / "test" / "broken.png").write_bytes(b"x")
    test = open_pictures(DataSource("test"), tmp_path)
    assert len(test) == 8
    with caplog.at_level(logging.WARNING):
        found = check_leakage(train, [test], tmp_path / "out")
    by_pixels = [leak for leak in found if leak.by == "pixels"]
    assert [(Path(leak.train).name, Path(leak.test).name) for leak in by_pixels] == [("3.png", "renamed.png")]
    assert "renamed.png" in caplog.text
    assert "renamed.png" in (tmp_path / "out" / "leaks.tsv").read_text()
    caplog.clear()
    clean = open_pictures(DataSource("none"), Path(shutil.copytree(tmp_path / "test", tmp_path / "none")).parent)
    (tmp_path / "none" / "renamed.png").unlink()
    with caplog.at_level(logging.INFO):
        found = check_leakage(train, [clean], tmp_path / "out")
    assert not [leak for leak in found if leak.by == "pixels"]


def test_leaks_by_embedding(tmp_path: Path) -> None:
    """Pixels and hashes see nothing in a mirrored picture; towers that look at mean colours do."""
    from PIL import Image, ImageOps

    train = open_data(draw_data(tmp_path / "train", 4))
    (tmp_path / "test").mkdir()
    ImageOps.mirror(Image.open(tmp_path / "train" / "2.png")).save(tmp_path / "test" / "m.png")
    model = objective("infonce")
    test = [open_pictures(DataSource("test"), tmp_path)]
    assert not [k for k in check_leakage(train, test, tmp_path / "o") if k.by != "look"]
    found = check_leakage(train, test, tmp_path / "o", model=model, cosine=0.995)
    assert ("2.png", "m.png", "embedding") in [(Path(k.train).name, Path(k.test).name, k.by) for k in found]
    assert model.training


def test_recall_against_a_loop() -> None:
    scores = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    fits = torch.arange(30)[None, :] % 12 == torch.arange(12)[:, None]

    def one_way(scores: torch.Tensor, fits: torch.Tensor, k: int) -> float:
        hits = 0
        for row, right in zip(scores.tolist(), fits.tolist(), strict=True):
            order = sorted(range(len(row)), key=lambda i: -row[i])
            hits += any(right[i] for i in order[:k])
        return hits / len(scores)

    expected = sum(one_way(scores, fits, k) + one_way(scores.T, fits.T, k) for k in (1, 5, 10)) / 6 * 100
    assert recall_of(scores, fits) == pytest.approx(expected, abs=1e-4)


def test_mean_recall_runs_on_pairs(tmp_path: Path) -> None:
    data = open_data(draw_data(tmp_path / "d", 12))[0]
    found = mean_recall(data, objective("infonce").eval(), word_ids)
    assert 0 < found <= 100
    assert alone().leads
