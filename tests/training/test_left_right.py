from __future__ import annotations

import re
from pathlib import Path

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


WORDS = ["on the left", "Right", "a", "road", "upper", "lake,", "rightmost", "of", "counterclockwise"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=8))
def test_mirroring_twice_gives_the_caption_back_or_leaves_it_in_doubt(words: list[str]) -> None:
    caption = " ".join(words)
    once = mirrored(caption)
    if once is not None:
        assert mirrored(once) in (
            caption,
            None,
        )  # None: "on the right road" may be the correct one
        assert says_direction(once) == says_direction(caption)


CASES = [
    line
    for line in (Path(__file__).parent / "direction_cases.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
OPPOSITE = {"left": "right", "right": "left", "clockwise": "counterclockwise"}
ROTATIONS = ("counterclockwise", "counter-clockwise", "anticlockwise", "anti-clockwise")


def swapped_by_hand(word: str) -> str:
    small = word.lower()
    if small in ROTATIONS:
        return "clockwise"
    side = next(side for side in ("left", "right", "clockwise") if small.startswith(side))
    other = OPPOSITE[side] + small[len(side) :]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other


def case(line: str) -> tuple[str, str | None]:
    """(caption, what is true of the mirrored picture or None where nothing is)."""
    if line.startswith("!"):
        return line[1:], None
    caption = line.replace("[", "").replace("]", "")
    return caption, re.sub(r"\[([^\]]+)\]", lambda match: swapped_by_hand(match[1]), line)


def test_three_hundred_captions_by_hand() -> None:
    """99 % of the captions given for mirrored pictures are true of them; a picture left alone is never wrong."""
    cases = [case(line) for line in CASES]
    assert len(set(cases)) >= 300
    given = [(caption, truth, mirrored(caption)) for caption, truth in cases if mirrored(caption) is not None]
    wrong = [(caption, found) for caption, truth, found in given if found != truth]
    assert 1 - len(wrong) / len(given) >= 0.99, wrong
    possible = [truth for caption, truth in cases if truth is not None and truth != caption]
    done = [truth for caption, truth, found in given if found == truth != caption]
    assert len(done) / len(possible) >= 0.9  # and it is not enough to leave all pictures alone


@pytest.mark.parametrize("line", [line for line in CASES if line.startswith("!")])
def test_what_no_word_can_mend_keeps_its_picture(line: str) -> None:
    assert mirrored(line[1:]) is None
    assert says_direction(line[1:])


@pytest.mark.parametrize("words", ["left the harbour", "right now", "what is left", "right triangle"])
def test_other_senses_are_not_swapped(words: str) -> None:
    assert mirrored(f"a ship, {words}, by a pier") in (None, f"a ship, {words}, by a pier")
