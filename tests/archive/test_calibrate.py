"""Confidence: the formula, its fit, its cache."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from small_archives import DIM, HashEncoder, build, card, scene, unit

from geoglot.archive.archive import Archive, open_snapshot
from geoglot.archive.calibrate import (
    SAMPLE,
    confidences,
    fit_calibration,
    load_background,
    logistic,
    margins,
    measure_background,
    sample_rows,
)
from geoglot.errors import UsageError
from geoglot.models.card import Calibration

RNG = np.random.default_rng(5)


def some(count: int) -> np.ndarray:
    return unit(RNG.normal(size=(count, DIM)))


def test_margins_are_what_the_formula_says() -> None:
    chips, queries, prompts = some(4), some(3), some(5)
    queries[0] = prompts[2]  # its twin among the prompts must not count against it
    found = margins(chips, queries, prompts, 20.0, 0.7)
    for i in range(4):
        for j in range(3):
            others = [prompt for prompt in prompts if queries[j] @ prompt < 0.7]
            mass = sum(math.exp(20 * float(chips[i] @ prompt)) for prompt in others)
            assert found[i, j] == pytest.approx(20 * float(chips[i] @ queries[j]) - math.log(mass), abs=1e-4)


def test_margins_do_not_overflow() -> None:
    chips = some(2)
    assert np.isfinite(margins(chips, chips, chips, 1e6, 0.7)).all()


def test_confidence_is_the_logistic_of_the_standard_margin() -> None:
    chips, query, prompts, sample = some(6), some(1)[0], some(4), some(300)
    calibration = Calibration(temperature=10.0, slope=1.5, offset=-0.5)
    background = measure_background(sample, prompts, calibration)
    every = margins(sample, prompts, prompts, 10.0, calibration.alike)
    z = (margins(chips, query[None], prompts, 10.0, calibration.alike)[:, 0] - every.mean()) / every.std()
    assert background.sample.base is None  # a part of the sample would keep all of it, for each state of an archive
    found = confidences(chips, query, background, calibration)
    assert found == pytest.approx(1 / (1 + np.exp(-(1.5 * z - 0.5))), abs=1e-6)
    assert ((found >= 0) & (found <= 1)).all()


def test_a_card_without_prompts_standardises_its_own_scores() -> None:
    chips, query, sample = some(6), some(1)[0], some(300)
    background = measure_background(sample, np.empty((0, DIM), np.float32), Calibration(10.0))
    usual = sample.astype(np.float64) @ query
    z = (chips @ query - usual.mean()) / usual.std()
    assert confidences(chips, query, background, Calibration(10.0)) == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-5)


def test_alike_chips_and_empty_archives_give_numbers() -> None:
    same = np.repeat(some(1), 5, axis=0)
    for prompts in (some(3), np.empty((0, DIM), np.float32)):
        for sample in (same, same[:0]):
            background = measure_background(sample, prompts, Calibration(10.0))
            assert np.isfinite(confidences(same, same[0], background, Calibration())).all()


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


def test_the_background_is_measured_once_per_state(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [scene(i) for i in range(5)])
    first, second, other = HashEncoder(), HashEncoder(), HashEncoder(card(background=("desert",)))
    snapshot = open_snapshot(folder)
    measured, cached = (load_background(snapshot, encoder) for encoder in (first, second))
    assert first.texts == list(card().background)
    assert second.texts == []
    assert (measured.mean, measured.std) == (cached.mean, cached.std)
    assert np.array_equal(measured.vectors, cached.vectors)
    load_background(snapshot, other)
    assert other.texts == ["desert"]
    assert snapshot.folder is not None
    for path in snapshot.folder.glob("background-*"):
        path.write_bytes(path.read_bytes()[:50])
    assert load_background(snapshot, HashEncoder()).mean == measured.mean


def test_nothing_matches_follows_the_threshold(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [scene(i) for i in range(5)])
    made = card()

    def ask(threshold: float) -> bool:
        from dataclasses import replace

        strict = replace(made, calibration=replace(made.calibration, threshold=threshold))
        return Archive.open(folder, HashEncoder(strict)).search("boats").nothing_matches

    best = max(m.confidence for m in Archive.open(folder, HashEncoder()).search("boats", merge=False).matches)
    assert not ask(best - 1e-9)
    assert ask(best + 1e-9)
