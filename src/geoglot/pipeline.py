"""Stages that work at the same time: each runs ahead of the next in a thread of its own, held back by a byte limit.

    with Stages(limit_bytes) as stages:
        chips = stages.ahead(read(...), weigh)
        rows = stages.ahead(encode(chips), weigh)
        for row in rows:
            write(row)

An error in a stage travels down to whoever iterates; leaving the block, for whatever reason, stops and joins all
threads. Threads are enough: GDAL, ONNX Runtime and Lance all work outside Python's interpreter lock.

While stages run, a product of matrices takes one thread of the process: the stages share the cores already, and BLAS's
threads spin while they wait, which took half of segmentation's speed (benchmarks/segment_throughput.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from threading import Condition, Lock
from types import TracebackType
from typing import Any, Generic, TypeVar

from threadpoolctl import threadpool_limits

T = TypeVar("T")


class _Stopped(Exception):
    """Raised in a stage whose work is no longer wanted."""


class _Belt(Generic[T]):
    """A queue between two threads that holds at most `limit` bytes, or one item if that alone is heavier."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._ended = False
        self._stopped = False
        self._changed = Condition()

    def put(self, item: T, weight: int) -> None:
        """Add an item; waits while the belt is full."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._items or self._bytes + weight <= self._limit)
            if self._stopped:
                raise _Stopped
            self._items.append((item, weight))
            self._bytes += weight
            self._changed.notify_all()

    def end(self) -> None:
        """Say that nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Wake both sides and let them fail."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._ended or bool(self._items))
                if self._stopped:
                    raise _Stopped
                if not self._items:
                    return
                item, weight = self._items.popleft()
                self._bytes -= weight
                self._changed.notify_all()
            yield item


class _OneBlasThread:
    """Holds BLAS at one thread from the first to the last of those who ask for it; their blocks may overlap."""

    def __init__(self) -> None:
        self._lock, self._holders = Lock(), 0
        self._limit: Any = None

    def hold(self) -> None:
        with self._lock:
            if not self._holders:
                self._limit = threadpool_limits(limits=1, user_api="blas")
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._limit.restore_original_limits()


_one_blas_thread = _OneBlasThread()


class Stages:
    """The threads and belts of one run.

    Args:
        limit_bytes: What one belt may hold.
        most: How many stages there may be.
    """

    def __init__(self, limit_bytes: int, *, most: int = 2) -> None:
        self._limit = limit_bytes
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="geoglot-stage")
        self._belts: list[_Belt[object]] = []

    def ahead(self, items: Generator[T, None, None], weigh: Callable[[T], int]) -> Iterator[T]:
        """Run a generator in a thread and hand on what it yields, in order; its error is raised here."""
        belt: _Belt[T] = _Belt(self._limit)
        self._belts.append(belt)  # type: ignore[arg-type]  # a belt is only stopped through this list
        done = self._pool.submit(_produce, items, belt, weigh)
        return _consume(belt, done)

    def __enter__(self) -> Stages:
        _one_blas_thread.hold()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for belt in self._belts:
            belt.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        _one_blas_thread.release()


def _produce(items: Generator[T, None, None], belt: _Belt[T], weigh: Callable[[T], int]) -> None:
    try:
        with suppress(_Stopped), closing(items):
            for item in items:
                belt.put(item, weigh(item))
    finally:
        belt.end()


def _consume(belt: _Belt[T], done: Future[None]) -> Iterator[T]:
    yield from belt
    done.result()
