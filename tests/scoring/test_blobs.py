"""Touching pixels of a mask, against flooding."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.scoring.blobs import blobs


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
