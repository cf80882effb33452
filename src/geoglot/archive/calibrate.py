"""How likely is it that a chip shows what was asked? Cosines alone do not say; the archive's own background does.

For a chip v, a query q and the card's background prompts b_1 … b_K (things that an image may show instead)::

    margin(v, q) = T * v·q - log sum_j exp(T * v·b_j)          over the b_j with q·b_j < alike;  T = temperature
    z            = (margin - mean) / std
    confidence   = 1 / (1 + exp(-(slope * z + offset)))

Prompts that mean nearly the same as q are left out: a harbor must not lose to "port" and "pier". (RSICD valid: the area
under the curve of "is there any such image?" rises from 0.75 to 0.87, docs/results/mini-v0.md.)

where mean and std are taken over margin(v, b_j) for a fixed random sample of the archive's chips and all prompts: the
margins that ordinary words get on ordinary chips *here*. The margin is a log-odds of q against the prompts, up to the
mass that q itself would add; z takes out what differs between archives (haze, sensors, many near-equal chips), and the
logistic curve, fitted by `fit_calibration` on labelled pairs when the model was trained, turns it into a probability
(Platt 1999). So T, slope and offset belong to the model, and mean and std to the archive.

Limits. The curve is fitted on texts. For pictures, chips and sums the same formula is used with the query's vector:
image-image cosines run higher than text-image ones, so those confidences are optimistic. A card without prompts has no
margins: then z standardises the plain cosines of the query itself over the sample.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.snapshot import Snapshot
from geoglot.errors import StorageError, UsageError
from geoglot.files import write_atomically
from geoglot.models.card import Calibration, Card
from geoglot.models.encoder import DualEncoder

SAMPLE = 4096
"""Chips in the sample: the mean's error is then 1/64 of a standard deviation."""
SEED = 20240607
SMALLEST_MASS = 1e-12
"""Keeps the logarithm finite when all that fits a chip is alike to the query."""
SMALLEST_STD = 1e-3
"""Below this, in units of T times cosine, all chips look alike and z would only magnify rounding."""

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Background:
    """What ordinary words score on an archive.

    Attributes:
        vectors: The prompts' vectors, float32 [K, D]; K = 0 for a card without prompts.
        mean, std: Of the margins of all prompts on the sample; unused when K = 0.
        sample: The sample's vectors, float32 [M, D]; only kept when K = 0.
    """

    vectors: Vectors
    mean: float
    std: float
    sample: Vectors


def margins(chips: Vectors, queries: Vectors, prompts: Vectors, temperature: float, alike: float) -> Floats:
    """Log-odds of queries [Q, D] against the prompts [K, D], K > 0, that differ from them, on chips [M, D] -> [M, Q].

    A prompt whose cosine with a query is `alike` or more does not count against that query.
    """
    against = temperature * (chips.astype(np.float64) @ prompts.astype(np.float64).T)
    top = against.max(axis=1, keepdims=True)
    counts = (queries @ prompts.T < alike).astype(np.float64)  # [Q, K]
    mass = top + np.log(np.exp(against - top) @ counts.T + SMALLEST_MASS)
    wanted = temperature * (chips.astype(np.float64) @ queries.astype(np.float64).T)
    return np.asarray(wanted - mass)


def sample_rows(count: int) -> NDArray[np.int64]:
    """The rows of the sample among `count` chips: all of them, or SAMPLE at random, the same every time; sorted."""
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).choice(count, SAMPLE, replace=False))


def measure_background(sample: Vectors, prompts: Vectors, calibration: Calibration) -> Background:
    """Mean and standard deviation of the prompts' margins on a sample: float32 [M, D] and [K, D]."""
    if len(prompts) == 0:
        return Background(prompts, 0.0, 1.0, sample)
    unused = np.empty_like(sample, shape=(0, sample.shape[1]))  # a slice would keep the whole sample
    if len(sample) == 0:
        return Background(prompts, 0.0, 1.0, unused)
    values = margins(sample, prompts, prompts, calibration.temperature, calibration.alike)
    return Background(prompts, float(values.mean()), max(float(values.std()), SMALLEST_STD), unused)


def confidences(chips: Vectors, query: Vectors, background: Background, calibration: Calibration) -> Floats:
    """Confidence in [0, 1] of chips float32 [M, D] for a query float32 [D] -> [M]. Never falls as v·q grows alone.

    Rounded to 1e-6: the digits beyond depend on how many chips are multiplied at once, and pages must agree.
    """
    z = standard_margins(chips, query, background, calibration)
    return np.round(logistic(calibration.slope * z + calibration.offset), 6)


def standard_margins(chips: Vectors, query: Vectors, background: Background, calibration: Calibration) -> Floats:
    """z of chips float32 [M, D] for a query float32 [D] -> [M]. Slope and offset are not used."""
    temperature = calibration.temperature
    if len(background.vectors):
        values = margins(chips, query[None], background.vectors, temperature, calibration.alike)[:, 0]
        return (values - background.mean) / background.std
    usual = temperature * (background.sample.astype(np.float64) @ query)
    values = temperature * (chips.astype(np.float64) @ query)
    if len(usual) == 0:
        return values
    return np.asarray((values - usual.mean()) / max(float(usual.std()), SMALLEST_STD))


def logistic(x: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def load_background(snapshot: Snapshot, encoder: DualEncoder | None) -> Background:
    """The background of an archive's state: from its cache beside the snapshot, or measured (0.1 s) and kept there.

    Without an encoder (chips as queries) there are no prompts' vectors, and the plain cosines' sample stands in.
    """
    if encoder is None:
        none = np.empty((0, snapshot.arrays.vectors.shape[1]), np.float32)
        return measure_background(_sample(snapshot), none, Calibration())
    card = encoder.card
    path = _cache_file(snapshot, card)
    if path is not None and (found := _read(path)) is not None:
        return found
    prompts = encoder.encode_texts(card.background) if card.background else np.empty((0, card.dim), np.float32)
    background = measure_background(_sample(snapshot), prompts, card.calibration)
    if path is not None:
        with suppress(StorageError):  # a read-only archive: the next process measures again, with the same result
            write_atomically(path, _packed(background))
    return background


def _sample(snapshot: Snapshot) -> Vectors:
    return np.asarray(snapshot.arrays.vectors[sample_rows(len(snapshot))])


def _cache_file(snapshot: Snapshot, card: Card) -> Path | None:
    if snapshot.folder is None:
        return None
    how = (card.calibration.temperature, card.calibration.alike, SAMPLE, SEED)
    parts = [card.fingerprint, repr(how), *card.background]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return snapshot.folder / f"background-{key}.npz"


def _packed(background: Background) -> bytes:
    stream = io.BytesIO()
    moments = np.array([background.mean, background.std])
    np.savez(stream, vectors=background.vectors, moments=moments, sample=background.sample)
    return stream.getvalue()


def _read(path: Path) -> Background | None:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as file:
            mean, std = file["moments"].tolist()
            return Background(file["vectors"], mean, std, file["sample"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # absent or cut short: measured again


def fit_calibration(z: Floats, labels: NDArray[np.bool_], *, ridge: float = 1e-3) -> tuple[float, float]:
    """Fit slope and offset so that logistic(slope * z + offset) is the chance that the label is true.

    Logistic regression by Newton's method with step halving, the ridge on the slope only: it keeps the fit finite when
    z separates the labels, and is far below the noise of any real fit otherwise.

    Args:
        z: Standard margins of chip-query pairs, float [M].
        labels: True where the chip shows what was asked, bool [M].
        ridge: Weight of slope^2 / 2 in the summed loss.

    Raises:
        UsageError: Shapes differ, a value is not finite, or only one kind of label is there.
    """
    x, y = np.asarray(z, np.float64), np.asarray(labels, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not np.isfinite(x).all() or not 0 < y.sum() < len(y):
        raise UsageError(f"calibration needs finite z and both labels, one per pair; got {x.shape} and {y.shape}")
    design = np.stack([x, np.ones_like(x)], axis=1)
    penalty = np.array([ridge, 0.0])
    weights = np.array([0.0, np.log(y.sum() / (len(y) - y.sum()))])
    for _ in range(100):
        chance = logistic(design @ weights)
        gradient = design.T @ (chance - y) + penalty * weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        scale = _step_scale(design, y, penalty, weights, step)
        weights = weights - scale * step
        if np.abs(scale * step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def _step_scale(design: Floats, y: Floats, penalty: Floats, weights: Floats, step: Floats) -> float:
    """The largest of 1, 1/2, 1/4 … that does not raise the loss."""

    def loss(w: Floats) -> float:
        s = design @ w
        return float(np.sum(np.logaddexp(0.0, s) - y * s) + 0.5 * np.sum(penalty * w * w))

    start, scale = loss(weights), 1.0
    while scale > 1e-8 and loss(weights - scale * step) > start:
        scale *= 0.5
    return scale
