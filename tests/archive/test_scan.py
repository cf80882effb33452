"""Questions that wait share a product; the scores are those of the plain loop, and failures stay where they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_archives import HashEncoder, build, scene

from geoglot.archive import ranking
from geoglot.archive.archive import Archive
from geoglot.archive.filters import Filter
from geoglot.archive.ranking import ROUNDING, TOGETHER, Scan

RNG = np.random.default_rng(5)
Vectors = NDArray[np.float32]


def unit(rows: int) -> Vectors:
    made = RNG.normal(size=(rows, 24)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))


VECTORS = unit(300)


def slow(query: Vectors) -> list[float]:
    """Chip by chip, number by number."""
    return [sum(float(a) * float(b) for a, b in zip(row, query, strict=True)) for row in VECTORS]


class Held:
    """Products that wait for permission, and how many questions each had."""

    def __init__(self, products: Callable[[Vectors, list[Vectors]], list[Vectors]]) -> None:
        self.sizes: list[int] = []
        self.begun, self.allowed = threading.Event(), threading.Event()
        self.failing: set[int] = set()
        self._products = products

    def __call__(self, vectors: Vectors, queries: list[Vectors]) -> list[Vectors]:
        self.sizes.append(len(queries))
        self.begun.set()
        assert self.allowed.wait(10)
        if len(self.sizes) in self.failing:
            raise MemoryError("no room")
        return self._products(vectors, queries)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(ranking._products)
    monkeypatch.setattr(ranking, "_products", made)
    yield made
    made.allowed.set()


def crowd(held: Held, queries: Vectors) -> list[Future[Vectors]]:
    """The first question, held in its product, and then all others, waiting."""
    shared = Scan(VECTORS)
    pool = ThreadPoolExecutor(len(queries))
    asked = [pool.submit(shared.scores, queries[0])]
    assert held.begun.wait(10)
    asked += [pool.submit(shared.scores, query) for query in queries[1:]]
    deadline = time.monotonic() + 10
    while len(shared._waiting) < len(queries) and time.monotonic() < deadline:
        time.sleep(0.001)
    held.allowed.set()
    pool.shutdown()
    assert not shared._waiting
    assert not shared._busy
    return asked


def test_one_alone_is_asked_at_once_and_alone() -> None:
    query = unit(1)[0]
    shared = Scan(VECTORS)
    assert np.array_equal(shared.scores(query), VECTORS @ query)
    assert np.array_equal(shared.scores(-query), VECTORS @ -query)
    assert not shared._waiting


def test_those_that_wait_share_a_product_and_get_their_own_scores(held: Held) -> None:
    queries = unit(9)
    asked = crowd(held, queries)
    assert held.sizes == [1, 8]
    for query, answer in zip(queries, asked, strict=True):
        assert np.abs(answer.result() - slow(query)).max() < ROUNDING


def test_a_product_has_no_more_than_its_share(held: Held) -> None:
    asked = crowd(held, unit(TOGETHER + 6))
    assert held.sizes == [1, TOGETHER, 5]
    assert all(answer.result().shape == (300,) for answer in asked)


def test_nobody_keeps_the_scores_of_the_others_in_memory(held: Held) -> None:
    answers = [answer.result() for answer in crowd(held, unit(5))]
    assert all(answer.base is None for answer in answers)


def test_a_failure_reaches_one_and_the_others_are_asked_again(held: Held) -> None:
    held.failing = {2}
    queries = unit(6)
    asked = crowd(held, queries)
    assert held.sizes == [1, 5, 4]
    assert [type(answer.exception()) for answer in asked].count(MemoryError) == 1
    for query, answer in zip(queries, asked, strict=True):
        if answer.exception() is None:
            assert np.abs(answer.result() - slow(query)).max() < ROUNDING


def test_a_query_of_another_length_never_joins_the_others() -> None:
    shared = Scan(VECTORS)
    with pytest.raises(ValueError, match="shape"):
        shared.scores(np.zeros(7, np.float32))
    assert not shared._waiting
    assert not shared._busy


def test_searches_at_once_give_what_they_give_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive.open(build(tmp_path / "a", [scene(n) for n in range(20)]), HashEncoder())
    filters = (Filter(), Filter(gsd_m=(0.0, 10.0)), Filter(scenes=("scene 7.tif",)))
    asked = [(text, wanted) for text in ("boats", "a river", "roofs", "ein Wald") for wanted in filters]
    alone = [archive.search(text, wanted, limit=30).matches for text, wanted in asked]
    sizes = []

    def slowly(vectors: Vectors, queries: list[Vectors]) -> list[Vectors]:
        sizes.append(len(queries))
        time.sleep(0.02)
        return products(vectors, queries)

    products = ranking._products
    monkeypatch.setattr(ranking, "_products", slowly)
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda pair: archive.search(pair[0], pair[1], limit=30).matches, asked))
    assert together == alone  # to the last bit
    assert max(sizes) > 1
