"""Every recipe trains with --smoke on a drawn world, resumes to the same weights, and beats chance; configs parse."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from geoglot.config import load_config  # noqa: E402
from geoglot.data.sources import DataSource, open_source  # noqa: E402
from geoglot.errors import ModelFileError, UnknownNameError, UsageError  # noqa: E402
from geoglot.models.load import load_encoder  # noqa: E402
from geoglot.models.peft.files import load_parts  # noqa: E402
from geoglot.models.peft.settings import Method, Tuning  # noqa: E402
from geoglot.models.zoo.registry import find_card  # noqa: E402
from geoglot.training.journal import Progress, read_log  # noqa: E402
from geoglot.training.model_folder import load_start  # noqa: E402
from geoglot.training.recipes import contrastive  # noqa: E402
from geoglot.training.recipes.farslip import recipe as farslip  # noqa: E402
from geoglot.training.recipes.gaia import recipe as gaia  # noqa: E402
from geoglot.training.recipes.purify import recipe as purify  # noqa: E402
from geoglot.training.recipes.purify.scores import Judge  # noqa: E402
from geoglot.training.registry import RECIPES, load_recipe, run_recipe  # noqa: E402
from geoglot.training.smoke import SIDE, draw_world  # noqa: E402

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
MINE = {"contrastive": contrastive, "farslip": farslip, "gaia": gaia, "purify": purify}
NEW = [path for path in CONFIGS if path.name.split("_")[0].split(".")[0] in MINE]


Shrunk = Callable[[str], Any]


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_world(tmp_path_factory.mktemp("world"))


def example(name: str) -> Any:
    path = next(p for p in NEW if p.name.startswith(name))
    return load_config(MINE[name].Config, path)


@pytest.mark.parametrize("path", NEW, ids=lambda p: p.stem)
def test_every_config_parses_and_says_what_it_is(path: Path) -> None:
    name = path.name.split("_")[0].split(".")[0]
    config = load_config(MINE[name].Config, path)
    if getattr(config, "model", ""):
        find_card(config.model)  # a model that is known, whether or not it is on this machine
    head = path.read_text().splitlines()
    for line, word in enumerate(("# Recipe", "# Reproduces:", "# Command:", "# Hardware:", "# Expect:")):
        assert any(text.startswith(word) for text in head[: line + 6]), f"{path.name} lacks {word}"
    assert f"geoglot train {name} --config configs/{path.name}" in path.read_text()


def test_published_values_of_georsclip() -> None:
    """georsclip.md, sections 2.1 to 2.3."""
    for size in ("b32", "b16", "l14", "h14"):
        config = load_config(contrastive.Config, CONFIGS[0].parent / f"contrastive_georsclip_{size}.toml")
        loop = config.loop
        assert (loop.learning_rate, loop.weight_decay, loop.batch, loop.epochs) == (1e-6, 0.5, 700, 20.0)
        assert (loop.schedule, config.area, config.turn, config.tuning.method) == ("cosine", (0.9, 1.0), True, "full")
        assert config.corners == "black"  # as its released augmentation
    ret = load_config(contrastive.Config, CONFIGS[0].parent / "contrastive_ret2_b32.toml")
    loop = ret.loop
    assert (loop.learning_rate, loop.weight_decay, loop.batch, loop.epochs) == (5e-6, 0.5, 600, 7.0)
    assert (loop.warmup, loop.clip, ret.model) == (100, 50.0, "georsclip-vit-b-32")
    for method in ("lora", "adapter", "prefix", "unipelt"):
        config = load_config(contrastive.Config, CONFIGS[0].parent / f"contrastive_georsclip_b32_{method}.toml")
        assert (config.tuning.method, config.tuning.preset) == (method, "adapterhub")


@pytest.fixture
def shrunk(world: Path, tmp_path: Path) -> Callable[[str], Any]:
    """A recipe's config for a few steps, on a copy of the drawn world below `tmp_path`."""
    shutil.copytree(world, tmp_path / "world")
    return lambda name: MINE[name].smoke(example(name), tmp_path)


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_log(out / "log.jsonl") if "loss" in row]


@pytest.mark.parametrize("name", list(MINE))
def test_smoke_trains_and_leaves_a_model(name: str, tmp_path: Path) -> None:
    """As the command line does it."""
    config = next(p for p in NEW if p.name.startswith(name))
    left = run_recipe(name, config, tmp_path, tmp_path / "run", smoke=True)
    assert left == tmp_path / "run" / "model"
    encoder = load_encoder(str(left), runtime="torch")
    vectors = encoder.encode_images(np.zeros((2, SIDE, SIDE, 3), np.uint8))
    assert np.isfinite(vectors).all()
    assert vectors.shape == (2, 32)
    assert encoder.encode_texts(["boats in a harbor"]).shape == (1, 32)


@pytest.mark.parametrize("name", list(MINE))
def test_a_stopped_run_goes_on_to_the_same_weights(name: str, tmp_path: Path, shrunk: Shrunk) -> None:
    """Stopped in its (last) training, after the checkpoint of step 2."""
    folder = "final" if name == "purify" else "."
    weights = []
    for run, stop in (("whole", 0), ("broken", 3)):
        config = shrunk(name)
        out, seen = tmp_path / run, list[int]()

        def show(progress: Progress, stop: int = stop, seen: list[int] = seen) -> None:
            seen.append(progress.step)
            if seen.count(stop) == (2 if name == "purify" else 1):  # purify trains twice
                raise Stop

        if stop:
            with pytest.raises(Stop):
                MINE[name].run(config, tmp_path, out, show)
        MINE[name].run(config, tmp_path, out)
        weights.append(torch.load(out / folder / "final.pt", weights_only=True)["weights"])
    assert losses(tmp_path / "whole" / folder) == losses(tmp_path / "broken" / folder)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("name", list(MINE))
def test_every_recipe_beats_chance(name: str, tmp_path: Path, shrunk: Shrunk) -> None:
    """On pairs it was not trained on: cosines of true pairs against those of false ones."""
    config = shrunk(name)
    longer = {"steps": 60, "warmup": 5, "learning_rate": 3e-3, "evaluate_every": 0, "log_every": 20}
    config = replace(config, loop=replace(config.loop, **longer))
    if name == "purify":
        config = replace(config, sem=replace(config.sem, **longer), good=config.coarse, keep=1.0)
    if name == "gaia":
        config = replace(config, gained=None, kept=None)  # the tuned weights, not a blend
    left = MINE[name].run(config, tmp_path, tmp_path / "run")
    held_out = open_source(DataSource(str(tmp_path / "world" / "captions.jsonl"), split="valid"), tmp_path)
    start = load_start(find_card(str(left)))
    model = contrastive.Contrastive(start.towers, mean=start.mean, std=start.std, side_px=SIDE)
    judge = Judge(model, start.tokenizer.ids)
    _, images, captions = judge.read(held_out, range(len(held_out)))
    texts = np.stack([rows.mean(0) for rows in judge.texts(captions)])
    scores = judge.images(images) @ texts.T
    true = np.diag(scores)
    false = scores[~np.eye(len(scores), dtype=bool)].reshape(len(scores), -1)
    better = (true[:, None] > false).mean()  # 0.5 is chance
    assert better > 0.7, f"{better:.2f}"


@pytest.mark.parametrize("method", ["lora", "bitfit", "adapter", "prefix", "unipelt"])
def test_small_parts_through_the_recipe(method: Method, tmp_path: Path, shrunk: Shrunk) -> None:
    """The folder that a run leaves gives the vectors of its parts beside the model it began with."""
    config = replace(shrunk("contrastive"), tuning=Tuning(method, prefix_length=3, prefix_width=8))
    left = contrastive.run(config, tmp_path, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["config"]["tuning"]["method"] == method
    assert 0 < facts["parameters"]["trained"] < 0.4 * facts["parameters"]["all"]
    assert left == tmp_path / "run" / "model"
    before, after = (load_encoder(str(model), runtime="torch", device="cpu") for model in (config.model, left))
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    texts = ["boats in a harbor", "a forest"]
    assert not np.allclose(before.encode_images(images), after.encode_images(images), atol=1e-6)
    load_parts(before.model, tmp_path / "run" / "parts.safetensors", base=before.card.fingerprint)
    np.testing.assert_allclose(before.encode_images(images), after.encode_images(images), atol=1e-5)
    np.testing.assert_allclose(before.encode_texts(texts), after.encode_texts(texts), atol=1e-5)


def test_a_model_with_parts_beside_it_is_not_trained_on(tmp_path: Path, shrunk: Shrunk) -> None:
    config = replace(shrunk("contrastive"), tuning=Tuning("adapter"))
    left = contrastive.run(config, tmp_path, tmp_path / "run")
    with pytest.raises(ModelFileError, match="holds small parts") as told:
        load_start(find_card(str(left)))
    assert find_card(config.model).name in told.value.hint


def test_gaia_chooses_alpha_on_both_validations(tmp_path: Path, shrunk: Shrunk) -> None:
    gaia.run(shrunk("gaia"), tmp_path, tmp_path / "run")
    table = json.loads((tmp_path / "run" / "alphas.json").read_text())
    assert [point["alpha"] for point in table["points"]] == [0.0, 0.5, 1.0]
    assert table["alpha"] in (0.0, 0.5, 1.0)


def test_gaia_at_alpha_0_is_the_model_it_started_from(tmp_path: Path, shrunk: Shrunk) -> None:
    config = shrunk("gaia")
    loop = replace(config.loop, evaluate_every=0)
    config = replace(config, loop=loop, gained=None, kept=None, alpha=0.0)
    left = gaia.run(config, tmp_path, tmp_path / "run")
    before, after = (load_start(find_card(str(m))).towers.state_dict() for m in (config.model, left))
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_purify_counts_every_pair_and_does_no_stage_twice(
    tmp_path: Path, shrunk: Shrunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = shrunk("purify")
    purify.run(config, tmp_path, tmp_path / "run")
    counts = json.loads((tmp_path / "run" / "counts.json").read_text())
    (coarse,) = counts["coarse"]
    assert counts["good"] == 8
    assert coarse["pairs"] == 40
    assert coarse["kept"] == 28  # 0.7 of 40
    assert coarse["kept"] + coarse["rejected"] + coarse["unreadable"] == coarse["pairs"]
    assert coarse["refined"] + coarse["dropped"] == coarse["rejected"]
    facts = json.loads((tmp_path / "run" / "final" / "run.json").read_text())
    assert sum(row["images"] for row in facts["data"]) == 8 + 28 + coarse["refined"]

    def never(*_: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(Judge, "scores", never)
    purify.run(config, tmp_path, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "counts.json").read_text()) == counts


def test_purify_takes_any_captioner(tmp_path: Path, shrunk: Shrunk) -> None:
    class Mute:
        def captions(self, images: Any, old: Any) -> list[tuple[str, ...]]:
            return [() for _ in old]

    purify.run(shrunk("purify"), tmp_path, tmp_path / "run", captioner=Mute())
    (coarse,) = json.loads((tmp_path / "run" / "counts.json").read_text())["coarse"]
    assert (coarse["refined"], coarse["dropped"]) == (0, 12)


def test_wrong_configs_are_refused() -> None:
    values = tomllib.loads(next(p for p in NEW if p.name.startswith("gaia")).read_text())
    config = example("gaia")
    assert values["model"] == config.model
    with pytest.raises(UsageError, match="does not"):
        replace(config, tuning=Tuning("adapter"))
    with pytest.raises(UnknownNameError, match="mirror"):
        replace(config, mirror="always")
    with pytest.raises(UsageError, match="alphas"):
        replace(config, alphas=(0.0, 1.5))
    with pytest.raises(UsageError, match="keep"):
        replace(example("purify"), keep=0.0)
    with pytest.raises(UnknownNameError, match="refine"):
        replace(example("purify"), refine="guess")


def test_recipes_are_registered() -> None:
    assert set(MINE) <= set(RECIPES)
    assert all(load_recipe(name) is module for name, module in MINE.items())
