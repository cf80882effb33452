"""Filters of maps, against loops over windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.imagery import filters
from geoglot.imagery.filters import blobs, box_blur, highest, median


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
    monkeypatch.setattr(filters, "STRIP_ROWS", 5)
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


def flooded(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Blobs by flooding from each pixel that is not wet yet."""
    left = {(int(x), int(y)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        todo, wet = [min(left, key=lambda p: (p[1], p[0]))], set()
        while todo:
            x, y = todo.pop()
            if (x, y) in left:
                left.remove((x, y))
                wet.add((x, y))
                todo += [(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
        found.append(wet)
    return found


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_blobs(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    expected = flooded(mask)
    found = blobs(mask)
    assert len(found) == len(expected)
    for blob, wet in zip(found, expected, strict=True):
        xs, ys = zip(*wet, strict=True)
        assert blob.area == len(wet)
        assert blob.box == (min(xs), min(ys), max(xs) + 1, max(ys) + 1)
        assert np.allclose(blob.centre, (np.mean(xs), np.mean(ys)))
        runs = zip(blob.rows, blob.starts, blob.stops, strict=True)
        assert {(int(x), int(y)) for y, a, b in runs for x in range(a, b)} == wet
