"""What GAIA's preparation does to a pair: prefix, direction words, long captions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from measures.words import WordTokenizer

from geoglot.data.decode import Prepare
from geoglot.data.pairs import Pair
from geoglot.training.recipes.gaia.recipe import PREFIX, CaptionAware, Mirror

SIDE = 8


def pair(*captions: str) -> Pair:
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:, : SIDE // 2] = 255  # white on the left
    raw = io.BytesIO()
    Image.fromarray(pixels).save(raw, "png")
    return Pair("picture", raw.getvalue(), captions)


def prepared(mirror: Mirror, *captions: str, seeds: int = 40) -> set[tuple[bool, str]]:
    """(mirrored?, caption) over many draws."""
    prepare = CaptionAware(Prepare(SIDE), None, strip_prefix=True, mirror=mirror)
    seen = set()
    for seed in range(seeds):
        ready = prepare(pair(*captions), np.random.default_rng(seed))
        assert len(ready.texts) == 1
        seen.add((bool(ready.image[0, -1, 0] > 128), ready.texts[0]))
    return seen


@pytest.mark.parametrize(
    ("mirror", "caption", "expected"),
    [
        ("off", "a lake", {(False, "a lake")}),
        ("skip", "a lake", {(False, "a lake"), (True, "a lake")}),
        ("skip", "a lake on the left", {(False, "a lake on the left")}),
        ("swap", "a lake on the left", {(False, "a lake on the left"), (True, "a lake on the right")}),
        ("swap", "a lake in the east", {(False, "a lake in the east")}),
        ("swap", "The image showcases: Snow.", {(False, "Snow."), (True, "Snow.")}),
    ],
)
def test_pictures_are_mirrored_only_where_the_caption_stays_true(
    mirror: Mirror, caption: str, expected: set[tuple[bool, str]]
) -> None:
    assert prepared(mirror, caption) == expected


def test_one_of_the_captions_at_a_time() -> None:
    five = [f"The image showcases: Lake number {n}" for n in range(5)]
    assert {text for _, text in prepared("off", *five, seeds=80)} == {f"Lake number {n}" for n in range(5)}


@pytest.mark.parametrize(
    ("caption", "left"),
    [
        ("The image showcases: Volcanic ash", "Volcanic ash"),
        ("  the image showcases Volcanic ash", "Volcanic ash"),
        ("Ash. The image showcases: more", "Ash. The image showcases: more"),
    ],
)
def test_prefix(caption: str, left: str) -> None:
    assert PREFIX.sub("", caption) == left


def test_long_captions_lose_whole_sentences_not_their_end() -> None:
    text = "One two three. Four five six. Seven eight nine."
    words = WordTokenizer.of([text], context=8)  # two sentences fit: 6 words, start and end
    prepare = CaptionAware(Prepare(SIDE), words, strip_prefix=True, mirror="off")
    seen = {prepare(pair(text), np.random.default_rng(seed)).texts[0] for seed in range(40)}
    parts = ("One two three.", "Four five six.", "Seven eight nine.")
    assert seen == {f"{a} {b}" for a, b in ((parts[0], parts[1]), (parts[0], parts[2]), (parts[1], parts[2]))}
