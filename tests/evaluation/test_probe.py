from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.errors import UsageError
from geoglot.evaluation.probe import STRENGTHS, few_shot, fit_probe, linear_probe, split_by_class


def _blobs(count: int, classes: int, dim: int, seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    labels = np.arange(count) % classes
    return (centres[labels] + noise * rng.standard_normal((count, dim))).astype(np.float32), labels


def _ridge(vectors: np.ndarray, labels: np.ndarray, classes: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """The normal equations with an intercept that is not shrunk."""
    n, dim = vectors.shape
    x = np.hstack([vectors.astype(float), np.ones((n, 1))])
    penalty = np.diag([strength] * dim + [0.0])
    solved = np.linalg.solve(x.T @ x + penalty, x.T @ np.eye(classes)[labels])
    return solved[:-1], solved[-1]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_fit_and_choice_against_refitting_without_each_image(seed: int) -> None:
    vectors, labels = _blobs(24, 3, 5, seed, noise=1.5)
    centred = vectors.astype(float) - vectors.mean(0)
    scale = np.linalg.eigvalsh(centred.T @ centred).mean()
    right = []
    for strength in STRENGTHS:
        hits = 0
        for out in range(len(vectors)):
            rest = np.arange(len(vectors)) != out
            weights, bias = _ridge(vectors[rest], labels[rest], 3, strength * scale)
            hits += int((vectors[out] @ weights + bias).argmax() == labels[out])
        right.append((hits, strength))
    probe = fit_probe(vectors, labels, 3)
    assert probe.strength == max(right)[1]
    weights, bias = _ridge(vectors, labels, 3, probe.strength * scale)
    assert probe.weights == pytest.approx(weights, abs=1e-6)
    assert probe.bias == pytest.approx(bias, abs=1e-6)


def test_fewer_images_than_dimensions() -> None:
    vectors, labels = _blobs(6, 3, 40, 0)
    assert (fit_probe(vectors, labels, 3).predict(vectors) == labels).all()
    with pytest.raises(UsageError):
        fit_probe(vectors[:1], labels[:1], 3)


def test_probes_report() -> None:
    train, test = _blobs(120, 3, 8, 1), _blobs(60, 3, 8, 2)
    (whole,) = linear_probe(train, test, 3, seed=4)
    assert (whole.protocol, whole.value, whole.count, whole.seed) == ("probe/linear", 100.0, 60, 4)
    assert "120 training images" in whole.notes[0]
    shots = few_shot(train, test, 3, seed=4)
    assert [number.metric for number in shots] == ["top1@1", "top1@2", "top1@4", "top1@8", "top1@16"]
    assert shots[-1].value >= shots[0].value
    assert shots == few_shot(train, test, 3, seed=4)
    assert all("5 draws" in number.notes[0] for number in shots)
    with pytest.raises(UsageError, match="0 training images"):
        few_shot(train, test, 4, seed=4)


def test_split_by_class() -> None:
    labels = np.array([0] * 10 + [1] * 5 + [2] * 2 + [3])
    train, rest = split_by_class(labels, 0.8, 0)
    assert sorted([*train, *rest]) == list(range(18))
    assert np.bincount(labels[train]).tolist() == [8, 4, 1, 1]
    assert train.tolist() != split_by_class(labels, 0.8, 1)[0].tolist()
