from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from geoglot.data.sources import DataSource, open_source
from geoglot.data.subset import ChosenPairs


@pytest.fixture
def whole(tmp_path: Path):
    lines = []
    for at in range(6):
        (tmp_path / f"{at}.png").write_bytes(bytes([at]))
        lines.append(json.dumps({"image": f"{at}.png", "captions": [f"picture {at}"]}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    return open_source(DataSource("pairs.jsonl"), tmp_path)


def test_it_holds_the_chosen_records_with_new_captions(whole) -> None:
    chosen = ChosenPairs(whole, np.array([1, 4, 5]), {4: ("a lake", "water")})
    assert len(chosen) == 3
    assert [chosen.read(at).captions for at in range(3)] == [("picture 1",), ("a lake", "water"), ("picture 5",)]
    assert [chosen.read(at).image for at in range(3)] == [b"\x01", b"\x04", b"\x05"]
    assert list(chosen.image_ids) == [whole.image_ids[at] for at in (1, 4, 5)]
    assert list(chosen.blocks) == [0, 3]


def test_blocks_follow_those_of_the_whole_set(whole) -> None:
    whole.blocks = np.array([0, 2, 4, 6])
    assert list(ChosenPairs(whole, np.array([0, 1, 5])).blocks) == [0, 2, 3]  # the middle block is empty


def test_the_fingerprint_tells_choices_apart(whole) -> None:
    sets = [
        ChosenPairs(whole, np.array([1, 4])),
        ChosenPairs(whole, np.array([1, 5])),
        ChosenPairs(whole, np.array([1, 4]), {4: ("a lake",)}),
        ChosenPairs(whole, np.array([1, 4]), {4: ("a pond",)}),
    ]
    assert len({one.fingerprint() for one in sets}) == 4
    assert sets[0].fingerprint() == ChosenPairs(whole, np.array([1, 4])).fingerprint()
