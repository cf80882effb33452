"""`geoglot demo`, with the colour model on the small country, and with the bundled one on the whole."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from colour_world import ColourWords, Shell
from PIL import Image

from geoglot.cli.demo import QUESTIONS
from geoglot.data import drawn
from geoglot.models.load import load_encoder
from geoglot.models.zoo.registry import DEFAULT_MODEL, bundled_models


class AnyWords(ColourWords):
    """Takes every word for some colour."""

    def encode_texts(self, texts: list[str]) -> np.ndarray:  # type: ignore[override, type-arg]
        """A colour by the length of the text."""
        return self._unit(np.array([(len(text) * 37 % 255, 80, 40) for text in texts], float))


@pytest.fixture
def small_country(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "draw_country", partial(drawn.draw_country, scenes="small"))


def test_it_leaves_what_it_promises(
    shell: Shell, small_country: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("geoglot.models.load.load_encoder", lambda *_, **__: AnyWords())
    done = shell("demo", "--folder", "my demo")
    assert done.exit_code == 0, done.stderr
    assert "synthetic" in done.stdout
    assert all(question in done.stdout for _, question in QUESTIONS)
    folder = tmp_path / "my demo"
    found = json.loads((folder / "results.geojson").read_text("utf-8"))
    assert {f["properties"]["language"] for f in found["features"]} <= {language for language, _ in QUESTIONS}
    assert Image.open(folder / "preview.png").width > 300
    page = (folder / "map.html").read_text("utf-8")
    assert "synthetic imagery" in page
    assert all(question in page for _, question in QUESTIONS)


def test_it_writes_into_no_folder_of_others(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    done = shell("demo", "--folder", "mine")
    assert done.exit_code == 2
    assert "holds other things" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(DEFAULT_MODEL not in bundled_models(), reason="no model is bundled in this checkout")
def test_the_bundled_model_answers(shell: Shell, monkeypatch: pytest.MonkeyPatch, small_country: None) -> None:
    monkeypatch.setattr("geoglot.models.load.load_encoder", load_encoder)
    done = shell("demo")
    assert done.exit_code == 0, done.stderr
