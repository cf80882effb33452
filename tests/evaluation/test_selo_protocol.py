"""AIR-SLT in its own layout, with its traps, and the protocol on drawn scenes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_encoder import ColourEncoder
from PIL import Image

from geoglot.data.benchmarks.catalogue import limited, read_benchmark
from geoglot.errors import SourceError, UsageError
from geoglot.evaluation import selo_protocol
from geoglot.evaluation.published import published
from geoglot.evaluation.selo import Constants
from geoglot.evaluation.selo_protocol import localization
from geoglot.evaluation.suites import Options, evaluate, find_suites
from geoglot.imagery.multiscale import Cover

QUICK = Constants(blur_px=4, neighbourhood_px=60)
RED, BLUE = [[20, 20], [70, 20], [70, 80], [20, 80]], [[150, 60], [190, 60], [190, 110], [150, 110]]


def row(caption: str, name: str, *points: Any) -> dict[str, Any]:
    return {"caption": caption, "jpg_name": name, "points": list(points)}


ROWS = [row("red field\n", "1.jpg", RED), row("a blue one", "1.jpg", BLUE), row("red and red", "2.jpg", RED, BLUE)]


def drawn(root: Path, rows: list[dict[str, Any]]) -> None:
    """The released layout: two scenes of 220 x 140 px."""
    images = root / "AIR-SLT" / "imgs"
    images.mkdir(parents=True)
    (root / "AIR-SLT" / "annotations").mkdir()
    (root / "AIR-SLT" / "annotations" / "anno.json").write_text(json.dumps(rows), "utf-8")
    for name, colours in (("1.jpg", ((255, 0, 0), (0, 0, 255))), ("2.jpg", ((255, 0, 0), (255, 0, 0)))):
        pixels = np.full((140, 220, 3), 130, np.uint8)
        for polygon, colour in zip((RED, BLUE), colours, strict=True):
            (x0, y0), (x1, y1) = polygon[0], polygon[2]
            pixels[y0:y1, x0:x1] = colour
        Image.fromarray(pixels).save(images / name, quality=95)


def test_the_released_layout(tmp_path: Path) -> None:
    drawn(tmp_path, ROWS)
    with pytest.raises(SourceError, match="59 expected"):
        read_benchmark("air-slt", tmp_path)
    found = read_benchmark("air-slt", tmp_path, partial=True)
    assert [sample.captions for sample in found.samples] == [("red field",), ("a blue one",), ("red and red",)]
    assert [sample.image.name for sample in found.samples] == ["1.jpg", "1.jpg", "2.jpg"]
    assert found.polygons is not None
    assert [len(regions) for regions in found.polygons] == [1, 1, 2]
    assert found.polygons[1][0][2] == (190.0, 110.0)
    assert limited(found, 2).polygons == (found.polygons[0], found.polygons[1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(" ", "1.jpg", RED)], "blank caption"),
        ([row("red", "1.jpg")], "no region"),
        ([row("red", "1.jpg", RED[:2])], "fewer than three"),
        ([row("red", "1.jpg", [[1, 2], [3, "x"], [4, 5]])], "not a sentence with regions"),
        ([row("red", "9.jpg", RED)], "not there"),
        ([row("red", "../1.jpg", RED)], "outside its folder"),
        ([{"caption": "red"}], "not a sentence with regions"),
        ({}, "not a list"),
    ],
)
def test_damage_is_told(tmp_path: Path, rows: Any, message: str) -> None:
    drawn(tmp_path, rows)
    with pytest.raises(SourceError, match=message):
        read_benchmark("air-slt", tmp_path, partial=True)


@pytest.mark.parametrize("mode", ["fast", "strict"])
def test_a_model_that_sees_colours_localizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any) -> None:
    """It scores far better than one that is asked for the wrong places; scenes are encoded once."""
    monkeypatch.setattr(selo_protocol, "SIDES_PX", (40, 80))
    monkeypatch.setattr("geoglot.tasks.localize.maps.MEDIAN_PX", 9)
    drawn(tmp_path, ROWS)
    data = read_benchmark("air-slt", tmp_path, partial=True)
    encoder = ColourEncoder()
    numbers = {n.metric: n for n in localization(encoder, data, mode, constants=QUICK)}
    windows = len(selo_protocol.ScaleGrid((40, 80)).windows(_info()))
    assert encoder.images == 2 * windows
    assert numbers["Rmi"].protocol == ("selo/air-slt" if mode == "strict" else "selo/air-slt-fast")
    assert any(f"mode {mode}" in note for note in numbers["Rmi"].notes)
    assert data.polygons is not None
    wrong = replace(data, polygons=(data.polygons[1], data.polygons[0], ((((0, 120), (30, 120), (30, 138))),)))
    worse = {n.metric: n for n in localization(ColourEncoder(), wrong, mode, constants=QUICK)}
    assert numbers["Rmi"].value > worse["Rmi"].value + 20
    assert numbers["Ras"].value < worse["Ras"].value
    low, high = numbers["Rmi"].interval or (0, 0)
    assert low <= numbers["Rmi"].value <= high


def _info() -> Any:
    from geoglot.types import SceneInfo

    return SceneInfo("", "", "", "", 220, 140, 3, "uint8")


def test_strict_and_fast_agree_on_the_mean(tmp_path: Path) -> None:
    """The same windows' values give the same mean, summed one by one."""
    random = np.random.default_rng(0)
    windows = [w.box_px for w in selo_protocol.ScaleGrid((24, 48)).windows(_info())]
    values = random.normal(size=len(windows)).astype(np.float32)
    total, count = np.zeros((140, 220)), np.zeros((140, 220))
    for (x0, y0, x1, y1), value in zip(windows, values, strict=True):
        total[y0:y1, x0:x1] += value
        count[y0:y1, x0:x1] += 1
    assert np.allclose(Cover(np.array(windows), 140, 220).mean(values), total / count, atol=1e-5)


def test_the_suites_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoglot.tasks.localize.maps.MEDIAN_PX", 9)
    drawn(tmp_path, ROWS)
    for name in ("selo/air-slt", "selo/air-slt-fast"):
        numbers = evaluate(find_suites(name), [ColourEncoder()], Options(tmp_path, partial=True))
        assert [n.metric for n in numbers] == ["Rsu", "Ras", "Rda", "Rmi"]
        assert {n.protocol for n in numbers} == {name}
        assert any("clamped" in note for note in numbers[0].notes)
    with pytest.raises((SourceError, UsageError)):
        evaluate(find_suites("selo/air-slt", ["rsicd"]), [ColourEncoder()], Options(tmp_path, partial=True))


def test_published_rows_satisfy_the_formula() -> None:
    rows: dict[str, dict[str, float]] = {}
    for one in published():
        if one.protocol == "selo/air-slt":
            rows.setdefault(one.model, {})[one.metric] = one.value
    assert len(rows) >= 10
    for values in rows.values():
        rmi = 0.4 * values["Rsu"] + 0.35 * (100 - values["Ras"]) + 0.25 * values["Rda"]
        assert rmi == pytest.approx(values["Rmi"], abs=0.02)
