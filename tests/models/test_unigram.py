"""Unigram vocabularies against `tokenizers`, which splits the same way and opens slowly."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.errors import ModelFileError, UnknownNameError, UsageError
from geoglot.models.parts.sentencepiece import SPACE, PieceModel, unigram
from geoglot.models.tokenizers.load import read_tokenizer
from geoglot.models.tokenizers.subword import Specials
from geoglot.models.tokenizers.truncation import TruncationCount
from geoglot.models.tokenizers.unigram import UnigramTokenizer, read_unigram, write_unigram

NO_REPLACEMENTS = (1024).to_bytes(4, "little") + bytes(1024)  # a trie of 256 empty units
PIECES = [
    "",
    "",
    "",
    "",
    SPACE,
    "a",
    "b",
    "c",
    "é",
    "ab",
    "abc",
    "bc",
    SPACE + "a",
    SPACE + "ab",
    "cab",
    "aa",
    "农",
    "田农",
]
SCORES = [0, 0, 0, 0, -2, -3, -3.5, -4, -5, -4.5, -6.25, -5, -3, -4, -7, -6, -3, -5]
FRAME = Specials((1,), 2, 3)


def write(path: Path, context: int = 16) -> Path:
    write_unigram(path, PIECES, SCORES, NO_REPLACEMENTS, FRAME, unknown=0, context=context)
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> UnigramTokenizer:
    return read_unigram(write(tmp_path / "tokenizer.json"))


@pytest.fixture(scope="module")
def twin() -> object:
    return unigram(PieceModel(tuple(PIECES), tuple(map(float, SCORES)), 0, NO_REPLACEMENTS))


@settings(max_examples=300, deadline=None)
@given(text=st.text("abcé 农田x?", max_size=12))
def test_same_ids_as_tokenizers(tmp_path_factory: pytest.TempPathFactory, twin: object, text: str) -> None:
    mine = _shared(tmp_path_factory).rows([text])
    expected = twin.encode(text, add_special_tokens=False).ids or [0]  # type: ignore[attr-defined]
    assert mine.ids[0].tolist() == [1, *expected, 2][:15] + [2] * (len(expected) > 14)
    assert mine.lengths[0] == len(expected) + 2


_opened: list[UnigramTokenizer] = []


def _shared(factory: pytest.TempPathFactory) -> UnigramTokenizer:
    if not _opened:
        _opened.append(read_unigram(write(factory.mktemp("unigram") / "tokenizer.json")))
    return _opened[0]


def test_the_most_probable_split(tokenizer: UnigramTokenizer) -> None:
    """▁ab + c = -8; ▁ + abc = -8.25; ▁a + bc = -8: the first of two alike ends with the piece that starts first."""
    assert tokenizer.ids(["abc"])[0].tolist() == [1, 12, 11, 2]


def test_rows_are_padded_to_the_longest_text(tokenizer: UnigramTokenizer) -> None:
    rows = tokenizer.rows(["a", "ab a b"])
    assert rows.ids.shape == (2, rows.lengths.max())
    assert rows.ids[0].tolist()[3:] == [3] * (rows.ids.shape[1] - 3)


def test_long_texts_are_cut_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = read_unigram(write(tmp_path / "tokenizer.json", context=5))
    rows, count = tokenizer.rows(["a b a b a b", "a"]), TruncationCount()
    with caplog.at_level(logging.WARNING):
        count.add(rows)
    assert rows.ids.shape[1] == 5
    assert rows.ids[0, -1] == FRAME.end
    assert rows.truncated.tolist() == [True, False] == tokenizer.truncated(["a b a b a b", "a"]).tolist()
    assert (count.texts, count.cut) == (2, 1)
    assert "were cut" in caplog.text


def test_unknown_characters_side_by_side_are_one_piece(tokenizer: UnigramTokenizer) -> None:
    assert tokenizer.ids(["xyz a"])[0].tolist() == [1, 4, 0, 12, 2]


def test_a_text_of_spaces_is_one_unknown_piece(tokenizer: UnigramTokenizer) -> None:
    assert tokenizer.ids(["  "])[0].tolist() == [1, 0, 2]
    assert tokenizer.ids([]).shape == (0, 2)


def test_a_text_must_be_a_string(tokenizer: UnigramTokenizer) -> None:
    with pytest.raises(UsageError):
        tokenizer.ids([b"a"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "change",
    [
        {"pieces": ["a"]},
        {"pieces": 3},
        {"pieces": [1] * len(PIECES)},
        {"pieces": [""] * len(PIECES)},
        {"scores": "AAAA"},
        {"scores": "?"},
        {"unknown": -1},
        {"unknown": 99},
        {"start": [99]},
        {"end": 1.5},
        {"context": 2},
        {"context": "9"},
        {"replacements": "AAAA"},
        {"kind": "concepts"},
    ],
    ids=str,
)
def test_damaged_files_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = write(tmp_path / "tokenizer.json")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(ModelFileError):
        read_unigram(path)


@pytest.mark.parametrize("body", ["", "[]", "{}", "null", "[" * 100_000])
def test_other_files_are_refused(tmp_path: Path, body: str) -> None:
    (tmp_path / "tokenizer.json").write_text(body)
    with pytest.raises(ModelFileError):
        read_unigram(tmp_path / "tokenizer.json")


def test_a_card_with_another_tower_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "tokenizer.json")
    assert read_tokenizer(path, "unigram", context=16, vocabulary=len(PIECES)).context == 16
    with pytest.raises(ModelFileError, match="18 tokens in rows of 16"):
        read_tokenizer(path, "unigram", context=16, vocabulary=17)
    with pytest.raises(UnknownNameError):
        read_tokenizer(path, "unigrams", context=16, vocabulary=18)


def test_scores_survive_the_file(tokenizer: UnigramTokenizer) -> None:
    np.testing.assert_array_equal(np.array(tokenizer.scores)[1:], np.array(SCORES, np.float32)[1:])
