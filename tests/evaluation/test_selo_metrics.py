"""Metrics of semantic localization: cases worked out by hand, and a twin in plain loops after the description."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geoglot.errors import UsageError
from geoglot.evaluation.selo import (
    Circle,
    Constants,
    attention_centres,
    circle_around,
    discrete,
    filled,
    selo_scores,
    shift,
    significance,
)

SMALL = Constants(blur_px=4, neighbourhood_px=30)
"""The same formulas on maps that are quick."""


OPENCV = """
.............
.########....
.########....
.########....
.###########.
.####...####.
.####...####.
.####...####.
.###########.
....########.
....########.
....########.
.............
"""
"""What OpenCV 5.0.0 draws of two squares that overlap: cv2.fillPoly(mask, [first, second], 1)."""


def square(x: int, y: int, half: int) -> list[tuple[float, float]]:
    return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]


def bump(shape: tuple[int, int], *spots: tuple[int, int], width: float = 6.0) -> np.ndarray:
    """Peaks of height 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.max([np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * width**2)) for a, b in spots], axis=0)


def test_constants_are_the_published_ones() -> None:
    c = Constants()
    assert (c.beta, c.epsilon, c.expand, c.passes, c.blur_px) == (0.707, 1e-7, 1.5, 5, 50)
    assert (c.neighbourhood_px, c.steepness, c.split, c.least, c.weights) == (1000, 3.0, 0.5, 0.5, (0.4, 0.35, 0.25))


def test_rsu_by_hand() -> None:
    """Flat maps give 1 - exp(-beta): inside over outside is area over the rest."""
    mask = np.zeros((10, 10), bool)
    mask[:2] = True
    assert significance(np.full((10, 10), 0.3), mask) == pytest.approx(1 - math.exp(-0.707), abs=1e-6)
    assert significance(mask.astype(float), mask) == 1.0  # all inside
    assert significance(1.0 - mask, mask) == 0.0  # all outside
    twice = np.where(mask, 2 / 3, 1 / 3)
    assert significance(twice, mask) == pytest.approx(1 - math.exp(-2 * 0.707), abs=1e-6)


def test_circle_by_hand() -> None:
    """Vertices 5 from their mean: radius int(7.5)."""
    assert circle_around([(3, 4), (-3, 4), (-3, -4), (3, -4)]) == Circle(0, 0, 7)
    assert circle_around([(0.0, 0.0), (1.0, 0.0), (0.0, 2.0)]).x == 0  # int(1 / 3)
    assert circle_around([(5, 5), (5, 5), (5, 5)]).radius == 1


def test_ras_by_hand() -> None:
    circles = [Circle(0, 0, 10), Circle(100, 0, 10)]
    none = np.empty((0, 2))
    assert shift(circles, none) == 1.0
    assert shift(circles, np.array([[0.0, 0.0], [100.0, 0.0]])) == 0.0
    half = (math.exp(1.5) - 1) / (math.exp(3) - 1)
    assert shift(circles, np.array([[0.0, 0.0]])) == pytest.approx(half)  # one is met, one has no centre
    assert shift(circles[:1], np.array([[6.0, 8.0], [0.0, 0.0]])) == pytest.approx(half)  # distances 10 and 0


def test_rda_by_hand() -> None:
    circle = [Circle(0, 0, 10)]
    assert discrete(circle, np.array([[11.0, 0.0]])) == 0.0
    assert discrete(circle, np.array([[3.0, 0.0]])) == 1.0
    assert discrete(circle, np.array([[5.0, 0.0], [-5.0, 0.0]])) == pytest.approx(0.5 * 0.5 + math.exp(-2))
    both = [*circle, Circle(50, 50, 10)]
    assert discrete(both, np.array([[3.0, 0.0]])) == 0.5


def test_rmi_gives_the_published_rows() -> None:
    """Their tables satisfy the weights."""
    a, b, c = Constants().weights
    for rsu, rda, ras, rmi in ((0.6920, 0.6667, 0.3323, 0.6772), (0.7556, 0.7309, 0.2580, 0.7447)):
        assert a * rsu + b * (1 - ras) + c * rda == pytest.approx(rmi, abs=1e-4)


def test_polygons_hold_their_edges() -> None:
    assert filled([[(2, 1), (5, 1), (5, 3), (2, 3)]], (6, 8)).nonzero()[0].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert filled([[(2.9, 1.9), (5, 1), (5, 3), (2, 3)]], (6, 8))[1, 2]  # vertices are cut, not rounded
    assert filled([square(1, 1, 1), square(5, 4, 1)], (6, 8)).sum() == 18


def test_overlapping_regions_are_even_odd_as_released() -> None:
    """cv2.fillPoly of all polygons at once, which SLM.py calls: what two share is left out, but for the edges."""
    pair = [[(1, 1), (8, 1), (8, 8), (1, 8)], [(4, 4), (11, 4), (11, 11), (4, 11)]]
    drawn = np.array([list(row) for row in OPENCV.split()]) == "#"
    assert np.array_equal(filled(pair, (13, 13), even_odd=True), drawn)
    assert filled(pair, (13, 13)).sum() == 2 * 64 - 25
    apart = [square(1, 1, 1), square(5, 4, 1)]
    assert np.array_equal(filled(apart, (6, 8), even_odd=True), filled(apart, (6, 8)))
    p = np.full((13, 13), 0.1)
    p[5:8, 5:8] = 0.9
    odd, union = (selo_scores(p, pair, even_odd=rule).rsu for rule in (True, False))
    assert odd < union


def slow_centres(p: np.ndarray, c: Constants) -> list[tuple[int, int]]:
    """After the description, pixel by pixel."""
    grey = np.floor(p * 255).astype(int)
    height, width = grey.shape
    for _ in range(c.passes):
        wide = np.pad(grey, c.blur_px, mode="reflect")
        low = c.blur_px - c.blur_px // 2
        grey = np.array(
            [
                [round(wide[y + low : y + low + c.blur_px, x + low : x + low + c.blur_px].mean()) for x in range(width)]
                for y in range(height)
            ]
        )
    half = c.neighbourhood_px // 2
    tops = set()
    for y in range(height):
        for x in range(width):
            near = grey[max(0, y - half) : y + half, max(0, x - half) : x + half]
            if grey[y, x] == near.max() > 0:
                tops.add((x, y))
    found = []
    while tops:
        todo, wet = [tops.pop()], []
        while todo:
            x, y = todo.pop()
            wet.append((x, y))
            for near in [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if near in tops:
                    tops.remove(near)
                    todo.append(near)
        found.append((int(sum(x for x, _ in wet) / len(wet)), int(sum(y for _, y in wet) / len(wet))))
    return sorted((x, y) for x, y in found if p[y, x] >= c.least)


@pytest.mark.parametrize("seed", range(4))
def test_centres_are_those_of_a_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    spots = [tuple(spot) for spot in random.integers(5, 45, (3, 2)).tolist()]
    p = bump((50, 56), *spots) * random.uniform(0.4, 1, (50, 56))
    found = sorted((int(x), int(y)) for x, y in attention_centres(p, SMALL))
    assert found == slow_centres(p, SMALL)


def test_perfect_shifted_and_split_maps() -> None:
    """Each metric punishes its own fault."""
    region = [square(40, 40, 12)]
    perfect = selo_scores(bump((120, 120), (40, 40)), region, SMALL)
    shifted = selo_scores(bump((120, 120), (50, 48)), region, SMALL)
    two = bump((120, 120), (32, 32), (49, 49), width=2.5)
    split = selo_scores(two, region, Constants(blur_px=2, neighbourhood_px=12))
    gone = selo_scores(bump((120, 120), (100, 100)), region, SMALL)
    assert perfect.rsu > 0.95
    assert perfect.ras < 0.03  # the even blur moves the peak by 2 px
    assert perfect.rda == 1
    assert shifted.ras > 5 * perfect.ras
    assert shifted.rda == 1
    assert split.rda < 0.6
    assert (gone.ras, gone.rda) == (1, 0)
    assert perfect.rmi > shifted.rmi > gone.rmi
    assert perfect.rmi == pytest.approx(0.4 * perfect.rsu + 0.35 * (1 - perfect.ras) + 0.25 * perfect.rda)


@pytest.mark.parametrize("regions", [[], [[(0, 0), (5, 5)]], [square(-50, -50, 3)], [square(5, 5, 50)]])
def test_regions_that_cannot_be_scored(regions: list[list[tuple[float, float]]]) -> None:
    with pytest.raises(UsageError):
        selo_scores(np.ones((20, 20)), regions, SMALL)
