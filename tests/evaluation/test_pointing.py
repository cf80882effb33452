"""Pointing and the recall of small objects, on drawn images whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoglot.data.regions.schema import Region, RegionRecord, RegionSet
from geoglot.errors import UsageError
from geoglot.evaluation.pointing import Looks, look, pointing_accuracy, small_object_recall
from geoglot.models.card import Calibration, Card

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
    expected = [[True, False], [False, False], [False, False], [False, False]]
    assert look(PlaceEncoder(), regions).relevant.tolist() == expected
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


def test_recall_by_hand() -> None:
    """Class 0: relevant at plain ranks 1 and 4; class 1: none."""
    chips = np.array([[0.9, 0], [0.8, 0], [0.7, 0], [0.6, 0]], np.float32)
    peaks = np.array([[0.0, 0], [0, 0], [0, 0], [9, 0]], np.float32)
    relevant = np.array([[True, False], [False, False], [False, False], [True, False]])
    looks = Looks(("a", "b"), chips, peaks, relevant)
    two = small_object_recall(looks, 2, weight=4.0)
    assert (two.plain, two.pointed, two.gain) == (50, 100, 100)
    assert two.per_class == {"a": (50, 100, 2)}
    one = small_object_recall(looks, 1, weight=0.0)
    assert (one.plain, one.pointed) == (100, 100)  # one place can hold one of them only
    with pytest.raises(UsageError, match="no chip holds only small"):
        small_object_recall(Looks(("a",), chips[:, :1], peaks[:, :1], relevant[:, 1:]), 1)


def test_images_without_categories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image shows"):
        pointing_accuracy(PlaceEncoder(), RegionSet("drawn", (made(tmp_path, 0, []),), ("red",)))


@pytest.mark.realdata
def test_vhr10_can_be_pointed_at(real_data: Path) -> None:
    from geoglot.data.regions.open import open_regions
    from geoglot.data.regions.schema import RegionSource
    from geoglot.models.encoder import dense, load_encoder

    test = open_regions(RegionSource("vhr10", "coco", split="test"), real_data)
    score = pointing_accuracy(dense(load_encoder(threads=1)), test, limit=4)
    assert 0 <= score.accuracy <= 100
    assert score.pairs >= 4
