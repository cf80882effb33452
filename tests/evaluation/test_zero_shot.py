from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colour_encoder import ColourEncoder, LongTextEncoder

from geoglot.data.benchmarks.catalogue import catalogue
from geoglot.data.benchmarks.schema import Benchmark
from geoglot.data.samples import Sample
from geoglot.errors import UsageError
from geoglot.evaluation.zero_shot import (
    classify,
    folder_wording,
    readable_wording,
    rs5m_classes,
    rs5m_templates,
    skyscript_classes,
    skyscript_templates,
)


def _data(labels: list[str], classes: tuple[str, ...] = ("red", "green", "blue")) -> Benchmark:
    samples = tuple(Sample(Path(f"{i}.png"), (), label, "all") for i, label in enumerate(labels))
    return Benchmark(catalogue()["whu-rs19"], samples, classes, None, "all", "drawn")


def test_templates() -> None:
    found = rs5m_templates()
    assert len(found) == len(set(found)) == 105
    assert sum("remote sensing image" in one for one in found) == sum("aerial image" in one for one in found) == 35
    for one in (
        "an aerial image of many {c}.", "a satellite image of the hard to see {c}.",
        "a black and white remote sensing image of the {c}.", "a good aerial image of a {c}.",
        "a satellite image of a cool {c}.", "a remote sensing image of the weird {c}.",
    ):  # fmt: skip
        assert one in found
    assert all(one.count("{") == 1 and one.endswith("{c}.") for one in found)
    assert skyscript_templates() == ("a satellite photo of {c}.", "a satellite image of {c}")


def test_run_together_folders_stay_run_together() -> None:
    assert [folder_wording(name) for name in ("BareLand", "AnnualCrop", "sea_ice", "a/B_c")] == [
        "bareland", "annualcrop", "sea ice", "a b c",
    ]  # fmt: skip


def test_class_wording_of_skyscript() -> None:
    entry = replace(catalogue()["skyscript/roof-shape"])
    pack = Benchmark(entry, (), ("gabled",), ("gabled",), "val", "drawn")
    assert readable_wording(pack)[0] == ("building, gabled",)
    eurosat = Benchmark(catalogue()["eurosat"], (), ("AnnualCrop", "River"), None, "all", "drawn")
    assert readable_wording(eurosat)[0] == ("annual crop land", "river")
    assert "not SkyScript's pack" in readable_wording(eurosat)[1]


def _slow(encoder: LongTextEncoder, name: str, templates: tuple[str, ...], *, raw: bool) -> np.ndarray:
    """One class's vector, a text at a time."""
    total = np.zeros(3)
    for template in templates:
        vector = encoder.embed_texts([template.replace("{c}", name)])[0].astype(float)
        total += vector if raw else vector / np.linalg.norm(vector)
    return total / np.linalg.norm(total)


def test_class_vectors_against_loops() -> None:
    encoder, data = LongTextEncoder(), _data(["red"])
    ours = rs5m_classes(encoder, data)
    assert (ours.protocol, ours.prompts) == ("zsc/rs5m", 315)
    theirs = rs5m_classes(ColourEncoder(), data)  # a runtime with unit embeddings only is another protocol
    assert theirs.protocol == "zsc/rs5m-unit"
    assert "not the published protocol" in theirs.notes[0]
    sky = skyscript_classes(encoder, data)
    assert (sky.protocol, sky.prompts) == ("zsc/skyscript", 6)
    for number, name in enumerate(data.classes):
        assert ours.vectors[number] == pytest.approx(_slow(encoder, name, rs5m_templates(), raw=True), abs=1e-5)
        assert theirs.vectors[number] == pytest.approx(_slow(encoder, name, rs5m_templates(), raw=False), abs=1e-5)
        assert sky.vectors[number] == pytest.approx(_slow(encoder, name, skyscript_templates(), raw=False), abs=1e-5)
    assert not np.allclose(ours.vectors, theirs.vectors, atol=1e-5)


def test_classify_by_hand() -> None:
    data = _data(["red", "red", "green", "moon"], ("red", "green", "blue", "moon"))
    classes = skyscript_classes(ColourEncoder(), data)
    assert classes.notes[0] == "the model knows no word for 1 of 4 classes and never answers them: moon"
    images = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [-1, -1, -1]], np.float32)
    found = {number.metric: number for number in classify(classes, images, data)}
    assert found["top1"].value == 50.0
    assert found["top5"].value == 75.0  # a class that cannot be read is never answered, not even as the last
    assert found["mean_class"].value == pytest.approx((50 + 100 + 0) / 3)
    assert found["top1"].count == 4
    with pytest.raises(UsageError, match="no class for every image"):
        classify(classes, images, _data([None, "red"]))  # type: ignore[list-item]
