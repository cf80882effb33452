"""Confidence: the formula and its fit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geoglot.errors import UsageError
from geoglot.scoring.calibration import SAMPLE, Scorer, log_odds, logistic, sample_rows, standardised
from geoglot.scoring.fit import fit_calibration
from geoglot.types import Calibration

DIM = 16
RNG = np.random.default_rng(5)


def some(count: int) -> np.ndarray:
    rows = RNG.normal(size=(count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def margins(chips: np.ndarray, queries: np.ndarray, prompts: np.ndarray, temperature: float) -> np.ndarray:
    return Scorer.unmeasured(prompts, Calibration(temperature)).margins(chips, queries)


def test_margins_are_what_the_formula_says() -> None:
    chips, queries, prompts = some(4), some(3), some(5)
    queries[0] = prompts[2]  # its twin among the prompts must not count against it
    found = margins(chips, queries, prompts, 20.0)
    for i in range(4):
        for j in range(3):
            others = [prompt for prompt in prompts if queries[j] @ prompt < 0.7]
            mass = sum(math.exp(20 * float(chips[i] @ prompt)) for prompt in others)
            assert found[i, j] == pytest.approx(20 * float(chips[i] @ queries[j]) - math.log(mass), abs=1e-4)


def test_margins_do_not_overflow() -> None:
    chips = some(2)
    assert np.isfinite(margins(chips, chips, chips, 1e6)).all()


def test_confidence_is_the_logistic_of_the_standard_margin() -> None:
    chips, query, prompts, sample = some(6), some(1)[0], some(4), some(300)
    calibration = Calibration(temperature=10.0, slope=1.5, offset=-0.5)
    scorer = Scorer.measured(sample, prompts, calibration)
    every = margins(sample, prompts, prompts, 10.0)
    z = (margins(chips, query[None], prompts, 10.0)[:, 0] - every.mean()) / every.std()
    assert scorer.sample.base is None  # a part of the sample would keep all of it, for each state of an archive
    found = scorer.confidences(chips, query)
    assert found == pytest.approx(1 / (1 + np.exp(-(1.5 * z - 0.5))), abs=1e-6)
    assert ((found >= 0) & (found <= 1)).all()


def test_a_card_without_prompts_standardises_its_own_scores() -> None:
    chips, query, sample = some(6), some(1)[0], some(300)
    scorer = Scorer.measured(sample, np.empty((0, DIM), np.float32), Calibration(10.0))
    usual = sample.astype(np.float64) @ query
    z = (chips @ query - usual.mean()) / usual.std()
    assert scorer.confidences(chips, query) == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-5)


def test_alike_chips_and_empty_archives_give_numbers() -> None:
    same = np.repeat(some(1), 5, axis=0)
    for prompts in (some(3), np.empty((0, DIM), np.float32)):
        for sample in (same, same[:0]):
            scorer = Scorer.measured(sample, prompts, Calibration(10.0))
            assert np.isfinite(scorer.confidences(same, same[0])).all()


def test_places_are_scored_by_the_same_margins() -> None:
    features, queries, prompts = some(12).reshape(2, 3, 2, DIM), some(3), some(4)
    scores = Scorer.unmeasured(prompts, Calibration(10.0)).place_scores(features, queries)
    assert scores.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(scores[1, 2, 0], margins(features[1, 2], queries, prompts, 10.0)[0], atol=1e-4)
    plain = Scorer.unmeasured(prompts[:0], Calibration(10.0)).place_scores(features, queries)
    np.testing.assert_allclose(plain, 10 * (features @ queries.T), atol=1e-5)


def test_log_odds_of_single_precision_are_those_of_double() -> None:
    cosines = RNG.uniform(-1, 1, (50, 3)), RNG.uniform(-1, 1, (50, 5)), (RNG.random((5, 3)) < 0.7).astype(float)
    single = log_odds(*(part.astype(np.float32) for part in cosines), 20.0)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, log_odds(*cosines, 20.0), atol=1e-3)


def test_standardised_leaves_gaps_and_flat_values_alone() -> None:
    values = np.array([1.0, np.nan, 3.0])
    assert standardised(values) == pytest.approx([-1, np.nan, 1], nan_ok=True)
    assert standardised(values, np.array([0.0, 4.0])) == pytest.approx([-0.5, np.nan, 0.5], nan_ok=True)
    assert standardised(np.full(3, 2.0)).tolist() == [0, 0, 0]
    assert standardised(values, np.empty(0)) is values


def test_logistic_at_the_ends() -> None:
    assert logistic(np.array([-1e9, 0.0, 1e9])).tolist() == [0.0, 0.5, 1.0]


def test_the_sample_is_fixed_sorted_and_without_repeats() -> None:
    assert sample_rows(7).tolist() == list(range(7))
    rows = sample_rows(50_000)
    assert len(rows) == SAMPLE == len(set(rows.tolist()))
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, sample_rows(50_000))


def test_the_fit_finds_the_curve_that_made_the_labels() -> None:
    z = RNG.normal(size=40_000) * 2
    labels = RNG.random(len(z)) < logistic(1.7 * z - 2.0)
    slope, offset = fit_calibration(z, labels)
    assert slope == pytest.approx(1.7, abs=0.06)
    assert offset == pytest.approx(-2.0, abs=0.06)
    assert float(logistic(slope * z + offset).mean()) == pytest.approx(
        labels.mean(), abs=1e-6
    )  # calibrated in the mean


def test_the_fit_stays_finite_when_z_separates_the_labels() -> None:
    slope, offset = fit_calibration(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    assert 1 < slope < 100
    assert abs(offset) < 1e-6


@pytest.mark.parametrize(
    ("z", "labels"),
    [([1.0, 2.0], [True, True]), ([], []), ([math.nan, 1.0], [True, False]), ([1.0, 2.0, 3.0], [True, False])],
)
def test_the_fit_refuses_what_it_cannot_fit(z: list[float], labels: list[bool]) -> None:
    with pytest.raises(UsageError):
        fit_calibration(np.array(z), np.array(labels, bool))
