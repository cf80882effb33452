from __future__ import annotations

import numpy as np
import pytest

from geoglot.data.glossary import LANGUAGES
from geoglot.errors import UnknownNameError
from geoglot.evaluation.metrics import bootstrap, precision_at, recall_at, retrieval, retrieval_equivalent, top1
from geoglot.evaluation.protocols import language_gap, prompts, questions


def _slow_recall(scores: np.ndarray, relevant: np.ndarray, k: int) -> float:
    hits = 0
    for row, right in zip(scores, relevant, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], right[j]))  # ties: the wrong ones first
        hits += any(right[j] for j in order[:k])
    return hits / len(scores)


def test_recall_against_sorting_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 5, (8, 9)).astype(np.float32)
        relevant = rng.random((8, 9)) < 0.2
        for k in (1, 3, 9):
            assert recall_at(scores, relevant, k) == pytest.approx(_slow_recall(scores, relevant, k))


def test_retrieval_by_hand() -> None:
    # Two images, three captions; the second caption prefers the wrong image.
    scores = np.array([[0.9, 0.1], [0.2, 0.3], [0.0, 0.5]], np.float32)
    owner = np.array([0, 0, 1])
    found = retrieval(scores, owner)
    assert found["t2i_R@1"] == pytest.approx(100 * 2 / 3)
    assert found["i2t_R@1"] == 100.0
    assert found["t2i_R@5"] == 100.0
    assert found["mR"] == pytest.approx(np.mean([100 * 2 / 3, 100, 100, 100, 100, 100]))
    same = retrieval_equivalent(scores, owner, ["A river.", "a lake", "A LAKE ."])
    assert same["t2i_R@1"] == 100.0  # image 1 carries "a lake" too


def test_small_metrics() -> None:
    assert top1(np.array([[1, 0], [1, 0]], np.float32), np.array([0, 1])) == 50.0
    scores = np.array([3, 2, 1, 0], np.float32)
    assert precision_at(scores, np.array([True, False, True, True]), 2) == 50.0
    assert precision_at(scores, np.array([True, False, True, True]), 20) == 75.0
    low, high = bootstrap(lambda rows: float(rows.mean()), 100, rounds=200)
    assert 40 < low < 49.5 < high < 60
    assert language_gap({"en": 50.0, "de": 40.0, "fr": 50.0}) == pytest.approx(10.0)


def test_questions_are_complete() -> None:
    assert {group: len(classes) for group, classes in questions().items()} == {
        "ucm": 21, "rsicd": 30, "eurosat": 10, "landcover": 5,
    }  # fmt: skip
    for group in questions():
        for language in LANGUAGES:
            texts = list(prompts(group, language).values())
            assert all(texts)
            assert len(set(texts)) == len(texts)
    with pytest.raises(UnknownNameError):
        prompts("ucm", "xx")
    with pytest.raises(UnknownNameError):
        prompts("ucn", "en")
