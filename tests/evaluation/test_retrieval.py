"""Every protocol against full-matrix loops over captions and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.data.samples import Sample
from geoglot.evaluation.report import Number
from geoglot.evaluation.retrieval import Task, dedup_task, equivalent_task, retrieve, rows_task, wording

WORDS = ["a river.", "A river .", "a lake", "a big lake", "A Lake.", "trees"]


def _samples(rng: np.random.Generator, images: int) -> list[Sample]:
    said = [tuple(rng.choice(WORDS, rng.integers(1, 4))) for _ in range(images)]
    return [Sample(Path(f"{index}.png"), captions, None, "test") for index, captions in enumerate(said)]


def _vectors(rng: np.random.Generator, texts: tuple[str, ...], images: int) -> tuple[np.ndarray, np.ndarray]:
    """Grid vectors, so that ties are exact; equal strings share a vector."""
    known = {text: rng.integers(-2, 3, 3).astype(np.float32) / 4 for text in dict.fromkeys(texts)}
    return np.stack([known[text] for text in texts]), rng.integers(-2, 3, (images, 3)).astype(np.float32) / 4


def _slow_recall(scores: np.ndarray, relevant: np.ndarray, k: int) -> float:
    hits = 0
    for row, right in zip(scores, relevant, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], right[j]))  # ties: the wrong ones first
        hits += any(right[j] for j in order[:k])
    return 100 * hits / len(scores)


def _slow(scores: np.ndarray, relevant: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, float]:
    out = {f"t2i_R@{k}": _slow_recall(scores, relevant, k) for k in cutoffs}
    out |= {f"i2t_R@{k}": _slow_recall(scores.T, relevant.T, k) for k in cutoffs}
    out |= {f"{way}_mean": float(np.mean([out[f"{way}_R@{k}"] for k in (1, 5, 10)])) for way in ("t2i", "i2t")}
    return out | {"mR": float(np.mean([out[f"{way}_R@{k}"] for way in ("t2i", "i2t") for k in (1, 5, 10)]))}


def _values(numbers: list[Number]) -> dict[str, float]:
    return {number.metric: number.value for number in numbers}


def _check(task: Task, relevant: np.ndarray, rng: np.random.Generator) -> None:
    texts, images = _vectors(rng, task.texts, relevant.shape[1])
    found = retrieve(texts, images, task)
    assert _values(found) == pytest.approx(_slow(texts @ images.T, relevant, task.cutoffs))
    assert all(number.tied is not None and number.tied >= number.value - 1e-9 for number in found)
    assert all(number.interval and 0 <= number.interval[0] <= number.interval[1] <= 100 for number in found)
    assert {(n.protocol, n.count, n.texts, n.seed) for n in found} == {
        (task.protocol, relevant.shape[1], len(task.texts), 0)
    }


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14))
def test_every_protocol_agrees_with_its_loops(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    samples = _samples(rng, images)
    rows = [(caption, owner) for owner, sample in enumerate(samples) for caption in sample.captions]

    _check(rows_task(samples), np.array([[owner == j for j in range(images)] for _, owner in rows]), rng)

    carried = [{wording(caption) for caption in sample.captions} for sample in samples]
    _check(equivalent_task(samples), np.array([[wording(text) in carried[j] for j in range(images)] for text, _ in rows]), rng)  # fmt: skip  # noqa: E501

    distinct = list(dict.fromkeys(text for text, _ in rows))
    task = dedup_task(samples)
    assert task.texts == tuple("a satellite image. " + text for text in distinct)
    _check(task, np.array([[text in samples[j].captions for j in range(images)] for text in distinct]), rng)
    assert dedup_task(samples, prefix=False).texts == tuple(distinct)


def test_by_hand() -> None:
    # Two images, three captions; the second caption prefers the wrong image.
    captions = [("A river.", "a lake"), ("A LAKE .",)]
    samples = [Sample(Path(f"{i}.png"), said, None, "test") for i, said in enumerate(captions)]
    texts = np.array([[0.9, 0.1], [0.2, 0.3], [0.0, 0.5]], np.float32)
    images = np.eye(2, dtype=np.float32)
    found = _values(retrieve(texts, images, rows_task(samples)))
    assert found["t2i_R@1"] == pytest.approx(100 * 2 / 3)
    assert found["i2t_R@1"] == found["t2i_R@5"] == 100.0
    assert found["mR"] == pytest.approx(np.mean([100 * 2 / 3, 100, 100, 100, 100, 100]))
    assert _values(retrieve(texts, images, equivalent_task(samples)))["t2i_R@1"] == 100.0  # image 1 has a lake too


def test_an_average_names_its_parts_and_is_their_mean() -> None:
    rng = np.random.default_rng(3)
    task = rows_task(_samples(rng, 9))
    found = {n.metric: n for n in retrieve(*_vectors(rng, task.texts, 9), task)}
    assert {name for name, number in found.items() if number.parts} == {"i2t_mean", "t2i_mean", "mR"}
    assert len(found["mR"].parts) == 6
    for number in found.values():
        if number.parts:
            assert number.value == pytest.approx(np.mean([found[part].value for part in number.parts]))


def test_repeated_captions_tie_from_image_to_text() -> None:
    """Two images under one wording: under ret/rs5m each ties with the other's row, under the others it is right."""
    samples = [Sample(Path(f"{i}.png"), ("trees",), None, "test") for i in range(2)]
    texts, images = np.ones((2, 1), np.float32), np.ones((2, 1), np.float32)
    rows = {n.metric: n for n in retrieve(texts, images, rows_task(samples))}
    assert (rows["i2t_R@1"].value, rows["i2t_R@1"].tied) == (0.0, 100.0)
    assert _values(retrieve(texts, images, equivalent_task(samples)))["i2t_R@1"] == 100.0
    assert _values(retrieve(texts[:1], images, dedup_task(samples)))["i2t_R@1"] == 100.0


def test_unread_texts_are_misses_and_are_told() -> None:
    samples = [Sample(Path(f"{i}.png"), (f"word {i}",), None, "test") for i in range(3)]
    texts = np.vstack([np.zeros((1, 3)), np.eye(3)[1:]]).astype(np.float32)
    found = {n.metric: n for n in retrieve(texts, np.eye(3, dtype=np.float32), rows_task(samples))}
    assert found["t2i_R@1"].value == pytest.approx(200 / 3)
    assert found["t2i_R@1"].notes == ("the model knows no word of 1 of 3 texts",)
