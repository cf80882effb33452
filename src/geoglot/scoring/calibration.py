"""How likely is it that a chip shows what was asked? Cosines alone do not say; the background of ordinary words does.

For a chip v, a query q and the card's background prompts b_1 … b_K (things that an image may show instead)::

    margin(v, q) = T * v·q - log sum_j exp(T * v·b_j)          over the b_j with q·b_j < alike;  T = temperature
    z            = (margin - mean) / std
    confidence   = 1 / (1 + exp(-(slope * z + offset)))

Prompts that mean nearly the same as q are left out: a harbor must not lose to "port" and "pier". (RSICD valid: the area
under the curve of "is there any such image?" rises from 0.75 to 0.87, docs/results/mini-v0.md.)

where mean and std are taken over margin(v, b_j) for a fixed random sample of the archive's chips and all prompts: the
margins that ordinary words get on ordinary chips *here*. The margin is a log-odds of q against the prompts, up to the
mass that q itself would add; z takes out what differs between archives (haze, sensors, many near-equal chips), and the
logistic curve, fitted by `scoring.fit` on labelled pairs when the model was trained, turns it into a probability
(Platt 1999). So T, slope and offset belong to the model, and mean and std to the archive.

The same log-odds tell the places inside an image apart: plain cosines lean to the same places for every question, and
the prompts take that out.

Limits. The curve is fitted on texts. For pictures, chips and sums the same formula is used with the query's vector:
image-image cosines run higher than text-image ones, so those confidences are optimistic. A card without prompts has no
margins: then z standardises the plain cosines of the query itself over the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geoglot.types import Calibration

SAMPLE = 4096
"""Chips in the sample: the mean's error is then 1/64 of a standard deviation."""
SEED = 20240607
SMALLEST_MASS = 1e-12
"""Keeps the logarithm finite when all that fits a chip is alike to the query."""
SMALLEST_STD = 1e-3
"""Below this, in units of T times cosine, all chips look alike and z would only magnify rounding."""
ROWS = 65_536
"""Vectors that are compared at once."""

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]
Float = TypeVar("Float", np.float32, np.float64)


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores of vectors for questions, by a model's background prompts and its calibration.

    Attributes:
        prompts: The background prompts' unit vectors, float32 [K, D]; K = 0 for a card without prompts.
        calibration: Of the model.
        mean, std: Of the margins of all prompts on a sample; of no use when K = 0 or nothing was measured.
        sample: The sample's vectors, float32 [M, D]; kept when K = 0 only, else [0, D].
    """

    prompts: Vectors
    calibration: Calibration
    mean: float
    std: float
    sample: Vectors

    @classmethod
    def unmeasured(cls, prompts: Vectors, calibration: Calibration) -> Scorer:
        """Enough for log-odds."""
        return cls(prompts, calibration, 0.0, 1.0, np.empty((0, prompts.shape[1]), np.float32))

    @classmethod
    def measured(cls, sample: Vectors, prompts: Vectors, calibration: Calibration) -> Scorer:
        """With mean and standard deviation of the prompts' margins on a sample float32 [M, D]."""
        if len(prompts) == 0:
            return cls(prompts, calibration, 0.0, 1.0, sample)
        plain = cls.unmeasured(prompts, calibration)
        if len(sample) == 0:
            return plain
        values = plain.margins(sample, prompts)
        return cls(prompts, calibration, float(values.mean()), max(float(values.std()), SMALLEST_STD), plain.sample)

    def margins(self, vectors: Vectors, queries: Vectors) -> Floats:
        """Log-odds of queries [Q, D] against the prompts that differ from them, K > 0, on vectors [M, D] -> [M, Q].

        A prompt whose cosine with a query is `alike` or more does not count against that query.
        """
        exact = vectors.astype(np.float64)
        counts = (queries @ self.prompts.T < self.calibration.alike).astype(np.float64).T  # [K, Q]
        against, cosines = exact @ self.prompts.astype(np.float64).T, exact @ queries.astype(np.float64).T
        return log_odds(cosines, against, counts, self.calibration.temperature)

    def place_scores(self, features: Vectors, queries: Vectors) -> Vectors:
        """Margins of the places of images, unit vectors [..., D] -> float32 [..., Q]; T times cosine when K = 0."""
        flat = features.reshape(-1, features.shape[-1])
        scores = np.empty((len(flat), len(queries)), np.float32)
        for at in range(0, len(flat), ROWS):
            rows = flat[at : at + ROWS]
            plain = self.calibration.temperature * (rows @ queries.T) if len(self.prompts) == 0 else None
            scores[at : at + ROWS] = self.margins(rows, queries) if plain is None else plain
        return scores.reshape(*features.shape[:-1], len(queries))

    def confidences(self, vectors: Vectors, query: Vectors) -> Floats:
        """Confidence in [0, 1] of vectors float32 [M, D] for a query float32 [D] -> [M]. Never falls as v·q grows.

        Rounded to 1e-6: the digits beyond depend on how many chips are multiplied at once, and pages must agree.
        """
        return np.round(chance(self.standard_margins(vectors, query), self.calibration), 6)

    def standard_margins(self, vectors: Vectors, query: Vectors) -> Floats:
        """z of vectors float32 [M, D] for a query float32 [D] -> [M]. Slope and offset are not used."""
        if len(self.prompts):
            return (self.margins(vectors, query[None])[:, 0] - self.mean) / self.std
        temperature = self.calibration.temperature
        usual = temperature * (self.sample.astype(np.float64) @ query)
        return standardised(temperature * (vectors.astype(np.float64) @ query), usual)


def log_odds(
    cosines: NDArray[Float], against: NDArray[Float], counts: NDArray[Float], temperature: float
) -> NDArray[Float]:
    """T * cosine of a query, less the log-sum-exp of T * cosines of what speaks against it.

    Args:
        cosines: With the queries [N, Q].
        against: With other words [N, K], K > 0.
        counts: Weight of each other word against each query [K, Q], 0 or 1.
        temperature: T.
    """
    scaled = temperature * against
    top = scaled.max(axis=1, keepdims=True)
    mass = np.exp(scaled - top) @ counts
    return np.asarray(temperature * cosines - top - np.log(mass + SMALLEST_MASS), dtype=cosines.dtype)


def standardised(
    values: NDArray[Float], sample: NDArray[np.floating] | None = None, *, least_std: float = SMALLEST_STD
) -> NDArray[Float]:
    """Standard deviations above the mean of a sample, by default of the values themselves; NaN is left out, and stays.

    An empty sample changes nothing.
    """
    usual = values if sample is None else sample
    if not usual.size:
        return values
    scaled = (values - float(np.nanmean(usual))) / max(float(np.nanstd(usual)), least_std)
    return np.asarray(scaled, dtype=values.dtype)


def sample_rows(count: int) -> NDArray[np.int64]:
    """The rows of the sample among `count` chips: all of them, or SAMPLE at random, the same every time; sorted."""
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).choice(count, SAMPLE, replace=False))


def chance(z: Floats, calibration: Calibration) -> Floats:
    """The model's logistic curve: standard margins to confidences in [0, 1]."""
    return logistic(calibration.slope * z + calibration.offset)


def logistic(x: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
