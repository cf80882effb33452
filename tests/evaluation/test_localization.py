"""AIR-SLT in its own layout, with its traps, and the protocol on drawn scenes."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_encoder import ColourEncoder
from PIL import Image

from geoglot.data.benchmarks.catalogue import limited, read_benchmark
from geoglot.errors import SourceError, TooLargeError, UsageError
from geoglot.evaluation import localization as protocol
from geoglot.evaluation.localization import (
    cubic,
    encode_strictly,
    localization,
    strict_maps,
    strict_probability,
    windows_of,
)
from geoglot.evaluation.report import published
from geoglot.evaluation.selo import Constants
from geoglot.evaluation.suites import Options, evaluate, find_suites
from geoglot.models.card import Card
from geoglot.models.zoo.origin import Preprocess
from geoglot.scoring.sums import Cover

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
    monkeypatch.setattr(protocol, "SIDES_PX", (40, 80))
    monkeypatch.setattr("geoglot.evaluation.localization.MEDIAN_PX", 9)
    drawn(tmp_path, ROWS)
    data = read_benchmark("air-slt", tmp_path, partial=True)
    encoder = ColourEncoder()
    numbers = {n.metric: n for n in localization(encoder, data, mode, constants=QUICK)}
    windows = len(protocol.ScaleGrid((40, 80)).windows(_info()))
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
    windows = [w.box_px for w in protocol.ScaleGrid((24, 48)).windows(_info())]
    values = random.normal(size=len(windows)).astype(np.float32)
    total, count = np.zeros((140, 220)), np.zeros((140, 220))
    for (x0, y0, x1, y1), value in zip(windows, values, strict=True):
        total[y0:y1, x0:x1] += value
        count[y0:y1, x0:x1] += 1
    assert np.allclose(Cover(np.array(windows), 140, 220).mean(values), total / count, atol=1e-5)


def test_the_suites_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoglot.evaluation.localization.MEDIAN_PX", 9)
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


# --- the strict twin of the released code ----------------------------------------------------------


TINTS = {"red": (230, 20, 20), "blue": (20, 20, 230), "grey": (120, 120, 120)}


class MeanColours:
    """Sees mean colours, of images of any size, as a model does that prepares pixels by itself."""

    def __init__(self) -> None:
        self.card = Card("colours", "1", 3, 16, ("en",), None, (), preprocess=Preprocess((0, 0, 0), (1, 1, 1)))
        self.images = 0

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        self.images += len(images)
        return _unit(images.reshape(len(images), -1, 3).mean(1))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return _unit(np.array([TINTS[text] for text in texts]))


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64) + 1e-3
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def pixels() -> np.ndarray:
    """Grey, with a red field on the left and a blue one on the right."""
    picture = np.full((200, 260, 3), TINTS["grey"], np.uint8)
    picture[60:120, 20:90] = TINTS["red"]
    picture[100:180, 190:250] = TINTS["blue"]
    return picture


def slow_strict(picture: np.ndarray, sides: tuple[int, ...], text: str) -> np.ndarray:
    """The description, step by step, with every pixel's median taken by sorting."""
    encoder = MeanColours()
    height, width = picture.shape[:2]
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for window in windows_of(width, height, sides):
        stream = io.BytesIO()
        part = cubic(picture[window.y0 : window.y1, window.x0 : window.x1], 256)
        Image.fromarray(part).save(stream, "JPEG", quality=95, subsampling=2)
        vector = encoder.encode_images(np.asarray(Image.open(stream))[None])[0]
        score = float(vector @ encoder.encode_texts([text])[0])
        total[window.y0 : window.y1, window.x0 : window.x1] += score
        count[window.y0 : window.y1, window.x0 : window.x1] += 1
    mean = (total / count).astype(np.float32)
    grey = (255 * ((mean - mean.min()) / (mean - mean.min()).max())).astype(np.uint8)
    reach = protocol.MEDIAN_PX // 2
    wide = np.pad(grey, reach, mode="edge")
    size = 2 * reach + 1
    smooth = np.array(
        [[np.median(wide[y : y + size, x : x + size]) for x in range(width)] for y in range(height)], np.uint8
    )
    stream = io.BytesIO()
    Image.fromarray(smooth).save(stream, "JPEG", quality=95)
    return np.asarray(Image.open(stream)) / 255


def test_strict_maps_are_those_of_a_slow_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoglot.evaluation.localization.MEDIAN_PX", 11)
    picture = pixels()[40:100, 10:80]
    Image.fromarray(picture).save(tmp_path / "a.png")
    probability = strict_maps(tmp_path / "a.png", MeanColours(), ["red"], (24, 48))[0]
    assert np.abs(probability - slow_strict(picture, (24, 48), "red")).max() <= 1.01 / 255


def test_the_median_is_the_published_one() -> None:
    assert (protocol.CHIP_PX, protocol.QUALITY, protocol.MEDIAN_PX) == (256, 95, 251)


def test_cubic_is_not_smoothed_and_keeps_what_fits() -> None:
    """Four taps with a = -0.75 by hand, at one place; a picture of the same size stays as it is."""
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert np.array_equal(cubic(picture, 20), picture)
    line = np.repeat(picture[:1], 20, axis=0)
    found = cubic(line, 10)[0, 3]  # at 2 * 3 + 1 - 0.5 = 6.5: taps 5 to 8, weights -3/32, 19/32, 19/32, -3/32
    wide = line[0].astype(float)
    expected = (-3 * wide[5] + 19 * wide[6] + 19 * wide[7] - 3 * wide[8]) / 32
    assert np.abs(found - np.clip(np.rint(expected), 0, 255)).max() <= 1


def test_strict_maps_of_flat_and_of_huge_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not strict_probability(np.full((20, 20), 0.3, np.float32)).any()
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    monkeypatch.setattr(protocol, "MAX_STRICT", 100)
    with pytest.raises(TooLargeError, match="strict"):
        strict_maps(tmp_path / "a.png", MeanColours(), ["red"])


def test_strict_windows_are_encoded_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoglot.evaluation.localization.BATCH", 7)
    encoder = MeanColours()
    done: list[int] = []
    encoded = encode_strictly(pixels()[:100, :100], encoder, (32,), lambda n, total: done.append(n))
    assert len(encoded.vectors) == len(encoded.boxes) == encoder.images == done[-1]
    whole = encode_strictly(pixels()[:100, :100], MeanColours(), (32,))
    assert np.array_equal(encoded.vectors, whole.vectors)
