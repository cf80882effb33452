"""Training chips: every kind can be drawn, repeatably, with labels, masks and captions."""

from __future__ import annotations

import numpy as np
import pytest

from geoglot.errors import UnknownNameError, UsageError
from geoglot_sandbox.captions import LANGUAGES, named, refer
from geoglot_sandbox.concepts import CONCEPTS
from geoglot_sandbox.samples import KINDS, LABEL_OF_KIND, draw_sample


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str) -> None:
    sample = draw_sample(kind, 3, size_px=96)
    assert sample.rgb.shape == (96, 96, 3)
    assert sample.rgb.dtype == np.uint8
    assert sample.rgb.std() > 2
    assert sample.mask.shape == (96, 96)
    assert sample.mask.max() < len(CONCEPTS)
    assert sample.labels[0] == LABEL_OF_KIND.get(kind, kind)
    assert len(set(sample.labels)) == len(sample.labels)
    assert set(sample.labels) <= set(CONCEPTS) - {"other"}
    assert set(sample.captions) == set(LANGUAGES)
    assert all(len(texts) >= 3 and all(texts) and "{" not in "".join(texts) for texts in sample.captions.values())


def test_at_least_forty_kinds() -> None:
    assert len(KINDS) >= 40
    assert len(set(KINDS)) == len(KINDS)


@pytest.mark.parametrize("kind", ["harbor", "golf_course", "dense_residential", "river"])
def test_same_seed_same_pixels(kind: str) -> None:
    one, two, other = draw_sample(kind, 5, 80), draw_sample(kind, 5, 80), draw_sample(kind, 6, 80)
    np.testing.assert_array_equal(one.rgb, two.rgb)
    np.testing.assert_array_equal(one.mask, two.mask)
    assert one.captions == two.captions
    assert (one.rgb != other.rgb).mean() > 0.5


@pytest.mark.parametrize(
    ("kind", "concept"),
    [("storage_tank", "storage_tank"), ("harbor", "harbor"), ("forest", "forest"), ("cars", "car"), ("lake", "lake")],
)
def test_the_kind_is_in_the_mask(kind: str, concept: str) -> None:
    shares = [(draw_sample(kind, seed, 96).mask == CONCEPTS.index(concept)).mean() for seed in range(6)]
    assert np.median(shares) > 0.05


def test_gsd_is_honoured() -> None:
    assert draw_sample("forest", 1, 64, gsd_m=0.7).gsd_m == 0.7


def test_bad_arguments() -> None:
    with pytest.raises(UnknownNameError) as caught:
        draw_sample("habor", 1)
    assert "harbor" in caught.value.hint
    with pytest.raises(UsageError):
        draw_sample("harbor", 1, size_px=2)
    with pytest.raises(UsageError):
        draw_sample("harbor", 1, gsd_m=float("nan"))


def _has(text: str, first: str, last: str) -> bool:
    return any(first <= letter <= last for letter in text)


@pytest.mark.parametrize("concept", CONCEPTS[1:])
def test_every_concept_has_words_in_every_language(concept: str) -> None:
    for language in LANGUAGES:
        assert named(concept, language)
        assert named(concept, language, plural=True)
    assert _has(named(concept, "ru"), "а", "я")
    assert _has(named(concept, "zh"), "\u4e00", "\u9fff")
    assert _has(named(concept, "ko"), "\uac00", "\ud7a3")


def test_expressions_name_the_place() -> None:
    assert refer("ship", 0, 0)["en"] == "a ship in the upper left"
    assert refer("ship", 2, 1)["de"] == "ein Schiff rechts"
    assert refer("ship", 1, 2)["zh"] == "下方的船只"
