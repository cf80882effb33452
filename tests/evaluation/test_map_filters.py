"""Filters of maps, against loops over windows."""

from __future__ import annotations

import numpy as np
import pytest

from geoglot.evaluation import map_filters
from geoglot.evaluation.map_filters import box_blur, highest, median


def grey(seed: int, height: int = 13, width: int = 17, levels: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, levels, (height, width)).astype(np.uint8)


def mirrored(at: int, length: int) -> int:
    """Index without repeating the edge."""
    period = max(1, 2 * (length - 1))
    at %= period
    return at if at < length else period - at


@pytest.mark.parametrize("side", [2, 3, 6, 7])
def test_box_blur(side: int) -> None:
    picture = grey(side)
    found = box_blur(picture, side)
    height, width = picture.shape
    for y in range(height):
        for x in range(width):
            rows = [mirrored(i, height) for i in range(y - side // 2, y - side // 2 + side)]
            columns = [mirrored(i, width) for i in range(x - side // 2, x - side // 2 + side)]
            assert found[y, x] == np.rint(picture[np.ix_(rows, columns)].mean())


@pytest.mark.parametrize("side", [1, 3, 9])
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_median(side: int, levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_filters, "STRIP_ROWS", 5)
    picture = grey(side + levels, levels=levels)
    found = median(picture, side)
    wide = np.pad(picture, side // 2, mode="edge")
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            assert found[y, x] == np.median(wide[y : y + side, x : x + side])


@pytest.mark.parametrize("side", [1, 2, 5, 8, 40])
def test_highest(side: int) -> None:
    picture = grey(side)
    found = highest(picture, side)
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            top, left = max(0, y - side // 2), max(0, x - side // 2)
            part = picture[top : y + (side - 1) // 2 + 1, left : x + (side - 1) // 2 + 1]
            assert found[y, x] == part.max()
