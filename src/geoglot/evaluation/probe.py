"""Linear probe and few-shot: how far apart the classes lie in a model's image vectors, with its text side left out.

One ridge regression to one-hot labels per class, its strength chosen by exact leave-one-out on the training images, so
no validation split and no iteration. Against logistic regression (CLIP's linear probe) it is the same kind of boundary
under a squared loss, solved in closed form; scikit-learn would bring scipy for a solver that this does not need.

| protocol | training images | test images |
|---|---|---|
| `probe/linear` | the train split; of a set without one, 80 % of each class, drawn | the test split; the rest |
| `probe/few-shot` | 1, 2, 4, 8, 16 of each class out of those, 5 draws | the same |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.evaluation.metrics import bootstrap
from geoglot.evaluation.report import Number
from geoglot.models.encoder import Vectors

Labels = NDArray[np.int64]
Matrix = NDArray[np.float64]

STRENGTHS = tuple(float(10.0**power) for power in range(-4, 4))
"""Ridge strengths tried, in units of the mean eigenvalue of the covariance."""

SHOTS = (1, 2, 4, 8, 16)
DRAWS = 5
TRAIN_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted classifier: scores = vectors @ weights + bias, weights [D, K], bias [K]; and the strength chosen."""

    weights: Matrix
    bias: Matrix
    strength: float

    def predict(self, vectors: Vectors) -> Labels:
        """The best class of each row."""
        best: Labels = (vectors @ self.weights + self.bias).argmax(1)
        return best


def fit_probe(vectors: Vectors, labels: Labels, classes: int) -> Probe:
    """Ridge to one-hot labels with a free intercept. One eigendecomposition of D x D, a few products of n x D x K.

    The strength is the one with the most images right when each is left out (exact: a ridge fit without row i predicts
    y_i - e_i / (1 - h_ii)); of equals the strongest, which tends to the class means.

    Args:
        vectors: [n, D].
        labels: [n], below `classes`.
        classes: K.

    Raises:
        UsageError: There are fewer than two images.
    """
    if len(vectors) < 2:
        raise UsageError(f"a probe needs two images or more, not {len(vectors)}")
    centre = vectors.mean(0, dtype=np.float64)
    targets = np.eye(classes)[labels]
    mean = targets.mean(0)
    values, axes = np.linalg.eigh((vectors - centre).T @ (vectors - centre))
    turned = (vectors - centre) @ axes  # [n, D], columns orthogonal
    onto = turned.T @ (targets - mean)  # [D, K]
    scale = max(float(values.mean()), np.finfo(np.float64).tiny)
    best = (-1.0, STRENGTHS[0])
    for strength in STRENGTHS:
        shrunk = 1 / (values.clip(0) + strength * scale)
        left = _leave_one_out(turned, shrunk, onto, targets, mean)
        right = float((left.argmax(1) == labels).mean())
        best = max(best, (right, strength))
    weights = axes @ (onto / (values.clip(0) + best[1] * scale)[:, None])
    return Probe(weights, mean - centre @ weights, best[1])


def _leave_one_out(turned: Matrix, shrunk: Matrix, onto: Matrix, targets: Matrix, mean: Matrix) -> Matrix:
    """Leave-one-out predictions: of each row by the fit without it, [n, K]."""
    fitted = mean + (turned * shrunk) @ onto
    own = 1 / len(turned) + np.einsum("nd,nd,d->n", turned, turned, shrunk)
    without: Matrix = targets - (targets - fitted) / (1 - own).clip(1e-12)[:, None]
    return without


def split_by_class(labels: Labels, share: float, seed: int) -> tuple[Labels, Labels]:
    """Indices of (train, rest), the share taken of each class, at least one and not all of it where it has two."""
    rng = np.random.default_rng(seed)
    train = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(share * len(rows))), max(1, len(rows) - 1))
        train += rows[:count].tolist()
    taken = np.zeros(len(labels), bool)
    taken[train] = True
    return np.flatnonzero(taken), np.flatnonzero(~taken)


def linear_probe(train: tuple[Vectors, Labels], test: tuple[Vectors, Labels], classes: int, seed: int) -> list[Number]:
    """`probe/linear`: top1 on the test images."""
    probe = fit_probe(*train, classes)
    hits = (probe.predict(test[0]) == test[1]).astype(np.float64)
    notes = (f"{len(train[0]):,} training images, ridge strength {probe.strength:g}",)
    return [_number("probe/linear", "top1", hits, seed, notes)]


def few_shot(
    train: tuple[Vectors, Labels],
    test: tuple[Vectors, Labels],
    classes: int,
    seed: int,
    shots: Sequence[int] = SHOTS,
    draws: int = DRAWS,
) -> list[Number]:
    """`probe/few-shot`: top1 on the test images, mean over the draws; the interval is over images.

    Raises:
        UsageError: A class has fewer training images than one shot.
    """
    vectors, labels = train
    fewest = int(np.bincount(labels, minlength=classes).min())
    possible = [count for count in shots if count <= fewest]
    if not possible:
        raise UsageError(f"a class has {fewest} training images, one shot needs {min(shots)}")
    numbers = []
    for count in possible:
        hits = []
        for draw in range(draws):
            rng = np.random.default_rng((seed, count, draw))
            rows = [rng.permutation(np.flatnonzero(labels == label))[:count] for label in range(classes)]
            chosen = np.concatenate(rows)
            hits.append(fit_probe(vectors[chosen], labels[chosen], classes).predict(test[0]) == test[1])
        each = 100 * np.array(hits).mean(1)
        notes = (f"{draws} draws, from {each.min():.1f} to {each.max():.1f}",)
        numbers.append(_number("probe/few-shot", f"top1@{count}", np.array(hits).mean(0), seed, notes))
    return numbers


def _number(protocol: str, metric: str, hits: Matrix, seed: int, notes: tuple[str, ...]) -> Number:
    span = bootstrap(lambda rows: 100 * float(hits[rows].mean()), len(hits), seed=seed)
    return Number(protocol, metric, 100 * float(hits.mean()), span, len(hits), seed=seed, notes=notes)
