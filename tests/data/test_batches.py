from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.data.batches import BatchPlan
from geoglot.data.pairs import Pair
from geoglot.errors import UsageError


@dataclass
class Fake:
    """Records of a listed image each."""

    ids: list[int]
    edges: list[int] = field(default_factory=list)
    name: str = "fake"
    skipped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        self.image_ids = np.array(self.ids, np.int64)
        self.blocks = np.array(self.edges or [0, len(self.ids)])

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, record: int) -> Pair:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return ""


@settings(max_examples=60, deadline=None)
@given(
    first=st.lists(st.integers(0, 30), min_size=6, max_size=40),
    second=st.lists(st.integers(20, 50), min_size=6, max_size=40),
    batch=st.integers(1, 6),
    mixed=st.booleans(),
    seed=st.integers(0, 5),
)
def test_no_image_meets_itself_and_none_is_lost(
    first: list[int], second: list[int], batch: int, mixed: bool, seed: int
) -> None:
    sets = [Fake(first), Fake(second, [0, 3, len(second)])]
    distinct = [len(set(first)), len(set(second))] if mixed else [len({*first, *second})]
    if min(distinct) < batch:
        with pytest.raises(UsageError, match="images"):
            BatchPlan(sets, [1.0, 2.0] if mixed else [0.0, 0.0], batch, seed)
        return
    plan = BatchPlan(sets, [1.0, 2.0] if mixed else [0.0, 0.0], batch, seed)
    count: Counter[tuple[int, int, int]] = Counter()
    for _ in range(60):
        draws = plan.next()
        shown = [sets[d.source].ids[d.record] for d in draws]
        assert len(set(shown)) == batch
        count.update(draws)
    assert set(count.values()) == {1}, "a record comes once a pass"
    waiting = sum(len(lane["waiting"]) for lane in plan.state()["lanes"])
    begun = sum(
        lane["at"] + lane["epoch"] * n
        for lane, n in zip(
            plan.state()["lanes"], [len(first), len(second)] if mixed else [len(first) + len(second)], strict=True
        )
    )
    assert begun == 60 * batch + waiting, "what was passed over is still waiting"


def test_an_epoch_shows_every_record_once() -> None:
    plan = BatchPlan([Fake(list(range(12))), Fake(list(range(100, 108)))], [0.0, 0.0], 5, 0)
    draws = [d for _ in range(4) for d in plan.next()]
    assert sorted((d.source, d.record) for d in draws) == [(0, i) for i in range(12)] + [(1, i) for i in range(8)]
    assert {d.epoch for d in draws} == {0}
    assert plan.next()[0].epoch == 1


def test_weights_are_shares() -> None:
    plan = BatchPlan([Fake(list(range(50))), Fake(list(range(100, 4000)))], [3.0, 1.0], 20, 0)
    count = Counter(d.source for _ in range(200) for d in plan.next())
    assert count[0] / 4000 == pytest.approx(0.75, abs=0.03)
    with pytest.raises(UsageError, match="every source or to none"):
        BatchPlan([Fake([1]), Fake([2])], [1.0, 0.0], 1, 0)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, 2.0]])
def test_a_restored_plan_goes_on(weights: list[float]) -> None:
    sets = [Fake([1, 1, 2, 3, 4, 5]), Fake([5, 6, 7, 8, 9, 9], [0, 2, 4, 6])]
    plan, other = (BatchPlan(sets, weights, 4, 3) for _ in range(2))
    for _ in range(7):
        plan.next()
    other.restore(json.loads(json.dumps(plan.state())))
    assert [plan.next() for _ in range(9)] == [other.next() for _ in range(9)]
    assert BatchPlan(sets, weights, 4, 4).next() != BatchPlan(sets, weights, 4, 3).next()


def test_blocks_stay_near_each_other() -> None:
    """With many blocks, a stretch of the order touches few of them: a disk reads on."""
    edges = list(range(0, 64_001, 100))
    plan = BatchPlan([Fake(list(range(64_000)), edges)], [0.0], 1000, 0)
    touched = {d.record // 100 for d in plan.next()}
    assert len(touched) <= 16
    assert len({d.record // 100 for _ in range(63) for d in plan.next()} | touched) == 640
