"""Suites end to end on drawn data: what runs, what is told, what is kept, how it is printed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colour_encoder import COLOURS, ColourEncoder, LongTextEncoder
from PIL import Image
from typer.testing import CliRunner

from geoglot.cli.app import app
from geoglot.data.benchmarks.catalogue import catalogue
from geoglot.data.glossary import concepts
from geoglot.data.samples import Sample
from geoglot.data.segmentation.catalogue import catalogue as mask_sets
from geoglot.errors import SourceError, StorageError, UnknownNameError, UsageError
from geoglot.evaluation import embeddings, suites
from geoglot.evaluation.embeddings import Kept
from geoglot.evaluation.report import Number, format_report, published, tables
from geoglot.evaluation.segmentation_suite import SEGMENTING
from geoglot.evaluation.suites import Options, evaluate, find_suites
from geoglot.models.tokenizers.protocol import TokenRows
from geoglot.models.tokenizers.truncation import TruncationCount
from geoglot.models.zoo.origin import Preprocess


def _paint(path: Path, colour: str, index: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8, 3), COLOURS[colour], np.uint8)
    pixels[0, 0] = index
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """WHU-RS19 with three classes of four images, and RSICD with three images of two captions."""
    said = []
    for colour in COLOURS:
        for index in range(4):
            _paint(tmp_path / "WHU-RS19" / colour / f"{index}.png", colour, index)
        _paint(tmp_path / "rsicd" / "images" / f"{colour}.png", colour)
        captions = [f"a {colour} field", f"a {colour} field."]
        said.append({"image": f"images/{colour}.png", "split": "test", "captions": captions})
    (tmp_path / "rsicd" / "captions.jsonl").write_text("\n".join(json.dumps(row) for row in said))
    return tmp_path


def _run(root: Path, suite: str, dataset: str, encoder: ColourEncoder | None = None, **options: object) -> list[Number]:
    options = {"partial": True, **options}
    return evaluate(find_suites(suite, [dataset]), [encoder or ColourEncoder()], Options(root, **options))  # type: ignore[arg-type]


def test_every_suite_names_sets_of_the_catalogue() -> None:
    for _, parts in suites.suites().values():
        for suite in parts:
            assert set(suite.datasets) <= set(mask_sets() if suite.kind in SEGMENTING else catalogue())
            assert suite.kind in {*suites._KINDS, *SEGMENTING}
    assert [suite.name for suite in find_suites("georsclip")] == ["zsc/rs5m-3", "ret/rs5m"]
    with pytest.raises(UnknownNameError) as error:
        find_suites("georsclp")
    assert "'georsclip'" in error.value.hint


@pytest.mark.parametrize("suite", ["zsc/rs5m-3", "zsc/skyscript-8", "probe/linear", "probe/few-shot"])
def test_classification_suites(root: Path, suite: str) -> None:
    found = _run(root, suite, "whu-rs19", LongTextEncoder())
    assert all(number.value == 100.0 for number in found)
    for number in found:
        assert (number.model, number.dataset, number.split, number.seed) == ("colours", "whu-rs19", "all", 0)
        assert number.fingerprint
        assert number.source == "class_folders WHU-RS19"
        assert number.count in {12, 3}  # the probes keep one image of each class for testing
        assert number.protocol == {"zsc/rs5m-3": "zsc/rs5m", "zsc/skyscript-8": "zsc/skyscript"}.get(suite, suite)


@pytest.mark.parametrize("suite", ["ret/rs5m", "ret/equivalent", "ret/skyscript-dedup"])
def test_retrieval_suites(root: Path, suite: str) -> None:
    found = {number.metric: number for number in _run(root, suite, "rsicd")}
    assert found["mR"].value == 100.0
    assert found["mR"].protocol == suite
    assert "3 images, 1,093 expected" in found["mR"].notes
    assert ("t2i_R@100" in found) == (suite == "ret/skyscript-dedup")


class CuttingEncoder(ColourEncoder):
    """One that reads 11 letters at most, and counts what it cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.truncation = TruncationCount()

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """As before, and counted."""
        lengths = np.array([len(text) for text in texts])
        self.truncation.add(TokenRows(np.zeros((len(texts), 11), np.int64), lengths))
        return super().encode_texts(texts)


class LookEncoder(ColourEncoder):
    """One that takes every name for red, but knows a forest's look as green and a sea's as blue."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """As told."""
        looks = dict.fromkeys(concepts()["forest"].looks.coarse, "green")
        looks |= dict.fromkeys(concepts()["sea"].looks.coarse, "blue")
        return super().encode_texts([looks.get(text, "red") for text in texts])


def test_the_share_of_cut_texts_stands_beside_the_number(root: Path) -> None:
    notes = _run(root, "ret/rs5m", "rsicd", CuttingEncoder())[0].notes
    said = [f"a {colour} field{stop}" for colour in COLOURS for stop in ("", ".")]
    cut = sum(len(text) > 11 for text in said)
    assert f"{cut} of 6 texts ({100 * cut / 6:.1f} %) were longer than the model reads and were cut" in notes
    assert not any("cut" in note for note in _run(root, "ret/rs5m", "rsicd")[0].notes)


def test_definitions_make_a_protocol_of_their_own(root: Path, tmp_path: Path) -> None:
    for colour, name in (("green", "forest"), ("blue", "sea")):
        (root / "WHU-RS19" / colour).rename(root / "WHU-RS19" / name)
    shutil.rmtree(root / "WHU-RS19" / "red")
    encoder, kept = LookEncoder(), Kept(tmp_path / "kept")
    plain = _run(root, "zsc/skyscript-8", "whu-rs19", encoder, kept=kept)
    images = encoder.images
    found = _run(root, "zsc/skyscript-8", "whu-rs19", encoder, kept=kept, definitions="coarse")
    assert {number.protocol for number in plain} == {"zsc/skyscript"}
    assert {number.protocol for number in found} == {"zsc/skyscript+definitions-coarse"}
    assert all("averaged with its looks (coarse)" in number.notes[-1] for number in found)
    assert encoder.images == images  # the kept vectors of images serve both
    assert next(number.value for number in plain if number.metric == "top1") == 0.0  # all names alike: ties lose
    assert next(number.value for number in found if number.metric == "top1") == 100.0


def test_counted_names_and_the_mean_need_the_suites_own_sets(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"zsc/rs5m-3": ("", (suites.Suite("zsc/rs5m-3", "", "rs5m", ("whu-rs19",)),))}
    monkeypatch.setattr(suites, "suites", lambda: own)
    found = _run(root, "zsc/rs5m-3", "whu-rs19", LongTextEncoder())
    assert {number.protocol for number in found} == {"zsc/rs5m-3"}
    assert [number.dataset for number in found if number.metric == "top1"] == ["whu-rs19", "mean"]
    assert next(number.parts for number in found if number.dataset == "mean") == ("whu-rs19",)
    unit = _run(root, "zsc/rs5m-3", "whu-rs19")
    assert {number.protocol for number in unit} == {"zsc/rs5m-unit"}  # never under the published name
    assert all(number.dataset != "mean" for number in unit)


def test_translated_suite(root: Path) -> None:
    with pytest.raises(SourceError, match="no translated captions"):
        _run(root, "multi/captions", "rsicd")
    (root / "translations").mkdir()
    rows = [{"image": f"{c}.png", "captions": [g, g]} for c, g in zip(COLOURS, ("rot", "gruen", "blau"), strict=True)]
    (root / "translations" / "rsicd.de.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = {number.metric: number.value for number in _run(root, "multi/captions", "rsicd")}
    assert found["mR_gap"] == 0.0
    assert found["same_best_de"] == 100.0


def test_limit_is_told_in_every_number_and_nothing_published_stands_beside(root: Path) -> None:
    found = _run(root, "ret/rs5m", "rsicd", limit=2)
    assert {(number.limit, number.count) for number in found} == {(2, 2)}
    assert all("DRY LOOK, --limit 2" in table.title for table in tables(found))
    assert not any("paper" in cell for table in tables(found) for row in table.rows for cell in row)
    assert json.loads(format_report(found, "json"))["published"] == []


def test_all_that_is_missing_is_told_before_anything_is_encoded(tmp_path: Path) -> None:
    encoder = ColourEncoder()
    with pytest.raises(SourceError, match="2 data sets cannot be used") as error:
        evaluate(find_suites("ret/rs5m"), [encoder], Options(tmp_path))
    assert catalogue()["rsicd"].page in error.value.hint
    assert catalogue()["rsitmd"].page in error.value.hint
    assert encoder.images == 0


def test_unsuitable_sets(root: Path) -> None:
    with pytest.raises(UsageError, match="has no captions"):
        _run(root, "ret/rs5m", "whu-rs19")
    with pytest.raises(UsageError, match="has no classes"):
        _run(root, "zsc/rs5m-3", "rsicd")
    with pytest.raises(UnknownNameError, match="data set with questions"):
        _run(root, "questions", "whu-rs19")


# --- what is kept --------------------------------------------------------------------------


def test_images_are_encoded_once(root: Path, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    first, second = ColourEncoder(), ColourEncoder()
    a = _run(root, "ret/rs5m", "rsicd", first, kept=kept)
    b = _run(root, "ret/rs5m", "rsicd", second, kept=kept)
    assert (first.images, second.images) == (3, 0)
    assert a == b == _run(root, "ret/rs5m", "rsicd")
    other = ColourEncoder(Preprocess((0.5,) * 3, (0.5,) * 3))  # another preprocessing is another fingerprint
    _run(root, "ret/rs5m", "rsicd", other, kept=kept)
    assert other.images == 3


class Mortal(ColourEncoder):
    """Dies after so many images."""

    last = 10**9

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        """As a keyboard interrupt would end it."""
        if self.images >= self.last:
            raise KeyboardInterrupt
        return super().encode_images(images)


def test_interrupted_encoding_goes_on(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "BLOCK", 4)
    kept, steps = Kept(tmp_path / "kept"), []
    first, second = Mortal(), Mortal()
    first.last = 8
    with pytest.raises(KeyboardInterrupt):
        _run(root, "zsc/skyscript-8", "whu-rs19", first, kept=kept)
    _run(root, "zsc/skyscript-8", "whu-rs19", second, kept=kept, told=lambda *step: steps.append(step))
    assert (first.images, second.images) == (8, 4)
    assert steps == [("colours on whu-rs19 all", 12, 12)]


def test_changed_and_damaged_blocks_are_encoded_anew(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "BLOCK", 4)
    kept = Kept(tmp_path / "kept")
    _run(root, "zsc/skyscript-8", "whu-rs19", kept=kept)
    _paint(root / "WHU-RS19" / "red" / "0.png", "blue", 7)
    changed = ColourEncoder()
    _run(root, "zsc/skyscript-8", "whu-rs19", changed, kept=kept)
    assert changed.images == 4
    for path in (tmp_path / "kept").rglob("*.npy"):
        path.write_bytes(b"half")
    damaged = ColourEncoder()
    _run(root, "zsc/skyscript-8", "whu-rs19", damaged, kept=kept)
    assert damaged.images == 12


def test_a_cache_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as error:
        _run(root, "ret/rs5m", "rsicd", kept=Kept(tmp_path / "file"))
    assert "--no-cache" in error.value.hint


def test_images_are_resized_as_the_card_says(tmp_path: Path) -> None:
    """ "shortest" takes the centre of an oblong image; a card that says nothing takes all of it."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    samples = [Sample(tmp_path / "wide.png", (), None, "test")]
    assert embeddings.pixels_of(ColourEncoder(Preprocess((0.5,) * 3, (0.5,) * 3)), samples).min() > 240
    assert embeddings.pixels_of(ColourEncoder(), samples).min() == 0


# --- published numbers and reports ---------------------------------------------------------


def test_published_numbers_are_whole() -> None:
    """Means and mR that the sources print equal the mean of their parts, and every row names its source."""
    by: dict[tuple[str, str, str], dict[tuple[str, str], float]] = {}
    for one in published():
        assert one.source
        assert one.dataset == "mean" or one.dataset in {**catalogue(), **mask_sets()}
        by.setdefault((one.protocol, one.model, one.source), {})[one.dataset, one.metric] = one.value
    assert sum(len(values) for values in by.values()) > 400
    for (protocol, model, _), values in by.items():
        if protocol == "zsc/skyscript-8":
            parts = [value for (dataset, _), value in values.items() if dataset != "mean"]
            assert len(parts) == 8, model
            assert np.mean(parts) == pytest.approx(values["mean", "top1"], abs=0.011), model
        for dataset in {d for d, metric in values if metric == "mR"}:
            parts = [value for (d, metric), value in values.items() if d == dataset and metric != "mR"]
            assert np.mean(parts) == pytest.approx(values[dataset, "mR"], abs=0.011), (model, dataset)


def _number(protocol: str, dataset: str, metric: str, value: float) -> Number:
    return Number(protocol, metric, value, (value - 1, value + 1), 1093, model="m", dataset=dataset, source="x y")


def test_no_table_holds_two_protocols_and_published_rows_name_their_source() -> None:
    numbers = [
        _number(protocol, "rsicd", metric, 10.0)
        for protocol in ("ret/rs5m", "ret/equivalent", "ret/skyscript-dedup")
        for metric in ("i2t_mean", "mR")
    ]
    numbers += [_number(protocol, "aid", "top1", 50.0) for protocol in ("zsc/rs5m-3", "zsc/rs5m-unit")]
    found = tables(numbers)
    assert [table.title.split(" · ")[0] for table in found] == [
        "ret/rs5m", "ret/equivalent", "ret/skyscript-dedup", "zsc/rs5m-3", "zsc/rs5m-unit",
    ]  # fmt: skip
    rows = {table.title.split(" · ")[0]: table.rows for table in found}
    assert ("GeoRSCLIP-FT, RET-2", "", "38.87", "GeoRSCLIP paper, README") in rows["ret/rs5m"]
    assert ("B/32 GeoRSCLIP", "26.30", "", "FarSLIP README") in rows["ret/skyscript-dedup"]
    assert any(row[0].startswith("GeoRSCLIP released B/32") and row[1] == "74.42" for row in rows["zsc/rs5m-3"])
    assert len(rows["ret/equivalent"]) == len(rows["zsc/rs5m-unit"]) == 1
    assert "seed 0" in found[0].title
    assert "1,093 images" in found[0].title


def test_formats() -> None:
    numbers = [_number("ret/rs5m", "rsicd", "mR", 12.4), _number("zsc/rs5m-unit", "ucm", "top1", 48.1)]
    numbers[0] = replace(numbers[0], tied=13.1, notes=("a note",), parts=("i2t_R@1", "t2i_R@1"))
    markdown = format_report(numbers, "md")
    assert "| m | 12.40 (11.4 to 13.4) | this run |" in markdown
    assert "m: rsicd mR 12.40 would be 13.10 if every tie went its way" in markdown
    assert "- m on rsicd: a note" in markdown
    assert "- mR: 2 parts, i2t_R@1, t2i_R@1" in markdown
    assert "| m | 48.10 (47.1 to 49.1) |" in markdown
    rows = list(csv.DictReader(io.StringIO(format_report(numbers, "csv"))))
    assert (rows[0]["protocol"], rows[0]["value"], rows[0]["low"]) == ("ret/rs5m", "12.4", "11.4")
    assert (rows[0]["parts"], rows[1]["parts"]) == ("i2t_R@1; t2i_R@1", "")
    assert all(row["protocol"] for row in rows)
    body = json.loads(format_report(numbers, "json"))
    assert body["numbers"][0]["tied"] == 13.1
    assert {one["protocol"] for one in body["published"]} == {"ret/rs5m"}


# --- the command ---------------------------------------------------------------------------


def test_command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoglot.models.load.load_encoder", lambda name: ColourEncoder(name=name))
    call = ["eval", "ret/rs5m", "--dataset", "rsicd", "--data", str(root), "--partial", "--cache", str(tmp_path / "c")]
    shown = CliRunner().invoke(app, [*call, "--model", "one", "--model", "two", "--format", "csv"])
    assert shown.exit_code == 0, shown.output
    assert {row["model"] for row in csv.DictReader(io.StringIO(shown.stdout))} >= {"one", "two"}
    shown = CliRunner().invoke(app, [*call, "--limit", "2", "--no-cache"])
    assert "DRY LOOK" in shown.stdout
    CliRunner().invoke(app, [*call, "--format", "md", "--out", str(tmp_path / "r.md")])
    assert "ret/rs5m · rsicd" in (tmp_path / "r.md").read_text("utf-8")
    listed = CliRunner().invoke(app, ["eval", "--list"]).stdout
    assert "zsc/skyscript-8" in listed
    assert catalogue()["nwpu-captions"].page in listed
