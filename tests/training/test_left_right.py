from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.training.recipes.gaia.left_right import mirrored, says_direction


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A lake on the left of the road.", "A lake on the right of the road."),
        ("Left: a pier. RIGHT: a ship.", "Right: a pier. LEFT: a ship."),
        ("the upper-left corner", "the upper-right corner"),
        ("the left-hand field and the leftmost house", "the right-hand field and the rightmost house"),
        ("two roads meet at a right angle", "two roads meet at a right angle"),
        ("a school right next to a park on the right", "a school right next to a park on the left"),
        ("rightful leftovers in bright light", "rightful leftovers in bright light"),
        ("many boats in a harbor", "many boats in a harbor"),
        ("a river in the north", None),
        ("fires in southern Spain, smoke on the left", None),
        ("the north-eastern coast", None),
        ("a storm that turns clockwise", "a storm that turns counterclockwise"),
        ("a storm that turns anticlockwise", "a storm that turns clockwise"),
    ],
)
def test_mirrored(caption: str, expected: str | None) -> None:
    assert mirrored(caption) == expected


@pytest.mark.parametrize(
    ("caption", "says"),
    [
        ("a house in the upper part", True),
        ("clouds above the sea", True),
        ("a house on top of a hill", False),
        ("on the left", True),
        ("in western France", True),
        ("a right of way between fields", False),
        ("boats in a harbor", False),
    ],
)
def test_says_direction(caption: str, says: bool) -> None:
    assert says_direction(caption) is says


@settings(deadline=None)
@given(st.lists(st.sampled_from(["left", "Right", "a", "road", "upper", "lake,", "rightmost", "of"]), max_size=8))
def test_mirroring_twice_gives_the_caption_back(words: list[str]) -> None:
    caption = " ".join(words)
    once = mirrored(caption)
    assert once is not None
    assert mirrored(once) == caption
    assert says_direction(once) == says_direction(caption)
