from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tiny_towers import alone, draw_data, make_feed, objective, open_data  # noqa: E402

from geoglot.data.loader import Loaded  # noqa: E402
from geoglot.errors import CollapsedError, DivergedError, MissingExtraError, UsageError  # noqa: E402
from geoglot.training import loop as loop_module  # noqa: E402
from geoglot.training.journal import Progress, read_log  # noqa: E402
from geoglot.training.loop import Report, train  # noqa: E402
from geoglot.training.loop_config import Loop  # noqa: E402
from geoglot.training.objective import Objective  # noqa: E402
from geoglot.training.run_folder import facts_of, read_facts  # noqa: E402
from geoglot.training.weights import MovingAverage  # noqa: E402

LOOP = Loop(batch=8, steps=9, learning_rate=1e-2, warmup=2, ema=0.9, chunk=3, log_every=1, checkpoint_every=4, clip=5.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data(tmp_path_factory.mktemp("pairs"), count=20)


def run(data: Path, out: Path, loop: Loop = LOOP, **more: Any) -> Report:
    model = more.pop("model", None) or objective("infonce", dropout=0.2)
    with make_feed(data, loop, alone()) as feed:
        return train(model, feed, loop, out, facts_of("test", loop, open_data(data), alone()), alone(), **more)


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_log(out / "log.jsonl") if "loss" in row]


class Stop(Exception):
    pass


def stop_at(step: int) -> Any:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise Stop

    return stop


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "chunk": 0}, {"precision": "bf16"}])
def test_a_resumed_run_repeats_an_unbroken_one_to_the_bit(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """20 images, batches of 8: step 4, where the checkpoint is, lies within the second epoch."""
    loop = replace(LOOP, **changes)
    run(data, tmp_path / "whole", loop)
    with pytest.raises(Stop):
        run(data, tmp_path / "broken", loop, on_progress=stop_at(7))  # three steps after the checkpoint are lost
    assert len(losses(tmp_path / "broken")) == 7
    run(data, tmp_path / "broken", replace(loop, ahead=1, workers=1))
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    left, right = (torch.load(tmp_path / f / "final.pt")["weights"] for f in ("whole", "broken"))
    assert all(torch.equal(left[key], right[key]) for key in left)
    before, after = (torch.load(tmp_path / f / "last.pt") for f in ("whole", "broken"))
    assert before["plan"] == after["plan"]
    assert all(torch.equal(before["average"][key], after["average"][key]) for key in before["average"])


def test_another_seed_is_another_run(data: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        run(data, tmp_path / str(seed), replace(LOOP, seed=seed))
    assert losses(tmp_path / "0") != losses(tmp_path / "1")


def test_a_run_does_not_go_on_as_another(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run")
    with pytest.raises(UsageError, match=r"differs in learning_rate, warmup"):
        run(data, tmp_path / "run", replace(LOOP, learning_rate=1e-3, warmup=1))
    other = draw_data(tmp_path / "other", count=20, seed=1)
    with pytest.raises(UsageError, match="differs in data"):
        run(other, tmp_path / "run")


def test_a_changed_loop_goes_on_when_told(data: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Config:
        loop: Loop

    def once(loop: Loop) -> None:
        config = Config(loop)
        with make_feed(data, loop, alone()) as feed:
            facts = facts_of("test", config, open_data(data), alone())
            train(objective("infonce"), feed, loop, tmp_path / "run", facts, alone())

    once(LOOP)
    with pytest.raises(UsageError, match=r"differs in loop\.steps, loop\.learning_rate"):
        once(replace(LOOP, steps=11, learning_rate=1e-3))
    once(replace(LOOP, steps=11, learning_rate=1e-3, allow_changed_loop=True))
    assert len(losses(tmp_path / "run")) == 11
    assert read_facts(tmp_path / "run" / "run.json")["changed"] == ["loop.steps", "loop.learning_rate"]


def test_run_json_says_it_all(data: Path, tmp_path: Path) -> None:
    report = run(data, tmp_path / "run")
    facts = read_facts(tmp_path / "run" / "run.json")
    assert facts["recipe"] == "test"
    assert facts["config"]["learning_rate"] == 1e-2
    assert facts["data"][0]["images"] == 20
    assert len(facts["data"][0]["fingerprint"]) == 16
    assert {"torch", "geoglot", "device", "processes"} <= set(facts["environment"])
    assert facts["parameters"]["trained"] == facts["parameters"]["all"] - 1, "InfoNCE has no use for a logit_bias"
    assert report.steps == 9
    assert 0 <= report.wait_share <= 1
    row = list(read_log(tmp_path / "run" / "log.jsonl"))[-1]
    assert {"step", "epoch", "contrast", "grad_norm", "scale", "images_cosine", "wait_share"} <= set(row)
    assert row["epoch"] == pytest.approx(9 * 8 / 20, abs=1e-3)


def test_epochs_become_steps(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path / "run", replace(LOOP, steps=0, epochs=1.0)).steps == 3


def test_it_learns(data: Path, tmp_path: Path) -> None:
    found = losses(tmp_path / "run") if run(data, tmp_path / "run", replace(LOOP, steps=40, ema=0.0)) else []
    assert sum(found[-5:]) < 0.9 * sum(found[:5])


def test_the_moving_average_against_a_loop() -> None:
    model = torch.nn.Linear(3, 2)
    average, kept = MovingAverage(model, 0.8), model.weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            model.weight.add_(torch.randn_like(model.weight))
        average.update(step)
        decay = min(0.8, (1 + step) / (10 + step))
        kept = decay * kept + (1 - decay) * model.weight.detach()
    assert torch.allclose(average.values["weight"], kept, atol=1e-6)
    live = model.weight.detach().clone()
    with average.applied():
        assert torch.equal(model.weight, average.values["weight"])
    assert torch.equal(model.weight, live)


def test_early_stop_and_the_best_weights(data: Path, tmp_path: Path) -> None:
    values = iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.9])
    seen: list[float] = []

    def metric(model: Objective) -> float:
        assert not model.training
        seen.append(next(values))
        return seen[-1]

    loop = replace(LOOP, steps=50, evaluate_every=2, patience=3)
    report = run(data, tmp_path / "run", loop, evaluate=metric)
    assert (report.stopped_early, report.steps, report.best) == (True, 10, (0.5, 4))
    best = torch.load(tmp_path / "run" / "best.pt")
    assert (best["step"], best["metric"]) == (4, 0.5)
    assert run(data, tmp_path / "run", loop, evaluate=metric).steps == 10, "patience has run out for good"
    assert len(seen) == 5


def test_frozen_weights_stay(data: Path, tmp_path: Path) -> None:
    model = objective("infonce")
    before = model.towers.visual[0].weight.detach().clone()
    run(data, tmp_path / "run", replace(LOOP, freeze=("towers.visual.*",)), model=model)
    assert torch.equal(model.towers.visual[0].weight, before)
    assert not torch.equal(model.towers.text[0].weight, objective("infonce").towers.text[0].weight)
    with pytest.raises(UsageError, match="matches no parameter"):
        run(data, tmp_path / "two", replace(LOOP, freeze=("visual.*",)))


def test_a_destructive_rate_is_refused_unless_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would overwrite pretrained weights") as caught:
        run(data, tmp_path / "run", pretrained=("towers.*",))
    assert "allow_high_learning_rate" in caught.value.hint
    run(data, tmp_path / "told", replace(LOOP, steps=1, allow_high_learning_rate=True), pretrained=("towers.*",))
    run(data, tmp_path / "low", replace(LOOP, steps=1, learning_rate=1e-5), pretrained=("towers.*",))
    frozen = replace(LOOP, steps=1, freeze=("towers.visual.*",))
    run(data, tmp_path / "frozen", frozen, pretrained=("towers.visual.*",))


def test_divergence_stops_the_run_and_leaves_the_checkpoint(data: Path, tmp_path: Path) -> None:
    class Burst(type(objective("infonce"))):  # type: ignore[misc]
        def loss(self, outputs, batch, world):  # type: ignore[no-untyped-def]
            self.calls = getattr(self, "calls", 0) + 1
            factor = float("inf") if self.calls > 6 else 1.0
            return {"contrast": super().loss(outputs, batch, world)["contrast"] * factor}

    with pytest.raises(DivergedError, match=r"step 7") as caught:
        run(data, tmp_path / "run", replace(LOOP, log_every=4), model=Burst(objective("infonce").towers))
    assert "learning_rate" in caught.value.hint
    assert torch.load(tmp_path / "run" / "last.pt")["step"] == 4


def test_collapse_stops_the_run(data: Path, tmp_path: Path) -> None:
    model = objective("infonce")
    model.towers.visual[-1].weight.data.zero_()
    model.towers.visual.requires_grad_(False)
    with pytest.raises(CollapsedError, match="all images have the same embedding"):
        run(data, tmp_path / "run", replace(LOOP, steps=30, stuck_after=5), model=model)


def test_tensorboard_reads_what_the_journal_wrote(data: Path, tmp_path: Path) -> None:
    """Also after a resume: what the interrupted run wrote behind its checkpoint is gone there, too."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    loop, out = replace(LOOP, tensorboard=True), tmp_path / "run"
    with pytest.raises(Stop):
        run(data, out, loop, on_progress=stop_at(7))
    run(data, out, loop)
    board = accumulator.EventAccumulator(str(out / "tensorboard"))
    board.Reload()
    shown = {event.step: event.value for event in board.Scalars("loss")}
    written = {row["step"]: row["loss"] for row in read_log(out / "log.jsonl") if "loss" in row}
    assert shown == pytest.approx(written, rel=1e-6)
    assert len(board.Scalars("loss")) == len(written)


def test_tensorboard_is_optional(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="TensorBoard"):
        run(data, tmp_path / "none", replace(LOOP, tensorboard=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "give one of them"),
        ({"epochs": 1.0}, "give one of them"),
        ({"batch": 1}, "at least 2"),
        ({"learning_rate": float("nan")}, "must be positive"),
        ({"ema": 1.0}, "not a share"),
        ({"precision": "fp8"}, "unknown precision"),
        ({"schedule": "cosinus"}, "unknown schedule"),
        ({"patience": 2}, "needs evaluate_every"),
        ({"chunk": -1}, "not be negative"),
    ],
)
def test_settings_that_contradict_themselves(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(LOOP, **changes)


def test_a_torn_last_line_of_the_log_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "loss": 2.0}) + '\n{"step": 2, "lo')
    assert losses(tmp_path) == [2.0]


def test_batches_are_not_copied() -> None:
    import numpy as np

    loaded = Loaded(np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 1, 3), np.int64), np.zeros(2, np.int64), {}, 0.0)
    assert loop_module.to_batch(loaded).images.data_ptr() == loaded.images.ctypes.data
