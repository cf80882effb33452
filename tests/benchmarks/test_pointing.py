"""Pointing and the recall of small objects, on drawn images whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from measures.pointing import pointing_accuracy
from measures.small_objects import Looks, look, small_object_recall, spots_inside
from PIL import Image

from geoglot.data.regions.schema import Region, RegionRecord, RegionSet
from geoglot.errors import UsageError
from geoglot.models.card import Card
from geoglot.types import Calibration

COLOURS = {"red": (230, 20, 20), "blue": (20, 20, 230), "green": (20, 160, 40)}
BACKGROUND = (120, 120, 120)


class PlaceEncoder:
    """Sees mean colours, of images and of squares of 8 px."""

    patch_px = 8
    card = Card("colours", "1", 3, 16, ("en",), None, (), ("green",), Calibration(10.0, 0.99))

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        return _unit(images.reshape(len(images), -1, 3).mean(1))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return _unit(np.array([COLOURS[text] for text in texts]))

    def patch_features(self, images: np.ndarray, last_block: None = None) -> np.ndarray:
        height, width = images.shape[1] // 8 * 8, images.shape[2] // 8 * 8
        cut = images[:, :height, :width].reshape(len(images), height // 8, 8, width // 8, 8, 3)
        return _unit(cut.mean((2, 4)))


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64) + 1e-3
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


Drawn = Sequence[tuple[str, tuple[int, int, int, int]]]


def made(folder: Path, number: int, drawn: Drawn, told: Drawn | None = None) -> RegionRecord:
    """An image with coloured boxes, and a record that may tell others."""
    pixels = np.full((96, 128, 3), BACKGROUND, np.uint8)
    for name, (x0, y0, x1, y1) in drawn:
        pixels[y0:y1, x0:x1] = COLOURS[name]
    path = folder / f"{number}.png"
    Image.fromarray(pixels).save(path)
    regions = tuple(Region(tuple(map(float, box)), name) for name, box in (drawn if told is None else told))
    return RegionRecord(str(path), 128, 96, (), regions, "drawn")


def test_peaks_inside_count(tmp_path: Path) -> None:
    """Two of three pairs: the last record tells the blue box elsewhere."""
    red, blue = ("red", (16, 16, 48, 48)), ("blue", (80, 40, 112, 72))
    records = (made(tmp_path, 0, [red, blue]), made(tmp_path, 1, [blue], [("blue", (0, 0, 20, 20))]))
    score = pointing_accuracy(PlaceEncoder(), RegionSet("drawn", records, ("red", "blue")))
    assert score.accuracy == pytest.approx(200 / 3)
    assert score.per_class == {"blue": (1, 2), "red": (1, 1)}
    assert score.pairs == 3
    assert score.interval == (0.0, 100.0)


def test_outlines_are_stricter_than_boxes(tmp_path: Path) -> None:
    box = (16.0, 16.0, 80.0, 80.0)
    thin = Region(box, "red", polygon_px=((16, 16), (80, 16), (80, 18), (16, 18)))
    whole = Region(box, "red", polygon_px=((16, 16), (80, 16), (80, 80), (16, 80)))
    drawn = made(tmp_path, 0, [("red", (16, 16, 80, 80))])
    for region, expected in ((thin, 0.0), (whole, 100.0)):
        record = RegionRecord(drawn.image, 128, 96, (), (region,), "drawn")
        score = pointing_accuracy(PlaceEncoder(), RegionSet("drawn", (record,), ("red",)), zooms=(0.5,))
        assert score.accuracy == 100
        assert score.in_outline == expected


def test_small_ones_are_relevant_and_larger_ones_are_not(tmp_path: Path) -> None:
    small, large = ("red", (8, 8, 24, 24)), ("red", (40, 8, 88, 56))
    records = tuple(made(tmp_path, i, drawn) for i, drawn in enumerate(([small], [small, large], [large], [])))
    regions = RegionSet("drawn", records, ("red", "blue"))
    seen = look(PlaceEncoder(), regions)
    assert seen.relevant.tolist() == [[True, False], [False, False], [False, False], [False, False]]
    assert seen.larger.tolist() == [[False, False], [True, False], [True, False], [False, False]]
    assert seen.images.tolist() == [0, 1, 2, 3]
    parts = look(PlaceEncoder(), regions, chip_px=32)
    assert parts.relevant[:, 0].sum() > 1  # windows that hold the small one of image 1 and not the large one
    assert len(parts.chips) > 4


def test_pointing_finds_what_the_mean_hides(tmp_path: Path) -> None:
    """Reddish haze over whole images wins by the mean; the small red box wins by its place."""
    hazy = [made(tmp_path, i, []) for i in range(3)]
    for record in hazy:
        Image.fromarray(np.full((96, 128, 3), (150, 110, 110), np.uint8)).save(record.image)
    holds = made(tmp_path, 9, [("red", (16, 16, 32, 32))])
    looks = look(PlaceEncoder(), RegionSet("drawn", (*hazy, holds), ("red",)))
    found = small_object_recall(looks, 1)
    assert (found.plain, found.pointed) == (0, 100)
    assert found.gain == float("inf")
    assert small_object_recall(looks, 1, candidates=2).pointed == 0  # never looked at


def test_only_candidates_of_classes_with_small_ones_are_looked_at_closer(tmp_path: Path) -> None:
    small, large = ("red", (8, 8, 24, 24)), ("blue", (40, 8, 88, 56))
    records = (made(tmp_path, 0, [small]), made(tmp_path, 1, [large]), made(tmp_path, 2, []))
    regions = RegionSet("drawn", records, ("red", "blue"))
    assert not np.isnan(look(PlaceEncoder(), regions).evidence).any()
    seen = look(PlaceEncoder(), regions, candidates=1)
    best = seen.chips[:, 0].argmax()
    assert np.flatnonzero(~np.isnan(seen.evidence).any(1)).tolist() == [best]


def test_spots_lie_inside_what_they_found(tmp_path: Path) -> None:
    """The second record tells its box elsewhere: its spot is outside. The third holds a larger one: not counted."""
    small, moved = ("red", (16, 16, 32, 32)), ("red", (80, 64, 96, 80))
    records = (
        made(tmp_path, 0, [small]),
        made(tmp_path, 1, [small], [moved]),
        made(tmp_path, 2, [("red", (0, 0, 64, 64))]),
    )
    looks = look(PlaceEncoder(), RegionSet("drawn", records, ("red",)))
    assert looks.inside.ravel().tolist() == [True, False, True]
    assert spots_inside(looks) == (50, (0, 100), 2)
    with pytest.raises(UsageError, match="among the candidates"):
        spots_inside(looks_of([0.9], [0], [], [0]))


def looks_of(
    chips: Sequence[float], evidence: Sequence[float], relevant: Sequence[int], larger: Sequence[int]
) -> Looks:
    """One class; relevant and larger by row; each chip an image."""
    count = len(chips)
    truth = np.isin(np.arange(count), relevant)[:, None], np.isin(np.arange(count), larger)[:, None]
    columns = [np.array(values, np.float32)[:, None] for values in (chips, evidence)]
    return Looks(("a",), np.arange(count), *columns, np.zeros((count, 1), np.bool_), *truth)


def test_recall_by_hand() -> None:
    """Relevant at plain ranks 1 and 4; the evidence lifts the second to the top."""
    looks = looks_of([0.9, 0.8, 0.7, 0.6], [0, 0, 0, 9], [0, 3], [])
    two = small_object_recall(looks, 2, weight=4.0)
    assert (two.plain, two.pointed, two.gain) == (50, 100, 100)
    assert two.per_class == {"a": (50, 100, 2)}
    one = small_object_recall(looks, 1, weight=0.0)
    assert (one.plain, one.pointed) == (100, 100)  # one place can hold one of them only
    with pytest.raises(UsageError, match="no chip holds only small"):
        small_object_recall(looks_of([0.9], [0], [], [0]), 1)


def test_larger_ones_stand_aside_or_count_against() -> None:
    """Plain order: larger, wrong, relevant. Candidates are the same; only who takes a place differs."""
    looks = looks_of([0.9, 0.8, 0.7], [9, 0, 0], [2], [0])
    assert [small_object_recall(looks, 2, weight=0.0, larger=how).plain for how in ("aside", "against")] == [100, 0]
    assert small_object_recall(looks, 1, weight=0.0).plain == 0  # the wrong one is still before it
    few = looks_of([0.9, 0.8, 0.7], [0, 0, 9], [2], [0])
    assert small_object_recall(few, 1, candidates=2).pointed == 0
    assert small_object_recall(few, 1, candidates=3).pointed == 100


def test_intervals_are_over_images() -> None:
    """Four chips of one image move together: all of them or none; four images do not."""
    chips, evidence, relevant = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], [0.0] * 8, [0, 1, 6, 7]
    apart = looks_of(chips, evidence, relevant, [])
    together = replace(apart, images=np.array([0, 0, 1, 1, 1, 1, 2, 2]))
    one = replace(apart, images=np.zeros(8, np.int64))
    wide = small_object_recall(together, 4, weight=0.0)
    assert wide.plain == 50
    assert wide.plain_interval == (0, 100)
    assert small_object_recall(one, 4, weight=0.0).plain_interval == (50, 50)
    assert wide.difference_interval == (0, 0)  # the same ranking, drawn alike
    narrow = small_object_recall(apart, 4, weight=0.0).plain_interval
    assert 0 <= narrow[0] < 50 < narrow[1] <= 100


def test_images_without_categories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image shows"):
        pointing_accuracy(PlaceEncoder(), RegionSet("drawn", (made(tmp_path, 0, []),), ("red",)))


@pytest.mark.realdata
def test_vhr10_can_be_pointed_at(real_data: Path) -> None:
    from geoglot.data.regions import open_regions
    from geoglot.data.regions.schema import RegionSource
    from geoglot.models.encoder import dense
    from geoglot.models.load import load_encoder

    test = open_regions(RegionSource("vhr10", "coco", split="test"), real_data)
    score = pointing_accuracy(dense(load_encoder(threads=1)), test, limit=4)
    assert 0 <= score.accuracy <= 100
    assert score.pairs >= 4
