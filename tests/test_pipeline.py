"""Stages that run ahead: order, limits, errors and clean ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from geoglot.pipeline import Stages


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("geoglot-ingest")]


def _numbers(n: int) -> Generator[int, None, None]:
    yield from range(n)


def _doubled(items: Iterator[int]) -> Generator[int, None, None]:
    for item in items:
        yield 2 * item


def _one(_: int) -> int:
    return 1


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_two_stages_keep_order(limit: int) -> None:
    with Stages(limit) as stages:
        rows = stages.ahead(_doubled(stages.ahead(_numbers(500), _one)), _one)
        assert list(rows) == [2 * i for i in range(500)]
    assert _threads() == []


def test_a_stage_never_runs_further_ahead_than_the_limit() -> None:
    made = 0

    def count() -> Generator[int, None, None]:
        nonlocal made
        while made < 100:
            made += 1
            yield made

    with Stages(50) as stages:
        items = stages.ahead(count(), lambda _: 10)
        time.sleep(0.05)
        assert made <= 6  # five on the belt and one in the hand
        for taken in items:
            assert made <= taken + 6


def test_an_item_heavier_than_the_limit_still_passes() -> None:
    with Stages(10) as stages:
        assert list(stages.ahead(_numbers(5), lambda _: 1000)) == list(range(5))


@pytest.mark.parametrize("stage", ["first", "second"])
def test_an_error_in_a_stage_reaches_the_consumer_and_ends_all_threads(stage: str) -> None:
    def breaks(items: Iterator[int]) -> Generator[int, None, None]:
        for item in items:
            if item == 7:
                raise KeyError("seven")
            yield item

    seen: list[int] = []

    def run() -> None:
        with Stages(4) as stages:
            source = breaks(iter(range(1000))) if stage == "first" else _numbers(1000)
            first = stages.ahead(source, _one)
            for item in stages.ahead(_doubled(first) if stage == "first" else breaks(first), _one):
                seen.append(item)

    with pytest.raises(KeyError, match="seven"):
        run()
    assert len(seen) == 7
    assert _threads() == []


def test_a_consumer_that_fails_stops_endless_stages_and_closes_them() -> None:
    closed = threading.Event()

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    def run() -> None:
        with Stages(4) as stages:
            for _ in stages.ahead(_doubled(stages.ahead(endless(), _one)), _one):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert closed.is_set()
    assert _threads() == []


def test_leaving_while_a_stage_waits_for_items_does_not_hang() -> None:
    release = threading.Event()

    def slow() -> Generator[int, None, None]:
        yield 1
        release.wait(5)
        yield 2

    started = time.perf_counter()
    with Stages(4) as stages:
        rows = stages.ahead(_doubled(stages.ahead(slow(), _one)), _one)
        assert next(rows) == 2
        release.set()
    assert time.perf_counter() - started < 2
    assert _threads() == []


def test_products_take_one_thread_while_any_stages_run() -> None:
    def blas() -> set[int]:
        return {entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"}

    with threadpool_limits(limits=2, user_api="blas"):
        first, second = Stages(10), Stages(10)
        with first:
            second.__enter__()
            assert blas() == {1}
        assert blas() == {1}  # the second still runs
        second.__exit__(None, None, None)
        assert blas() == {2}
        with pytest.raises(ZeroDivisionError), Stages(10):
            _ = 1 // 0
        assert blas() == {2}
