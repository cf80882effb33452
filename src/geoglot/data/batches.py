"""Which records make up batch k: a function of the seed and k, with a state of a few numbers for exact resume.

Every image comes once an epoch. An image that is already in the batch waits for the next one, so that two captions of
one image never meet as each other's negatives: not at an epoch's edge, not across sources of a mix, not for records
that repeat an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoglot.data.pairs import PairSet
from geoglot.errors import UsageError

WINDOW = 16
"""Blocks that are mixed with each other: with blocks of 1,024 records, 16,384 candidates for each place."""

BLOCK = 1024


class Draw(NamedTuple):
    """One place of a batch: which set, which record of it, in which pass over it."""

    source: int
    record: int
    epoch: int


class BatchPlan:
    """Endless batches of places.

    Args:
        sets: The data.
        weights: Shares of a mix, or all 0: every image of every set once an epoch.
        batch: Places a batch, over all devices.
        seed: Of the order.

    Raises:
        UsageError: Weights of which only some are 0, or fewer different images than a batch has places.
    """

    def __init__(self, sets: Sequence[PairSet], weights: Sequence[float], batch: int, seed: int) -> None:
        if any(weights) and not all(weights):
            raise UsageError(f"weights {tuple(weights)}: give one to every source or to none")
        self.batch, self.seed = batch, seed
        mixed = any(weights)
        groups = [[i] for i in range(len(sets))] if mixed else [list(range(len(sets)))]
        self._lanes = [Lane(sets, group, (seed, at)) for at, group in enumerate(groups)]
        self._shares = np.array(weights) / sum(weights) if mixed else np.ones(1)
        self._drawn = 0
        for lane in self._lanes:
            if lane.distinct < batch:
                hint = "Use a smaller batch, or more data."
                raise UsageError(f"a batch of {batch} needs {batch} images; there are {lane.distinct}", hint=hint)

    @property
    def size(self) -> int:
        """Records of all sets."""
        return sum(len(lane) for lane in self._lanes)

    def next(self) -> list[Draw]:
        """The next batch, `batch` different images."""
        rng = np.random.default_rng((self.seed, 1, self._drawn))
        slots = rng.choice(len(self._lanes), self.batch, p=self._shares) if len(self._lanes) > 1 else [0] * self.batch
        taken: set[int] = set()
        self._drawn += 1
        return [self._lanes[slot].draw(taken) for slot in slots]

    def state(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"drawn": self._drawn, "lanes": [lane.state() for lane in self._lanes]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; the data must be the same."""
        self._drawn = state["drawn"]
        for lane, told in zip(self._lanes, state["lanes"], strict=True):
            lane.restore(told)


class Lane:
    """One shuffled, endless line of records of one or several sets."""

    def __init__(self, sets: Sequence[PairSet], group: Sequence[int], seed: tuple[int, int]) -> None:
        self._group, self._seed = group, seed
        self._sets = [sets[i] for i in group]
        self._starts = np.cumsum([0, *(len(s) for s in self._sets)])
        self._images: NDArray[np.int64] = np.concatenate([s.image_ids for s in self._sets])
        self._waiting: list[tuple[int, int]] = []
        self._epoch, self._at = 0, 0
        self._order = self._shuffled()
        self.distinct = len(np.unique(self._images))

    def __len__(self) -> int:
        return len(self._images)

    def draw(self, taken: set[int]) -> Draw:
        """The next record whose image is not in `taken`; it is added there. Who must wait comes first next time."""
        for index, (record, epoch) in enumerate(self._waiting):
            if int(self._images[record]) not in taken:
                del self._waiting[index]
                return self._take(record, epoch, taken)
        while True:
            if self._at == len(self._order):
                self._epoch, self._at = self._epoch + 1, 0
                self._order = self._shuffled()
            record = int(self._order[self._at])
            self._at += 1
            if int(self._images[record]) not in taken:
                return self._take(record, self._epoch, taken)
            self._waiting.append((record, self._epoch))

    def state(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "at": self._at, "waiting": [list(pair) for pair in self._waiting]}

    def restore(self, state: dict[str, Any]) -> None:
        self._epoch, self._at = state["epoch"], state["at"]
        self._waiting = [(record, epoch) for record, epoch in state["waiting"]]
        self._order = self._shuffled()

    def _take(self, record: int, epoch: int, taken: set[int]) -> Draw:
        taken.add(int(self._images[record]))
        at = int(np.searchsorted(self._starts, record, side="right")) - 1
        return Draw(self._group[at], record - int(self._starts[at]), epoch)

    def _shuffled(self) -> NDArray[np.int64]:
        """All records: blocks in random order, then mixed within windows of blocks, so that disks read on."""
        rng = np.random.default_rng((*self._seed, 2, self._epoch))
        runs: list[NDArray[np.int64]] = []
        for start, data in zip(self._starts, self._sets, strict=False):
            whole = np.arange(len(data)) + start
            if len(data.blocks) == 2:  # each record is as near as any other
                whole = rng.permutation(whole)
                runs += np.split(whole, np.arange(BLOCK, len(whole), BLOCK))
            else:
                runs += np.split(whole, data.blocks[1:-1])
        runs = [runs[i] for i in rng.permutation(len(runs))]
        windows = [np.concatenate(runs[i : i + WINDOW]) for i in range(0, len(runs), WINDOW)]
        return np.concatenate([rng.permutation(window) for window in windows])
