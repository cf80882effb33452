from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoglot.data.mask_crops import PURE, mask_crops, pure_square
from geoglot.data.segmentation import open_segmentation
from geoglot.errors import SourceError


def _sums(there: np.ndarray) -> np.ndarray:
    return np.pad(there.astype(np.int32).cumsum(0).cumsum(1), ((1, 0), (1, 0)))


def test_every_pure_square_is_found_and_no_other() -> None:
    rng = np.random.default_rng(0)
    there = rng.random((14, 17)) < 0.8
    there[3:10, 4:12] = True
    side = 5
    slow = {
        (x, y)
        for y in range(14 - side + 1)
        for x in range(17 - side + 1)
        if there[y : y + side, x : x + side].mean() >= PURE
    }
    assert 0 < len(slow) < 13 * 10
    assert {pure_square(_sums(there), side, rng) for _ in range(2000)} == slow
    assert pure_square(_sums(np.zeros((9, 9), bool)), 3, rng) is None
    assert pure_square(_sums(np.ones((9, 9), bool)), 9, rng) == (0, 0)
    assert pure_square(_sums(np.ones((9, 9), bool)), 10, rng) is None


def _scenes(folder: Path, mask: np.ndarray) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    (folder / "classes.json").write_text(json.dumps(["unlabeled", "water", "land"]))
    colours = np.array([[0, 0, 0], [0, 0, 200], [200, 150, 0]], np.uint8)
    Image.fromarray(colours[mask]).save(folder / "images" / "a.png")
    Image.fromarray(mask).save(folder / "masks" / "a.png")


def test_chips_show_the_class_they_are_named_by(tmp_path: Path) -> None:
    mask = np.zeros((200, 300), np.uint8)
    mask[:, 60:180], mask[:, 180:] = 1, 2
    _scenes(tmp_path / "set", mask)
    scenes = open_segmentation("folder", tmp_path / "set", "all")
    chips, labels = mask_crops(scenes, 0, per_scene=40, side_px=16)
    assert chips.shape == (len(labels), 16, 16, 3)
    assert set(labels) == {"water", "land"}
    for chip, label in zip(chips, labels, strict=True):
        blue = chip[..., 2].mean() > chip[..., 0].mean()
        assert blue == (label == "water")
    again, _ = mask_crops(scenes, 0, per_scene=40, side_px=16)
    assert np.array_equal(chips, again)


def test_masks_without_any_square_are_an_error(tmp_path: Path) -> None:
    _scenes(tmp_path / "set", np.zeros((64, 64), np.uint8))
    with pytest.raises(SourceError, match="no square"):
        mask_crops(open_segmentation("folder", tmp_path / "set", "all"), 0)
