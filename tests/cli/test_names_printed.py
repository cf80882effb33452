"""Names and texts of strangers in a terminal and in a spreadsheet."""

from __future__ import annotations

import pytest

from geoglot.archive.answers import _cell
from geoglot.cli.screen import plain, results


@pytest.mark.parametrize("sign", ["\x1b", "\x9b", "\x07", "\r", "\x00", "\u202e", "\u2066", "\u200f", "\u2028", "\n"])
def test_a_name_is_printed_without_what_steers_a_terminal(sign: str) -> None:
    assert plain(f"a{sign}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_ordinary_names_stay_as_they_are() -> None:
    assert plain("Ürümqi 烏魯木齊 ألف.tif") == "Ürümqi 烏魯木齊 ألف.tif"


def test_nothing_that_is_printed_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    results().print("scene \x1b]0;owned\x07\x1b[2J.tif\nnext")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "next" in out


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", " =1", "\r=1", "＝1"])
def test_cells_that_begin_a_formula_are_texts(text: str) -> None:
    assert _cell(text) == "'" + text


@pytest.mark.parametrize("value", ["harbour.tif", -1.5, 0, None, "a=b", "2019-01-01"])
def test_other_cells_stay_as_they_are(value: object) -> None:
    assert _cell(value) == value
