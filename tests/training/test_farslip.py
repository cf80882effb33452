"""Recipe farslip: published values, both stages chained, its losses in the shared loop, quirks only if asked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from geoglot.config import load_config  # noqa: E402
from geoglot.data.batches import BatchPlan  # noqa: E402
from geoglot.data.loader import Feed, Workshop  # noqa: E402
from geoglot.data.sources import DataSource  # noqa: E402
from geoglot.errors import ModelFileError, ModelNotFoundError, UnknownNameError, UsageError  # noqa: E402
from geoglot.models.checkpoints.fold import TABLE, stretch_positions  # noqa: E402
from geoglot.models.encoder import dense  # noqa: E402
from geoglot.models.load import load_encoder  # noqa: E402
from geoglot.models.zoo.registry import find_card  # noqa: E402
from geoglot.training.contrastive import Rows, info_nce  # noqa: E402
from geoglot.training.distributed import World  # noqa: E402
from geoglot.training.grad_cache import backward  # noqa: E402
from geoglot.training.journal import Progress, read_log  # noqa: E402
from geoglot.training.loop import to_batch  # noqa: E402
from geoglot.training.loop_config import Loop  # noqa: E402
from geoglot.training.model_folder import Start, load_start, with_long_text, write_model  # noqa: E402
from geoglot.training.objective import Batch, Contrastive  # noqa: E402
from geoglot.training.recipes.farslip import recipe as farslip  # noqa: E402
from geoglot.training.recipes.farslip.recipe import Config, FarSlip  # noqa: E402
from geoglot.training.recipes.farslip.region_losses import faded  # noqa: E402
from geoglot.training.recipes.farslip.region_pairs import Parts, RegionPair  # noqa: E402
from geoglot.training.registry import run_recipe  # noqa: E402
from geoglot.training.smoke import draw_regions, draw_world  # noqa: E402

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_world(tmp_path_factory.mktemp("world"))


def config_on(world: Path, **more: Any) -> Config:
    loop = Loop(batch=6, steps=3, learning_rate=1e-3, allow_high_learning_rate=True, workers=1, log_every=1)
    pairs = DataSource(str(world / "captions.jsonl"), split="train")
    regions = (draw_regions(world),) if more.get("region_weight") else ()
    values = {"model": str(world / "model"), "data": (pairs,), "regions": regions, "region_px": (4.0, 99.0), "crops": 2}
    return Config(loop=loop, **(values | more))


def objective(config: Config) -> tuple[FarSlip, Start]:
    start = load_start(find_card(config.model))
    return FarSlip(start.towers, config, side_px=start.image_px, mean=start.mean, std=start.std).train(), start


def batch_of(config: Config, start: Start) -> Batch:
    mix = farslip.mix_of(config, Path())
    sets, shares = mix.sets, mix.weights
    plan = BatchPlan(sets, shares, config.loop.batch, 0)
    workshop = Workshop(sets, farslip.parts_of(config, start.image_px), start.tokenizer.ids, 0)
    with Feed(workshop, plan, workers=1) as feed:
        return to_batch(next(iter(feed)))


def grads(model: FarSlip, batch: Batch, chunk: int = 0) -> dict[str, Tensor]:
    model.zero_grad()
    backward(model, batch, World(), chunk=chunk)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.allclose(left[n], right[n], atol=2e-6) for n in left)


# --- presets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["b16", "b32"])
def test_published_values(size: str) -> None:
    """farslip.md, sections 1.3, 1.4, 2.3 to 2.5."""
    one, two = (load_config(Config, CONFIGS / f"farslip_{stage}_{size}.toml") for stage in (1, 2))
    for config in (one, two):
        loop = config.loop
        assert (loop.batch, loop.weight_decay, loop.betas, loop.eps) == (160, 1.0, (0.9, 0.98), 1e-6)
        assert (loop.schedule, loop.accumulate, loop.clip) == ("cosine", 1, 0.0)
        assert (config.global_weight, config.contrast_gradient) == (1.0, 0.25)  # 0.25 : 0.1 and 0.25 : 1 on four GPUs
    assert not one.detach_target
    assert (two.drop_captioned, two.captions) == (True, "first")
    assert (one.loop.learning_rate, one.loop.warmup, one.loop.epochs) == (1e-6, 1000, 1.0)
    assert (one.patch_weight, one.region_weight, one.distill, one.teacher) == (0.1, 0.0, "roi2pooled", "active")
    assert (one.crops, one.crop_area, one.jitter, one.last_block) == (4, (0.3, 0.7), False, "segearth")
    assert one.model == f"openai-vit-b-{size[1:]}"
    assert (two.loop.learning_rate, two.loop.warmup, two.loop.epochs) == (4e-9, 250, 10.0)
    assert (two.patch_weight, two.region_weight, two.align, two.positives) == (0.0, 1.0, "cls", "category")
    assert (two.most_regions, two.region_px, two.jitter, two.long_text) == (4, (64, 1024), True, True)
    assert two.region_text == "a satellite image of {category}"
    assert two.init_from == f"runs/farslip1-{size}"


def test_wrong_configs_are_refused(world: Path) -> None:
    with pytest.raises(UsageError, match="give one of them"):
        config_on(world, init_from="elsewhere")
    with pytest.raises(UsageError, match="needs \\[\\[regions\\]\\]"):
        Config(loop=Loop(batch=2, steps=1), model="x", data=(DataSource("a"),), region_weight=1.0)
    for wrong in (
        {"distill": "roi2roi"},
        {"teacher": "old"},
        {"align": "box"},
        {"positives": "all"},
        {"captions": "last"},
    ):
        with pytest.raises(UnknownNameError):
            config_on(world, **wrong)
    for values in (
        {"global_weight": 0.0},
        {"contrast_gradient": 0.0},
        {"patch_weight": -1.0},
        {"crops": 0},
        {"region_text": "a thing"},
    ):
        with pytest.raises(UsageError):
            config_on(world, **values)
    with pytest.raises(ModelNotFoundError, match="init_from"):
        farslip.start_of(config_on(world, model="", init_from=str(world / "nothing")))


# --- the objective ------------------------------------------------------------------------------


def test_without_the_other_terms_it_is_contrastive_tuning(world: Path) -> None:
    config = config_on(world, loss="multi_positive")
    model, start = objective(config)
    batch = batch_of(config, start)
    assert not batch.extras
    plain = Contrastive(start.towers, "multi_positive", side_px=start.image_px, mean=start.mean, std=start.std).train()
    ours, theirs = (one.loss(one(batch), batch, World()) for one in (model, plain))
    assert torch.allclose(ours["contrast"], theirs["contrast"], atol=1e-6)
    assert list(ours) == ["contrast"]


@pytest.mark.parametrize("processes", [2, 4])
def test_the_contrast_as_released_over_many_processes(processes: int) -> None:
    """FarSLIP's loss.py, gather_features without gradient: each process has the whole loss, and a gradient in its own
    rows alone; DDP takes the mean. So the towers move with 1 / processes of the weight, the temperature with all."""
    chance = torch.Generator().manual_seed(0)
    pixels, words = torch.randn(2, 12, 5, generator=chance)
    start = [torch.randn(5, 3, generator=chance) for _ in range(2)] + [torch.tensor(2.0)]

    def rows(parameters: list[Tensor], part: slice) -> tuple[Tensor, Tensor]:
        image, text, _ = parameters
        return F.normalize(pixels[part] @ image, dim=1), F.normalize(words[part] @ text, dim=1)

    def whole_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
        logits, target = scale.exp() * images @ texts.T, torch.arange(12)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    released = [torch.zeros_like(one) for one in start]
    for rank in range(processes):
        parameters = [one.clone().requires_grad_() for one in start]
        own = slice(rank * 12 // processes, (rank + 1) * 12 // processes)
        gathered = [everybody.detach().clone() for everybody in rows(parameters, slice(None))]
        for everybody, mine in zip(gathered, rows(parameters, own), strict=True):
            everybody[own] = mine
        whole_loss(*gathered, parameters[2]).backward()
        released = [total + one.grad / processes for total, one in zip(released, parameters, strict=True)]

    parameters = [one.clone().requires_grad_() for one in start]
    images, texts = (faded(side, 1 / processes) for side in rows(parameters, slice(None)))
    ids = torch.arange(12)
    loss = info_nce(Rows(images, texts, ids, ids), parameters[2].exp(), World())
    loss.backward()
    assert torch.allclose(loss, whole_loss(images, texts, parameters[2]))
    for ours, theirs in zip(parameters, released, strict=True):
        assert torch.allclose(ours.grad, theirs, atol=1e-7)


def test_contrast_gradient_reaches_the_towers_by_its_share_and_the_temperature_whole(world: Path) -> None:
    whole, start = objective(config_on(world))
    batch = batch_of(whole.config, start)
    full = grads(whole, batch)
    whole.config = replace(whole.config, contrast_gradient=0.25)
    quarter = grads(whole, batch)
    for name, gradient in full.items():
        share = 1.0 if name.endswith("logit_scale") else 0.25
        assert torch.allclose(quarter[name], share * gradient, atol=1e-6), name


def test_patches_may_keep_the_last_block_s_residual(world: Path) -> None:
    """As the released MaskCLIP does (the slow loop of both is in tests/models/test_towers.py)."""
    model, start = objective(config_on(world, patch_weight=0.5, last_block="maskclip", keep_residual=True))
    x = torch.rand(2, 3, start.image_px, start.image_px)
    kept, bare = (start.towers.dense(x, "maskclip", keep_residual=keep).patches for keep in (True, False))
    assert torch.equal(model._encode(start.towers, x).patches, kept)
    assert not torch.allclose(kept, bare)


def test_the_first_caption_as_released(world: Path) -> None:
    image = RegionPair("x", b"", ("the long one", "a brief one"), np.zeros((8, 8, 3), np.uint8), ())
    drawn = {Parts(4, captions="first")(image, np.random.default_rng(i)).texts for i in range(20)}
    assert drawn == {("the long one",)}
    assert len({Parts(4)(image, np.random.default_rng(i)).texts for i in range(20)}) == 2
    assert farslip.parts_of(config_on(world, captions="first"), 8).captions == "first"


STAGES: dict[str, dict[str, Any]] = {
    "patches": {"patch_weight": 0.5},
    "patches, gradient flows": {"patch_weight": 0.5, "detach_target": False},
    "patches to cls": {"patch_weight": 0.5, "distill": "roi2cls"},
    "cls": {"region_weight": 1.0},
    "pooled": {"region_weight": 1.0, "align": "pooled"},
    "roi": {"region_weight": 1.0, "align": "roi"},
    "both": {"region_weight": 1.0, "patch_weight": 0.5, "teacher": "ema", "positives": "own"},
}


@pytest.mark.parametrize("name", list(STAGES))
def test_chunks_give_the_gradient_of_the_batch(name: str, world: Path) -> None:
    config = config_on(world, loss="multi_positive", **STAGES[name])
    model, start = objective(config)
    batch = batch_of(config, start)
    assert same(grads(model, batch), grads(model, batch, chunk=4))


def test_one_pass_gives_what_separate_passes_give(world: Path) -> None:
    """Crops in the batch of the whole images against crops on their own, gradient included."""
    config = config_on(world, patch_weight=0.5, detach_target=False)
    model, start = objective(config)
    batch = batch_of(config, start)
    together = grads(model, batch)
    plain = model._see

    def apart(parts: dict[str, Tensor]) -> Any:
        return {name: plain({name: part})[name] for name, part in parts.items()}

    model._see = apart  # type: ignore[method-assign]
    assert same(together, grads(model, batch))


def test_the_gradient_through_the_target_is_an_option(world: Path) -> None:
    config = config_on(world, patch_weight=0.5)
    model, start = objective(config)
    batch = batch_of(config, start)
    model.config = replace(config, detach_target=False)
    flowing = grads(model, batch)
    model.config = config
    stopped = grads(model, batch)
    assert not same(flowing, stopped)
    # The value is the same: only the gradient differs.
    model.config = replace(config, detach_target=False)
    assert torch.allclose(model(batch)["agreement"], FarSlip.forward(model, batch)["agreement"])


def test_a_frozen_teacher_stays_and_an_ema_follows(world: Path) -> None:
    moved = {}
    for kind in ("ema", "frozen"):
        model, _ = objective(config_on(world, patch_weight=0.5, teacher=kind))
        assert model.teacher is not None
        before = model.teacher.model.visual.proj.clone()
        with torch.no_grad():
            model.towers.visual.proj.add_(1.0)
        model.before_step(0)
        model.after_step(0)
        moved[kind] = float((model.teacher.model.visual.proj - before).mean())
    assert moved["frozen"] == 0
    assert moved["ema"] == pytest.approx(0.01, abs=1e-6)


def test_the_released_code_moves_its_teacher_before_the_step(world: Path) -> None:
    late, _ = objective(config_on(world, patch_weight=0.5, teacher="ema", teacher_after_step=False))
    assert late.teacher is not None
    before = late.teacher.model.visual.proj.clone()
    late.before_step(0)
    with torch.no_grad():
        late.towers.visual.proj.add_(1.0)  # what the optimiser does
    late.after_step(0)
    assert torch.allclose(late.teacher.model.visual.proj, before, atol=1e-6)


def test_batch_norm_keeps_its_statistics(tmp_path: Path) -> None:
    from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
    from geoglot.models.towers.clip import build

    shape = Architecture(
        VisionShape("convnet", 32, 32, 8, (1, 1, 1, 1), 0, 0, "mean"),
        TextShape("concepts", 8, 20, 16, 1, 2, 32),
        8,
        "gelu",
    )
    config = Config(loop=Loop(batch=2, steps=1), model="x", data=(DataSource("a"),), patch_weight=1.0)
    model = FarSlip(build(shape), config, side_px=32).train()
    before = model.towers.visual.stem[1].running_mean.clone()
    extras = {
        "crops": torch.zeros(2, 1, 32, 32, 3, dtype=torch.uint8),
        "crop_boxes": torch.rand(2, 1, 4).sort(2).values,
    }
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    model(Batch(images, torch.ones(2, 1, 8, dtype=torch.int64), torch.arange(2), extras))
    assert torch.equal(model.towers.visual.stem[1].running_mean, before)


# --- runs ---------------------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize("teacher", ["active", "ema"])
def test_two_stages_and_exact_resume(teacher: str, world: Path, tmp_path: Path) -> None:
    one = config_on(world, patch_weight=0.5, teacher=teacher)
    one = replace(one, loop=replace(one.loop, checkpoint_every=1, steps=4))
    weights = []
    for name, stop in (("whole", 0), ("broken", 2)):

        def show(progress: Progress, stop: int = stop) -> None:
            if progress.step == stop:
                raise Stop

        if stop:
            with pytest.raises(Stop):
                farslip.run(one, Path(), tmp_path / name, show)
        farslip.run(one, Path(), tmp_path / name)
        weights.append(torch.load(tmp_path / name / "final.pt", weights_only=True)["weights"])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert any(key.startswith("teacher.") for key in weights[0]) == (teacher == "ema")

    two = config_on(world, model="", init_from=str(tmp_path / "whole"), region_weight=1.0, jitter=True)
    left = farslip.run(two, Path(), tmp_path / "two")
    row = list(read_log(tmp_path / "two" / "log.jsonl"))[-1]
    assert {"contrast", "regions"} <= row.keys()
    assert json.loads((tmp_path / "two" / "run.json").read_text())["config"]["init_from"] == str(tmp_path / "whole")
    encoder = dense(load_encoder(str(left), runtime="torch", device="cpu"))
    assert encoder.card.about["tuned_from"].startswith("whole")


def test_stage_two_smokes_as_the_command_line_does_it(tmp_path: Path) -> None:
    left = run_recipe("farslip", CONFIGS / "farslip_2_b32.toml", tmp_path, tmp_path / "run", smoke=True)
    assert left == tmp_path / "run" / "model"
    assert {"contrast", "regions"} <= list(read_log(tmp_path / "run" / "log.jsonl"))[-1].keys()


def test_a_hopeless_rate_is_warned_of(world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = config_on(world)
    with caplog.at_level(logging.WARNING, logger="geoglot.farslip"):
        farslip.run(replace(config, loop=replace(config.loop, steps=1, learning_rate=4e-9)), Path(), tmp_path)
    assert "4e-09" in caplog.text


def test_long_text_is_the_stretched_table_and_is_written(tmp_path: Path, clip_folder: Path) -> None:
    start = load_start(find_card(str(clip_folder)))
    longer = with_long_text(start)
    assert longer.tokenizer.context == 248
    assert torch.equal(longer.towers.state_dict()[TABLE], stretch_positions(start.towers.state_dict()[TABLE]))
    assert with_long_text(longer) is longer
    weights = {f"towers.{name}": value for name, value in longer.towers.state_dict().items()}
    card = write_model(longer, weights, tmp_path / "long", "long")
    assert card.architecture is not None
    assert card.architecture.text.context == 248
    again = load_start(card)
    ids = torch.from_numpy(again.tokenizer.ids(["a harbor"]))
    assert torch.allclose(again.towers.encode_text(ids), longer.towers.encode_text(ids), atol=1e-6)


def test_only_clip_texts_are_stretched(world: Path) -> None:
    with pytest.raises(ModelFileError, match="stretch"):
        with_long_text(load_start(find_card(str(world / "model"))))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP of 77 tokens with a byte-pair tokenizer, as a model folder."""
    from dataclasses import asdict
    from shutil import copyfile

    from geoglot.files import sha256
    from geoglot.models.checkpoints.convert import FILE, write_safetensors
    from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
    from geoglot.models.towers.clip import build
    from geoglot.models.zoo.card_toml import write_card

    folder = tmp_path_factory.mktemp("clip")
    golden = Path(__file__).parents[1] / "models" / "golden_tokens"
    copyfile(golden / "bpe.txt.gz", folder / "bpe.txt.gz")
    vocabulary = json.loads((golden / "manifest.json").read_text("utf-8"))["vocabulary"]["bpe"]
    vision, text = VisionShape("vit", 32, 16, 16, (1,), 2, 32, "cls"), TextShape("clip", 77, vocabulary, 16, 1, 2, 32)
    shape = Architecture(vision, text, 8, "quick_gelu")
    torch.manual_seed(0)
    write_safetensors(build(shape).state_dict(), folder / FILE, {})
    files = {"weights": FILE, "tokenizer": "bpe.txt.gz"}
    card = {"name": "tiny-clip", "version": "0", "dim": 8, "image_px": 32, "languages": ["en"]}
    tables = {"architecture": asdict(shape), "preprocess": {"mean": [0.4] * 3, "std": [0.2] * 3}}
    tables["tokenizer"] = {"kind": "clip_bpe"}
    tables["files"] = {role: {"file": n, "sha256": sha256(folder / n)} for role, n in files.items()}
    write_card(folder, card | tables)
    return folder
