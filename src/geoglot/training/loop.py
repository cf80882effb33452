"""The training loop that all recipes share: one process, or many under `torchrun`; it can be stopped at any moment.

    with open_world(loop.device) as world, Feed(workshop, plan, rank=world.rank, size=world.size) as feed:
        report = train(objective, feed, loop, out, facts, world)

Chance at a step depends on the seed, the step and the process alone, and the sampler's state travels in the checkpoint:
a resumed run repeats an unbroken one bit for bit (same machine, same number of processes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from geoglot.data.loader import Feed, Loaded
from geoglot.errors import UsageError
from geoglot.training.distributed import World, total
from geoglot.training.grad_cache import backward, refuse_batch_norm
from geoglot.training.guards import Watch, mean_cosine
from geoglot.training.journal import Journal, OnProgress, Progress
from geoglot.training.loop_config import Loop
from geoglot.training.objective import Batch, Objective, Outputs
from geoglot.training.run_folder import BEST, FINAL, LAST, load, refuse_other_run, save, write_facts
from geoglot.training.schedules import rate_at
from geoglot.training.weights import (
    MovingAverage,
    checkpoint_blocks,
    count,
    freeze,
    make_optimizer,
    refuse_destructive_rate,
)

Evaluate = Callable[[Objective], float]
"""A validation metric, higher is better; called on the leading process, with the averaged weights if there are any."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended.

    Attributes:
        final: File of the weights: `{"weights": state of the objective}`.
        steps: Done.
        best: Best metric and its step; None without validation.
        stopped_early: Whether patience ran out.
        wait_share: Share of the time spent waiting for data.
        corrupt: Samples left out, as often as they came.
    """

    final: Path
    steps: int
    best: tuple[float, int] | None
    stopped_early: bool
    wait_share: float
    corrupt: int


def train(
    objective: Objective,
    feed: Feed,
    loop: Loop,
    out: Path,
    facts: Mapping[str, Any],
    world: World,
    *,
    pretrained: tuple[str, ...] = (),
    evaluate: Evaluate | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Train, going on from `out/last.pt` where there is one.

    Args:
        objective: What is trained, on any device.
        feed: Batches; its plan is moved to where the checkpoint stood.
        loop: How.
        out: The run's folder.
        facts: For `run.json`; see `facts_of`.
        world: Who trains together.
        pretrained: Patterns of parameters that hold pretrained weights: a rate that would destroy them is refused.
        evaluate: Validation metric.
        on_progress: Called whenever a line is logged.

    Raises:
        UsageError: The config contradicts itself, the model, or the run that `out` holds.
        DivergedError, CollapsedError: See `watch`. The last checkpoint is from before.
        TrainingError: Too much of the data is corrupt.
        StorageError: The disk is full.
    """
    run = _Run(objective, feed, loop, out, facts, world, pretrained)
    try:
        return run.go(evaluate, on_progress)
    finally:
        run.journal.close()


@dataclass(slots=True)
class _Pending:
    """A step whose numbers have not been looked at: reading them earlier would make the device wait for the host."""

    step: int
    terms: dict[str, Tensor]
    norm: Tensor
    rows: int


@dataclass(slots=True)
class _Clock:
    """Time since the last line of the log."""

    began: float = field(default_factory=perf_counter)
    wait_s: float = 0.0
    samples: int = 0

    def rates(self) -> tuple[float, float]:
        """Samples a second, and share of time spent waiting."""
        elapsed = perf_counter() - self.began
        return self.samples / elapsed, self.wait_s / elapsed


class _Run:
    def __init__(
        self,
        objective: Objective,
        feed: Feed,
        loop: Loop,
        out: Path,
        facts: Mapping[str, Any],
        world: World,
        pretrained: tuple[str, ...],
    ) -> None:
        self.objective, self.feed, self.loop, self.out, self.world = objective, feed, loop, out, world
        self._check(pretrained)
        objective.to(world.device).train()
        self.chunk = loop.chunk if loop.chunk < loop.batch // world.size else 0
        refuse_batch_norm(objective, self.chunk)
        if loop.checkpoint_activations:
            checkpoint_blocks(objective)
        self.model: nn.Module = objective
        if world.size > 1:
            devices = [world.device.index] if world.device.type == "cuda" else None
            self.model = DistributedDataParallel(objective, device_ids=devices)
        self.optimizer = make_optimizer(objective, loop)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=loop.precision == "fp16")
        self.average = MovingAverage(objective, loop.ema) if loop.ema else None
        self.watch = Watch(loop.warmup, loop.stuck_after)
        per_epoch = feed.plan.size / (loop.batch * loop.accumulate)
        self.steps = loop.steps or math.ceil(loop.epochs * per_epoch)
        self.per_epoch = per_epoch
        self.step, self.bad, self.corrupt_before = 0, 0, 0
        self.best: tuple[float, int] | None = None
        self.plan_state = feed.plan.state()
        self.pending: list[_Pending] = []
        self.clock, self.whole = _Clock(), _Clock()
        out.mkdir(parents=True, exist_ok=True)
        changed = refuse_other_run(out, facts, loop.allow_changed_loop)
        if world.leads:
            more = {"parameters": count(objective), "steps": self.steps, "changed": changed}
            write_facts(out, {**facts, **more})
        self._resume()
        self.journal = _NoJournal() if not world.leads else Journal(out, self.step, loop.tensorboard)

    def _check(self, pretrained: tuple[str, ...]) -> None:
        loop, world = self.loop, self.world
        if loop.batch != self.feed.plan.batch or loop.batch % world.size:
            hint = "Choose a batch that the number of processes divides."
            raise UsageError(f"a batch of {loop.batch} cannot be shared by {world.size} processes", hint=hint)
        if loop.precision == "fp16" and world.device.type == "cpu":
            raise UsageError("fp16 needs a GPU", hint="Use precision = bf16 or fp32.")
        freeze(self.objective, loop.freeze)
        refuse_destructive_rate(self.objective, pretrained, loop)

    # --- the steps -------------------------------------------------------------------------------

    def go(self, evaluate: Evaluate | None, on_progress: OnProgress | None) -> Report:
        batches = iter(self.feed)
        stopped = self._patience_is_out()
        while self.step < self.steps and not stopped:
            self._one_step(batches)
            ends = self.step == self.steps
            if self.step % self.loop.log_every == 0 or ends:
                self._look(on_progress)
            if self.loop.evaluate_every and evaluate and (self.step % self.loop.evaluate_every == 0 or ends):
                self._look(on_progress)
                self._validate(evaluate)
                stopped = self._patience_is_out()
            if self.step % self.loop.checkpoint_every == 0 or ends or stopped:
                self._look(on_progress)
                self._save_last()
        return self._finish(stopped)

    def _one_step(self, batches: Iterator[Loaded]) -> None:
        loop = self.loop
        torch.manual_seed(_seed(loop.seed, self.step, self.world.rank))
        for group in self.optimizer.param_groups:
            rate = rate_at(self.step, self.steps, loop.warmup, loop.schedule, loop.floor)
            group["lr"] = loop.learning_rate * group["share"] * rate
        means: dict[str, Tensor] = {}
        outputs: Outputs = {}
        rows = 0
        for turn in range(loop.accumulate):
            loaded = next(batches)
            batch = to_batch(loaded).to(self.world.device)
            terms, outputs = backward(
                self.model,
                batch,
                self.world,
                chunk=self.chunk,
                autocast=partial(_autocast, self.world.device, loop),
                scale=lambda loss: self.scaler.scale(loss / loop.accumulate),
                last=turn == loop.accumulate - 1,
            )
            means = {name: means.get(name, 0) + value / loop.accumulate for name, value in terms.items()}
            rows += len(batch)
            self.plan_state = loaded.plan
            self.clock.wait_s, self.whole.wait_s = self.clock.wait_s + loaded.wait_s, self.whole.wait_s + loaded.wait_s
        norm = self._update()
        self.clock.samples, self.whole.samples = self.clock.samples + rows, self.whole.samples + rows
        self.pending.append(_Pending(self.step, means, norm, rows // loop.accumulate))
        self.outputs = outputs
        self.step += 1

    def _update(self) -> Tensor:
        """Clip, step, average; returns the gradient's norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        moving = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(moving, self.loop.clip or math.inf)
        self.objective.before_step(self.step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.after_step(self.step)
        if self.average:
            self.average.update(self.step)
        return norm

    # --- looking at what happened ----------------------------------------------------------------

    def _look(self, on_progress: OnProgress | None) -> None:
        """Read the numbers of the steps since the last look; stop a run that has gone wrong; write a line."""
        if not self.pending:
            return
        chance = self.objective.chance(self._joint_rows())
        for pending, values in zip(self.pending, self._joint_terms(), strict=True):
            self.watch.loss(pending.step, sum(values.values()), next(iter(values.values())), chance)
        spread = {
            name: total(float(mean_cosine(self.outputs[name])), self.world) / self.world.size
            for name in ("images", "texts")
            if name in self.outputs
        }
        last = self.pending[-1]
        rate, wait = self.clock.rates()
        row = {
            "step": self.step,
            "epoch": round(self.step / self.per_epoch, 4),
            "loss": sum(values.values()),
            **values,
            **self.objective.measures(self.outputs),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "grad_norm": float(last.norm),
            **({"scale": float(self.outputs["scale"])} if "scale" in self.outputs else {}),
            **{f"{name}_cosine": round(value, 5) for name, value in spread.items()},
            "samples_per_s": round(total(rate, self.world), 2),
            "wait_share": round(wait, 4),
            "corrupt": self._corrupt(),
        }
        self.journal.write(row)
        self.pending.clear()
        self.clock = _Clock()
        if on_progress and self.world.leads:
            on_progress(Progress(self.step, self.steps, row["epoch"], row["loss"], row["samples_per_s"], wait))
        self.watch.spread(self.step, spread.get("images", 0.0), spread.get("texts", 0.0))

    def _joint_terms(self) -> list[dict[str, float]]:
        """The terms of each pending step, as the mean over processes."""
        names = list(self.pending[0].terms)
        table = torch.stack([torch.stack([p.terms[n].float() for n in names]) for p in self.pending])
        if self.world.size > 1:
            dist.all_reduce(table)
            table /= self.world.size
        return [dict(zip(names, row, strict=True)) for row in table.tolist()]

    def _joint_rows(self) -> int:
        return max(2, round(total(self.pending[-1].rows, self.world)))

    def _corrupt(self) -> int:
        """Samples left out since the run began, on all processes."""
        return self.corrupt_before + int(total(self.feed.corrupt.count, self.world))

    def _validate(self, evaluate: Evaluate) -> None:
        value = 0.0
        if self.world.leads:
            self.objective.eval()
            with torch.no_grad(), self.average.applied() if self.average else nullcontext():
                value = float(evaluate(self.objective))
                if self.best is None or value > self.best[0]:
                    save(self.out / BEST, {"weights": self.objective.state_dict(), "step": self.step, "metric": value})
            self.objective.train()
            self.journal.write({"step": self.step, "metric": value})
        value = total(value, self.world)
        if self.best is None or value > self.best[0]:
            self.best, self.bad = (value, self.step), 0
        else:
            self.bad += 1

    def _patience_is_out(self) -> bool:
        return bool(self.loop.patience) and self.bad >= self.loop.patience

    # --- coming and going ------------------------------------------------------------------------

    def _save_last(self) -> None:
        corrupt = self._corrupt()
        if self.world.leads:
            state = {
                "step": self.step,
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "average": self.average.values if self.average else {},
                "plan": self.plan_state,
                "watch": self.watch.state(),
                "best": list(self.best) if self.best else [],
                "bad": self.bad,
                "corrupt": corrupt,
            }
            save(self.out / LAST, state)
        if self.world.size > 1:
            dist.barrier()

    def _resume(self) -> None:
        if not (self.out / LAST).is_file():
            return
        state = load(self.out / LAST, self.world.device)
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.values = state["average"]
        self.feed.plan.restore(state["plan"])
        self.watch.restore(state["watch"])
        self.plan_state, self.step, self.bad = state["plan"], state["step"], state["bad"]
        self.corrupt_before = state["corrupt"]
        self.best = (state["best"][0], state["best"][1]) if state["best"] else None

    def _finish(self, stopped: bool) -> Report:
        final = self.out / FINAL
        if self.world.leads:
            with self.average.applied() if self.average else nullcontext():
                save(final, {"weights": self.objective.state_dict(), "step": self.step})
        corrupt = self._corrupt()
        if self.world.leads and self.feed.corrupt.names:
            lines = [f"{name}\t{reason}\n" for name, reason in self.feed.corrupt.names.items()]
            (self.out / "corrupt.tsv").write_text("".join(lines), "utf-8", "backslashreplace")
        return Report(final, self.step, self.best, stopped, self.whole.rates()[1], corrupt)


class _NoJournal:
    """Processes that do not lead write nothing."""

    def write(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def to_batch(loaded: Loaded) -> Batch:
    """Arrays as tensors, without a copy."""
    images, texts, ids = (torch.from_numpy(a) for a in (loaded.images, loaded.texts, loaded.image_ids))
    return Batch(images, texts, ids, {name: torch.from_numpy(value) for name, value in loaded.extras.items()})


def _autocast(device: torch.device, loop: Loop) -> torch.autocast:
    kind = torch.float16 if loop.precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=loop.precision != "fp32")


def _seed(seed: int, step: int, rank: int) -> int:
    """One number for each; the multipliers are primes, so that neighbours do not meet."""
    return (seed * 1_000_003 + step * 7_919 + rank * 104_729) % (1 << 63)
