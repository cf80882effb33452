"""What ordinary words score on an archive: measured once, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from small_archives import HashEncoder, build, card, scene

from geoglot.archive.archive import Archive, open_snapshot
from geoglot.archive.background import load_scorer


def test_the_background_is_measured_once_per_state(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [scene(i) for i in range(5)])
    first, second, other = HashEncoder(), HashEncoder(), HashEncoder(card(background=("desert",)))
    snapshot = open_snapshot(folder)
    measured, cached = (load_scorer(snapshot, encoder) for encoder in (first, second))
    assert first.texts == list(card().background)
    assert second.texts == []
    assert (measured.mean, measured.std) == (cached.mean, cached.std)
    assert np.array_equal(measured.prompts, cached.prompts)
    load_scorer(snapshot, other)
    assert other.texts == ["desert"]
    assert snapshot.folder is not None
    for path in snapshot.folder.glob("background-*"):
        path.write_bytes(path.read_bytes()[:50])
    assert load_scorer(snapshot, HashEncoder()).mean == measured.mean


def test_nothing_matches_follows_the_threshold(tmp_path: Path) -> None:
    folder = build(tmp_path / "a", [scene(i) for i in range(5)])
    made = card()

    def ask(threshold: float) -> bool:
        strict = replace(made, calibration=replace(made.calibration, threshold=threshold))
        return Archive.open(folder, HashEncoder(strict)).search("boats").nothing_matches

    best = max(m.confidence for m in Archive.open(folder, HashEncoder()).search("boats", merge=False).matches)
    assert not ask(best - 1e-9)
    assert ask(best + 1e-9)
