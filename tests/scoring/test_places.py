"""Places inside an image: their scores on a grid of cells, and the peak."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.scoring.places import CELL_PX, cell_scores, peak_of


def test_cells_lie_between_the_centres_of_places() -> None:
    """Each cell by hand: the two nearest places on each axis, the nearer the more."""
    scores = np.random.default_rng(0).standard_normal((2, 3, 4, 2)).astype(np.float32)
    place_px, grid = (20.0, 13.0), (7, 6)
    cells = cell_scores(scores, place_px, grid)
    assert cells.shape == (2, 7, 6, 2)
    for row in range(7):
        for column in range(6):
            y = np.clip((row + 0.5) * CELL_PX / place_px[0] - 0.5, 0, 2)
            x = np.clip((column + 0.5) * CELL_PX / place_px[1] - 0.5, 0, 3)
            (top, left), (dy, dx) = (int(y), int(x)), (y % 1, x % 1)
            down, right = min(top + 1, 2), min(left + 1, 3)
            upper = scores[:, top, left] * (1 - dx) + scores[:, top, right] * dx
            lower = scores[:, down, left] * (1 - dx) + scores[:, down, right] * dx
            np.testing.assert_allclose(cells[:, row, column], upper * (1 - dy) + lower * dy, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_peaks_lie_in_their_boxes(height: int, width: int, seed: int) -> None:
    heat = np.random.default_rng(seed).random((height, width))
    peak = peak_of(heat)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert peak.at == pytest.approx(((column + 0.5) / width, (row + 0.5) / height))
    assert peak.box[0] <= peak.at[0] <= peak.box[2]
    assert peak.box[1] <= peak.at[1] <= peak.box[3]
    assert peak.score == heat.max()
