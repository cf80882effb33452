"""The logistic curve of a model's calibration, fitted on labelled pairs (Platt 1999)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.scoring.calibration import Floats, logistic


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
