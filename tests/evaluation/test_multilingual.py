from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from colour_encoder import ColourEncoder

from geoglot.data.samples import Sample
from geoglot.errors import UsageError
from geoglot.evaluation.multilingual import agreement, language_gap, translated_retrieval


def test_language_gap() -> None:
    assert language_gap({"en": 50.0, "de": 40.0, "fr": 50.0}) == pytest.approx(10.0)
    for bad in ({"en": 50.0}, {"de": 1.0}, {"en": 0.0, "de": 1.0}):
        with pytest.raises(UsageError):
            language_gap(bad)


def test_agreement_against_loops() -> None:
    rng = np.random.default_rng(0)
    a, b, images = (rng.standard_normal((n, 4)).astype(np.float32) for n in (6, 6, 25))
    same = shared = 0.0
    for one, two in zip(a, b, strict=True):
        ranked = [sorted(range(25), key=lambda j, v=v: -float(images[j] @ v)) for v in (one, two)]
        same += ranked[0][0] == ranked[1][0]
        shared += len(set(ranked[0][:10]) & set(ranked[1][:10])) / 10
    assert agreement(a, b, images) == pytest.approx((100 * same / 6, 100 * shared / 6))
    assert agreement(a, a, images) == (100.0, 100.0)


def test_translated_captions() -> None:
    english = [Sample(Path(f"{c}.png"), (c,), None, "test") for c in ("red", "green", "blue")]
    german = [Sample(s.image, (t,), None, "test") for s, t in zip(english, ("rot", "blau", "Mond"), strict=True)]
    images = np.eye(3, dtype=np.float32)
    found = {n.metric: n for n in translated_retrieval(ColourEncoder(), {"en": english, "de": german}, images)}
    assert {n.protocol for n in found.values()} == {"multi/captions"}
    assert found["t2i_R@1_en"].value == 100.0
    assert found["t2i_R@1_de"].value == pytest.approx(100 / 3)
    assert found["t2i_R@1_de"].notes == ("the model knows no word of 1 of 3 texts",)
    gap = 100 * (1 - found["mR_de"].value / found["mR_en"].value)
    assert found["mR_gap"].value == pytest.approx(gap)
    assert found["mR_gap"].parts == ("mR_de",)
    assert found["mR_de"].value == pytest.approx(np.mean([found[part].value for part in found["mR_de"].parts]))
    assert found["same_best_de"].value == pytest.approx(100 / 3)
