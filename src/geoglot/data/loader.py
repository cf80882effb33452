"""Decode batches ahead of time, in threads or processes, so that training never waits; count what is corrupt."""

from __future__ import annotations

import logging
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoglot.data.batches import BatchPlan, Draw
from geoglot.data.decode import Prepared
from geoglot.data.pairs import Pair, PairSet
from geoglot.errors import SampleError, TrainingError

log = logging.getLogger("geoglot.feed")

SLICE = 16
"""Records a task: a few milliseconds of decoding, so that handing over costs little and the last task ends soon."""

Preparation = Callable[[Pair, np.random.Generator], Prepared]
Tokenize = Callable[[list[str]], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch of one process; corrupt records are missing from it.

    Attributes:
        images: uint8 [B, S, S, 3].
        texts: int64 [B, K, T].
        image_ids: int64 [B].
        plan: State of the plan after this batch.
        wait_s: How long the caller stood still for it.
        extras: What the preparation added, [B, ...] by name.
    """

    images: NDArray[np.uint8]
    texts: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    plan: dict[str, Any]
    wait_s: float
    extras: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Corrupt:
    """Records that could not be used: how many, and which (the first of each name)."""

    limit: int = 100
    count: int = 0
    names: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        """Count it; name it once, up to the limit."""
        self.count += 1
        if name not in self.names and len(self.names) < self.limit:
            self.names[name] = reason
            log.warning("left out: %s", reason if name in reason else f"{name}: {reason}")


@dataclass(frozen=True, slots=True)
class Workshop:
    """The inputs with which a worker turns places of a batch into arrays."""

    sets: Sequence[PairSet]
    prepare: Preparation
    tokenize: Tokenize
    seed: int

    def work(self, draws: Sequence[Draw]) -> Part:
        """Read, decode, choose and tokenise. Chance depends on seed, pass, set and record: not on who works when."""
        ready, ids, corrupt = list[Prepared](), list[int](), list[tuple[str, str]]()
        for draw in draws:
            data = self.sets[draw.source]
            rng = np.random.default_rng((self.seed, 3, *draw))
            try:
                ready.append(self.prepare(data.read(draw.record), rng))
                ids.append(int(data.image_ids[draw.record]))
            except SampleError as error:
                corrupt.append((f"{data.name}[{draw.record}]", str(error)))
        if not ready:
            return None, None, {}, ids, corrupt
        tokens = self.tokenize([text for one in ready for text in one.texts])
        texts = tokens.reshape(len(ready), -1, tokens.shape[1])
        extras = {name: np.stack([one.extras[name] for one in ready]) for name in ready[0].extras}
        return np.stack([one.image for one in ready]), texts, extras, ids, corrupt


Part = tuple[
    NDArray[np.uint8] | None, NDArray[np.int64] | None, dict[str, NDArray[Any]], list[int], list[tuple[str, str]]
]

_here: list[Workshop] = []


def _move_in(workshop: Workshop) -> None:
    _here[:] = [workshop]


def _work_here(draws: Sequence[Draw]) -> Part:
    return _here[0].work(draws)


class Feed:
    """Endless batches of this process's share of each global batch. A context manager.

    Args:
        workshop: Data and preparation; must be picklable for processes.
        plan: Which records; the same on every process.
        rank, size: Which share: places rank * batch / size and on.
        workers: Threads or processes. Decoding leaves the interpreter's lock, so threads scale to a few cores;
            processes cost a copy of the listing each and a copy of every batch, and scale to all.
        kind: "thread" or "process".
        ahead: Batches under way.
        corrupt_share: More corrupt samples than this end the run.
    """

    def __init__(
        self,
        workshop: Workshop,
        plan: BatchPlan,
        *,
        rank: int = 0,
        size: int = 1,
        workers: int = 2,
        kind: Literal["thread", "process"] = "thread",
        ahead: int = 3,
        corrupt_share: float = 0.05,
    ) -> None:
        self.plan, self.corrupt, self.wait_s = plan, Corrupt(), 0.0
        self._share = slice(plan.batch * rank // size, plan.batch * (rank + 1) // size)
        self._ahead, self._corrupt_share, self._seen = ahead, corrupt_share, 0
        self._pool: Executor
        if kind == "process":
            context = multiprocessing.get_context("spawn")  # a forked copy of threads and CUDA is no copy
            self._pool = ProcessPoolExecutor(workers, context, initializer=_move_in, initargs=(workshop,))
            self._work = _work_here
        else:
            self._pool = ThreadPoolExecutor(workers, "geoglot-feed")
            self._work = workshop.work

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Loaded]:
        """Raises TrainingError when too much is corrupt."""
        under_way: deque[tuple[list[Future[Part]], dict[str, Any]]] = deque()
        while True:
            while len(under_way) < self._ahead:
                draws = self.plan.next()[self._share]
                tasks = [self._pool.submit(self._work, draws[i : i + SLICE]) for i in range(0, len(draws), SLICE)]
                under_way.append((tasks, self.plan.state()))
            began = perf_counter()
            tasks, state = under_way.popleft()
            parts = [task.result() for task in tasks]
            wait_s = perf_counter() - began
            self.wait_s += wait_s
            yield self._assemble(parts, state, wait_s)

    def _assemble(self, parts: Sequence[Part], state: dict[str, Any], wait_s: float) -> Loaded:
        for _, _, _, ids, corrupt in parts:
            self._seen += len(ids) + len(corrupt)
            for name, reason in corrupt:
                self.corrupt.add(name, reason)
        self._refuse_ruin()
        images = [image for image, *_ in parts if image is not None]
        texts = [text for _, text, *_ in parts if text is not None]
        extras = [extra for image, _, extra, _, _ in parts if image is not None]
        image_ids = np.array([i for _, _, _, ids, _ in parts for i in ids], np.int64)
        joined = {name: np.concatenate([extra[name] for extra in extras]) for name in extras[0]}
        return Loaded(np.concatenate(images), np.concatenate(texts), image_ids, state, wait_s, joined)

    def _refuse_ruin(self) -> None:
        """A few bad files are a nuisance; many mean a wrong path, and all of a batch cannot be trained on."""
        bad = self.corrupt.count
        if bad == self._seen or (self._seen >= 500 and bad > self._corrupt_share * self._seen):
            name, reason = next(iter(self.corrupt.names.items()))
            hint = "Check the paths; a higher corrupt_share lets the run go on."
            raise TrainingError(f"{bad} of {self._seen} samples are corrupt; the first: {name}: {reason}", hint=hint)
