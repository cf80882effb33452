"""`geoglot segment`: a class map of a file, its report, and what wrong use gets."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from colour_world import ColourWords, Shell
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hostile_rasters import FORMS, INERT, build, trap


class Dense(ColourWords):
    """Sees the mean colour of each 8 px patch."""

    patch_px = 8

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Words before a full stop are words, too."""
        return super().encode_texts([text.rstrip(".") for text in texts])

    def patch_features(self, images: NDArray[np.uint8], last_block: object = None) -> NDArray[np.float32]:
        """[N, H, W, 3] -> [N, H / 8, W / 8, 3]."""
        n, h, w, _ = images.shape
        patches = images.reshape(n, h // 8, 8, w // 8, 8, 3).mean(axis=(2, 4))
        return self._unit(patches.reshape(-1, 3)).reshape(n, h // 8, w // 8, 3)


@pytest.fixture
def dense_shell(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr("geoglot.models.load.load_encoder", lambda *_, **__: Dense())
    return shell


pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

CLASSES = ("--class", "water", "-c", "forest", "-c", "roof")


def test_a_class_map_of_a_file(dense_shell: Shell, world: Path, tmp_path: Path) -> None:
    done = dense_shell("segment", world / "scenes" / "coast.tif", *CLASSES, "--background", "desert", "--out", "out")
    assert done.exit_code == 0, done.stderr
    assert "128 x 128 px" in done.stdout
    assert "water" in done.stdout
    assert "Wrote" in done.stderr
    assert {"classes.tif", "classes.qml", "polygons.geojson", "picture.png"} <= {f.name for f in Path("out").iterdir()}


def test_the_report_as_json_and_the_plan(dense_shell: Shell, world: Path, tmp_path: Path) -> None:
    words = ("segment", world / "scenes" / "plain.png", *CLASSES, "--json", "--vectors", "none", "--out", "out")
    plan = json.loads(dense_shell(*words, "--dry-run").stdout)
    assert not Path("out").exists()
    report = json.loads(dense_shell(*words).stdout)
    assert (plan["windows"], plan["notes"]) == (report["windows"], report["notes"])
    assert any("no place on the earth" in note for note in report["notes"])
    assert [entry["name"] for entry in report["classes"]] == ["background", "water", "forest", "roof"]
    assert "polygons.geojson" not in report["files"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no class is given"),
        (("-c", "water,"), "empty word"),
        (("-c", "water", "-c", "Water"), "given twice"),
        (("-c", "zebra"), "zebra"),
        (("-c", "water", "--overlap", "1"), "overlap"),
        (("-c", "water", "--window-m", "10", "--window-px", "10"), "metres and in pixels"),
        (("-c", "water", "--vectors", "shp"), "vector format"),
    ],
)
def test_wrong_use_is_told(dense_shell: Shell, world: Path, words: tuple[str, ...], says: str) -> None:
    done = dense_shell("segment", world / "scenes" / "coast.tif", *words)
    assert done.exit_code == 2
    assert says in done.stderr


def test_a_model_without_places_is_told(shell: Shell, world: Path) -> None:
    done = shell("segment", world / "scenes" / "coast.tif", "-c", "water")
    assert done.exit_code == 2
    assert "none for the places in it" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="files are watched by inotify")
@pytest.mark.parametrize("verb", ["segment", "localize"])
def test_hostile_rasters_of_every_form_reach_nothing(dense_shell: Shell, tmp_path: Path, verb: str) -> None:
    words = CLASSES if verb == "segment" else ("water",)
    with trap(tmp_path / "elsewhere") as laid:
        for number, form in enumerate(FORMS):
            path = build(form, tmp_path / f"given-{number}", laid.aims)
            laid.sprung()
            done = dense_shell(verb, path, *words, "--out", f"out-{number}")
            assert laid.sprung() == [], form
            assert done.exit_code in ((0, 2) if form in INERT else (2,)), (form, done.stderr)
