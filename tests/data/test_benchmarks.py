"""Every set of the catalogue, read from a drawn copy of each of its layouts, traps included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_fixtures import CHINESE, draw, folders, karpathy, table
from PIL import Image

from geoglot.data.benchmarks.catalogue import READERS, catalogue, class_names, limited, read_benchmark
from geoglot.data.benchmarks.schema import Entry
from geoglot.data.benchmarks.translations import read_translations
from geoglot.data.phash import hash_files, look_alikes, perceptual_hash
from geoglot.errors import SourceError, UnknownNameError, UsageError

FOLDERS = [
    (entry, place) for entry in catalogue().values() for place in entry.places if place.layout == "class_folders"
]
PACKS = [entry for entry in catalogue().values() if entry.places[0].layout == "labels_csv"]


# --- the catalogue -------------------------------------------------------------------------


def test_every_entry_can_be_read_and_fetched() -> None:
    for entry in catalogue().values():
        assert entry.kind in {"classification", "retrieval", "localization"}
        assert entry.page.startswith("http")
        assert entry.licence
        assert {place.layout for place in entry.places} <= set(READERS) | {"union"}


def test_class_lists_have_the_published_sizes() -> None:
    sizes = {"aid": 30, "eurosat": 10, "resisc45": 45, "patternnet": 38, "rsi-cb256": 35, "fmow": 62, "millionaid": 51, "ucm": 21}  # fmt: skip  # noqa: E501
    assert {name: len(class_names(name)) for name in sizes} == sizes


@pytest.mark.parametrize("name", [name for name, entry in catalogue().items() if "ret-" not in name])
def test_absent_sets_name_page_licence_and_layout(name: str, tmp_path: Path) -> None:
    entry = catalogue()[name]
    with pytest.raises(SourceError, match="is not in") as error:
        read_benchmark(name, tmp_path)
    assert entry.page in error.value.hint
    assert entry.licence in error.value.hint
    assert entry.places[0].path.format(split=entry.split) in error.value.hint


def test_unknown_set() -> None:
    with pytest.raises(UnknownNameError) as error:
        read_benchmark("eurosta", Path())
    assert "'eurosat'" in error.value.hint


# --- classification ------------------------------------------------------------------------


@pytest.mark.parametrize(("entry", "place"), FOLDERS, ids=lambda v: getattr(v, "name", None) or v.path)
def test_class_folders(entry: Entry, place: object, tmp_path: Path) -> None:
    classes = [names[0] for names in class_names(entry.classes)] if entry.classes else ["Airport", "Beach"]
    where = tmp_path / place.path.format(split=entry.split)  # type: ignore[attr-defined]
    suffix = "_0_rgb.jpg" if entry.name == "fmow" else ".jpg"
    nested = {"rsi-cb256": "Land use/", "millionaid": "Agriculture Land/Arable Land/"}.get(entry.name, "")
    inner = "/seq_0" if entry.name == "fmow" else ""
    folders(where, [f"{nested}{name}{inner}" for name in classes], suffix=suffix)
    draw(where / "__MACOSX" / classes[0] / "x.jpg")
    if entry.name == "fmow":
        draw(where / classes[0] / "seq_0" / "seq_0_0_msrgb.jpg")
    found = read_benchmark(entry.name, tmp_path, partial=True)
    assert found.source == f"class_folders {where.relative_to(tmp_path)}"
    assert sorted(found.classes) == sorted(classes)
    assert [sample.label for sample in found.samples] == sorted(classes)
    strays = len(classes) + 3 + (entry.name == "fmow")
    assert f"{strays} files that are no images of the set left out" in found.notes
    if entry.count:
        with pytest.raises(SourceError, match=r"images, [\d,]+ expected") as error:
            read_benchmark(entry.name, tmp_path)
        assert "--partial" in error.value.hint


def test_camel_case_folders_stay_as_they_are(tmp_path: Path) -> None:
    folders(tmp_path / "AID", [names[0] for names in class_names("aid")])
    assert "BareLand" in read_benchmark("aid", tmp_path, partial=True).classes


def test_strange_and_missing_classes_are_refused(tmp_path: Path) -> None:
    folders(tmp_path / "UCMerced_LandUse" / "Images", ["agricultural", "air_plane", "moon"])
    with pytest.raises(SourceError, match="no class of UC Merced Land Use: moon; classes without images: baseball"):
        read_benchmark("ucm", tmp_path)
    assert "no class of UC Merced Land Use: moon" in read_benchmark("ucm", tmp_path, partial=True).notes
    draw(tmp_path / "UCMerced_LandUse" / "Images" / "loose.jpg")
    with pytest.raises(SourceError, match="lies in no class folder"):
        read_benchmark("ucm", tmp_path, partial=True)


def test_misspelt_class_of_millionaid_is_known(tmp_path: Path) -> None:
    names = [names[-1] for names in class_names("millionaid")]
    assert "bapsketball_court" in names
    folders(tmp_path / "MillionAID" / "train", [f"a/{name}" for name in names])
    assert len(read_benchmark("millionaid", tmp_path).samples) == 51


def _pack(root: Path, csv: str, labels: list[object]) -> None:
    folder = Path(csv.replace("*", "img_txt_pairs_val"))
    (root / folder.parent).mkdir(parents=True)
    (root / folder.parent / "classnames.txt").write_text("\ufeffbare land\nrail way\n", "utf-8")
    rows = [{"filepath": f"{folder.parent}/images/{i}.jpg", "label": label} for i, label in enumerate(labels)]
    for i in range(len(labels)):
        draw(root / folder.parent / "images" / f"{i}.jpg", i)
    table(root / folder, rows)


@pytest.mark.parametrize("entry", PACKS, ids=lambda entry: entry.name)
def test_skyscript_packs(entry: Entry, tmp_path: Path) -> None:
    _pack(tmp_path, entry.places[0].path, ["rail way", "bare land", "", "nan"])
    found = read_benchmark(entry.name, tmp_path)
    assert found.classes == found.texts == ("bare land", "rail way")  # the pack's index order and wording
    assert [sample.label for sample in found.samples] == ["rail way", "bare land"]
    assert found.notes == ("2 rows without a label left out",)
    assert found.split == entry.split


def test_skyscript_labels_may_be_indices(tmp_path: Path) -> None:
    _pack(tmp_path, "aid/aid_img_txt_pairs_test.csv", ["1", 0, "1.0"])
    labels = [sample.label for sample in read_benchmark("skyscript/aid", tmp_path).samples]
    assert labels == ["rail way", "bare land", "rail way"]


@pytest.mark.parametrize("label", ["2", "-1", "0.5", "moon"])
def test_skyscript_wrong_labels(label: str, tmp_path: Path) -> None:
    _pack(tmp_path, "aid/aid_img_txt_pairs_test.csv", [label])
    with pytest.raises(SourceError, match="nor an index below 2"):
        read_benchmark("skyscript/aid", tmp_path)


def test_skyscript_pack_damaged(tmp_path: Path) -> None:
    _pack(tmp_path, "aid/aid_img_txt_pairs_test.csv", ["0"])
    (tmp_path / "aid" / "images" / "0.jpg").unlink()
    with pytest.raises(SourceError, match="1 of 1 images"):
        read_benchmark("skyscript/aid", tmp_path)
    (tmp_path / "aid" / "classnames.txt").unlink()
    with pytest.raises(SourceError, match=r"no classnames.txt"):
        read_benchmark("skyscript/aid", tmp_path)
    table(tmp_path / "aid" / "aid_img_txt_pairs_test.csv", [{"path": "x", "label": 1}])
    (tmp_path / "aid" / "classnames.txt").write_text("a")
    with pytest.raises(SourceError, match="no column 'filepath'"):
        read_benchmark("skyscript/aid", tmp_path)


# --- retrieval -----------------------------------------------------------------------------


def test_rs5m_csv_in_gb18030_with_repeats(tmp_path: Path) -> None:
    rows = [("a.jpg", CHINESE), ("b.jpg", "many planes ."), ("a.jpg", "many planes ."), ("a.jpg", CHINESE)]
    for index, name in enumerate(("a.jpg", "b.jpg")):
        draw(tmp_path / "rsicd" / "RSICD_images" / name, index)
    table(tmp_path / "rsicd" / "rsicd_test.csv", [{"filename": n, "title": t} for n, t in rows], "gb18030")
    with pytest.raises(UnicodeDecodeError):
        (tmp_path / "rsicd" / "rsicd_test.csv").read_text("utf-8")
    found = read_benchmark("rsicd", tmp_path, partial=True)
    assert [sample.captions for sample in found.samples] == [(CHINESE, "many planes .", CHINESE), ("many planes .",)]
    table(tmp_path / "rsicd" / "rsicd_test.csv", [{"filename": n, "title": t} for n, t in rows], "utf-8-sig")
    assert read_benchmark("rsicd", tmp_path, partial=True).samples == found.samples


@pytest.mark.parametrize(
    ("name", "csv", "text"),
    [
        ("rsicd", "RSICD/RSICD_img_txt_pairs_test.csv", "title"),
        ("rsitmd", "RSITMD/RSITMD_img_txt_pairs_test.csv", "title"),
        ("ucm-captions", "ucmcaptions/ucmcaptions_img_txt_pairs_test.csv", "title"),
        ("skyscript-30k", "SkyScript_test_30K_filtered_by_CLIP_openai.csv", "title_multi_objects"),
    ],
)
def test_skyscript_caption_csv(name: str, csv: str, text: str, tmp_path: Path) -> None:
    draw(tmp_path / "x" / "a198234555_CH_19.jpg")
    rows = [
        {"filepath": "x/a198234555_CH_19.jpg", "title": "other", text: said} for said in ("a, lake", "\u2028x", " ")
    ]
    table(tmp_path / csv, rows)
    found = read_benchmark(name, tmp_path, partial=True)
    assert [sample.captions for sample in found.samples] == [("a, lake", "x")]
    assert "1 blank captions left out" in found.notes


def test_rs5m_rsitmd(tmp_path: Path) -> None:
    draw(tmp_path / "rsitmd" / "images" / "p_1.tif")
    table(tmp_path / "rsitmd" / "rsitmd_test.csv", [{"filename": "p_1.tif", "title": "a pond"}])
    assert read_benchmark("rsitmd", tmp_path, partial=True).samples[0].captions == ("a pond",)


@pytest.mark.parametrize(
    ("name", "file", "images"),
    [
        ("rsicd", "RSICD/dataset_rsicd.json", "RSICD/RSICD_images"),
        ("rsitmd", "RSITMD/dataset_RSITMD.json", "RSITMD/images"),
        ("ucm-captions", "UCM_captions/dataset.json", "UCM_captions/imgs"),
        ("ucm-captions", "UCM_captions/dataset.json", "UCM_captions/images"),
        ("sydney-captions", "Sydney_captions/dataset.json", "Sydney_captions/imgs"),
        ("sydney-captions", "Sydney_captions/dataset.json", "Sydney_captions/images"),
    ],
)
def test_karpathy(name: str, file: str, images: str, tmp_path: Path) -> None:
    said = [("1.tif", "train", ["x"]), ("2.tif", "val", ["y"]), ("3.tif", "test", ["b .", "b .", ""]), ("4.tif", "test", [" "])]  # fmt: skip  # noqa: E501
    karpathy(tmp_path / file, tmp_path / images, said)
    found = read_benchmark(name, tmp_path, partial=True)
    assert [sample.captions for sample in found.samples] == [("b .", "b .")]
    assert {"2 blank captions left out", "1 images without any caption left out"} <= set(found.notes)
    assert [s.captions for s in read_benchmark(name, tmp_path, split="valid", partial=True).samples] == [("y",)]
    assert [s.captions for s in read_benchmark(name, tmp_path, split="val", partial=True).samples] == [("y",)]


def test_karpathy_damaged(tmp_path: Path) -> None:
    karpathy(tmp_path / "RSICD/dataset_rsicd.json", tmp_path / "RSICD/RSICD_images", [("../1.jpg", "test", ["x"])])
    with pytest.raises(SourceError, match="outside its folder"):
        read_benchmark("rsicd", tmp_path)
    karpathy(tmp_path / "RSICD/dataset_rsicd.json", tmp_path / "RSICD/RSICD_images", [("1.jpg", "tset", ["x"])])
    with pytest.raises(SourceError, match="has the split 'tset'"):
        read_benchmark("rsicd", tmp_path)
    (tmp_path / "RSICD/dataset_rsicd.json").write_text('{"images": [{"split": "test"}]}')
    with pytest.raises(SourceError, match="no 'filename'"):
        read_benchmark("rsicd", tmp_path)
    (tmp_path / "RSICD/dataset_rsicd.json").write_text("{")
    with pytest.raises(SourceError, match="is not JSON"):
        read_benchmark("rsicd", tmp_path)


def test_nwpu_captions(tmp_path: Path) -> None:
    keys = ("raw", "raw_1", "raw_2", "raw_3", "raw_4")
    rows = [
        {"filename": "airplane_1.jpg", "imgid": 0, "split": "test", **{key: f"plane {key}" for key in keys}},
        {"filename": "airplane_111.jpg", "imgid": 1, "split": "train", "raw": "a plane", "raw_1": ""},
    ]
    body = {"airplane": rows, "sea_ice": []}
    draw(tmp_path / "NWPU-Captions/NWPU_images/airplane/airplane_1.jpg", 1)
    draw(tmp_path / "NWPU-Captions/NWPU_images/airplane/airplane_111.jpg", 2)
    (tmp_path / "NWPU-Captions/dataset_nwpu.json").write_text(json.dumps(body))
    found = read_benchmark("nwpu-captions", tmp_path, partial=True)
    assert [sample.captions for sample in found.samples] == [tuple(f"plane {key}" for key in keys)]
    train = read_benchmark("nwpu-captions", tmp_path, split="train")
    assert [sample.captions for sample in train.samples] == [("a plane",)]
    assert train.notes == ("4 blank captions left out",)


@pytest.mark.parametrize(("split", "repeat"), [("test", 5), ("train", 1)])
@pytest.mark.parametrize(("name", "images"), [("rsicd", "RSICD_images"), ("rsitmd", "RSITMD/images")])
def test_yuan_lists_repeat_names_in_test_only(name: str, images: str, split: str, repeat: int, tmp_path: Path) -> None:
    folder = tmp_path / f"{name}_precomp"
    folder.mkdir()
    for index, file in enumerate(("a_1.tif", "b_2.tif")):
        draw(tmp_path / images / file, index)
    names = [file for file in ("a_1.tif", "b_2.tif") for _ in range(repeat)]
    (folder / f"{split}_filename.txt").write_text("\n".join(names) + "\n")
    (folder / f"{split}_caps.txt").write_text("".join(f"caption {i // 5} {i % 5}\n" for i in range(10)))
    found = read_benchmark(name, tmp_path, split=split, partial=True)
    assert [sample.captions[0] for sample in found.samples] == ["caption 0 0", "caption 1 0"]
    assert [len(sample.captions) for sample in found.samples] == [5, 5]
    (folder / f"{split}_filename.txt").write_text("a_1.tif\n" * 3)
    with pytest.raises(SourceError, match="10 lines, "):
        read_benchmark(name, tmp_path, split=split, partial=True)


@pytest.mark.parametrize("orientation", ["rows", "columns", "pandas", "lines"])
def test_gaia_in_every_orientation(orientation: str, tmp_path: Path) -> None:
    rows = [{"id": i, "captions": [f"c{i}", "The image showcases: Sea"]} for i in range(3)]
    body = {
        "rows": json.dumps(rows),
        "columns": json.dumps({key: [row[key] for row in rows] for key in rows[0]}),
        "pandas": json.dumps({key: {str(i): row[key] for i, row in enumerate(rows)} for key in rows[0]}),
        "lines": "\n".join(json.dumps(row) for row in rows),
    }[orientation]
    draw(tmp_path / "GAIA/images/0.png", 0)
    draw(tmp_path / "GAIA/images/2.jpg", 2)
    (tmp_path / "GAIA/test_data.json").write_text(body)
    found = read_benchmark("gaia", tmp_path)
    assert [sample.captions[0] for sample in found.samples] == ["c0", "c2"]
    assert found.notes == ("1 samples whose image was not downloaded left out",)


def _jsonl(root: Path) -> None:
    for folder, file in (("rsicd", "captions"), ("ucm", "captions"), ("eurosat", "labels")):
        rows = []
        for i, split in enumerate(("train", "train", "valid", "test")):
            draw(root / folder / "images" / f"{i}.webp", i)
            rows.append({"image": f"images/{i}.webp", "split": split, "label": "River", "captions": ["a", "a", "b"]})
        (root / folder / f"{file}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_jsonl(tmp_path: Path) -> None:
    _jsonl(tmp_path)
    found = read_benchmark("rsicd", tmp_path, partial=True)
    assert [sample.captions for sample in found.samples] == [("a", "a", "b")]
    assert [len(read_benchmark(n, tmp_path, partial=True).samples) for n in ("ucm", "ucm-captions")] == [4, 1]
    assert [len(read_benchmark(n, tmp_path, partial=True).samples) for n in ("eurosat", "eurosat-test")] == [4, 1]


def test_real_data(real_data: Path) -> None:
    """The shared folder's own layout, whole: counts and class lists are checked by the reader."""
    sizes = {"rsicd": 1093, "ucm": 2100, "ucm-captions": 210, "eurosat": 27000, "eurosat-test": 5490}
    assert {name: len(read_benchmark(name, real_data).samples) for name in ("rsicd", "ucm", "ucm-captions")} == {
        name: sizes[name] for name in ("rsicd", "ucm", "ucm-captions")
    }


def test_unions_leave_out_what_looks_like_a_test_image(tmp_path: Path) -> None:
    said = [(f"{i}.png", "train" if i < 4 else "test", ["x"]) for i in range(6)]
    karpathy(tmp_path / "RSICD/dataset_rsicd.json", tmp_path / "RSICD/RSICD_images", said)
    karpathy(tmp_path / "RSITMD/dataset_RSITMD.json", tmp_path / "RSITMD/images", said[3:])
    for i, name in enumerate(("3.png", "4.png", "5.png")):
        draw(tmp_path / "RSITMD/images" / name, 50 + i, (64, 64))
    draw(tmp_path / "RSICD/RSICD_images/1.png", 52, (96, 96))  # RSITMD's test image, larger
    found = read_benchmark("ret-2", tmp_path, partial=True)
    names = [sample.image.relative_to(tmp_path).as_posix() for sample in found.samples]
    assert names == [*(f"RSICD/RSICD_images/{i}.png" for i in (0, 2, 3)), "RSITMD/images/3.png"]  # names do not matter
    assert "1 of 5 images left out: they look like a test image" in found.notes
    with pytest.raises(SourceError, match="UCM-Captions"):
        read_benchmark("ret-3", tmp_path, partial=True)


# --- pieces --------------------------------------------------------------------------------


def test_perceptual_hash_against_loops(tmp_path: Path) -> None:
    image = Image.open(draw(tmp_path / "a.png", 3, (64, 48)))
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    low = [
        sum(
            grey[y, x] * np.cos(np.pi * v * (2 * y + 1) / 64) * np.cos(np.pi * u * (2 * x + 1) / 64)
            for y in range(32)
            for x in range(32)
        )
        for v in range(8)
        for u in range(8)
    ]
    bits = "".join("1" if value > np.median(low) else "0" for value in low)
    assert perceptual_hash(image) == int(bits, 2)


def test_look_alikes(tmp_path: Path) -> None:
    assert look_alikes(np.array([0, 0b111, 0b11], np.uint64), np.array([0], np.uint64)).tolist() == [True, False, True]
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(SourceError, match=r"cannot decode .*x.png"):
        hash_files([tmp_path / "x.png"])


def test_limit_spreads_over_the_set(tmp_path: Path) -> None:
    folders(tmp_path / "WHU-RS19", ["Airport", "Beach", "Bridge"], each=4)
    whole = read_benchmark("whu-rs19", tmp_path)
    assert [sample.label for sample in limited(whole, 3).samples] == ["Airport", "Beach", "Bridge"]
    assert limited(whole, 99) == whole
    with pytest.raises(UsageError):
        limited(whole, 0)


def test_translations(tmp_path: Path) -> None:
    _jsonl(tmp_path)
    samples = read_benchmark("rsicd", tmp_path, partial=True).samples
    with pytest.raises(SourceError, match="no translated captions"):
        read_translations("rsicd", tmp_path, samples)
    (tmp_path / "translations").mkdir()
    file = tmp_path / "translations" / "rsicd.de.jsonl"
    file.write_text(json.dumps({"image": "3.webp", "captions": ["eins", "zwei", "drei"]}))
    found = read_translations("rsicd", tmp_path, samples)
    assert found["en"] == samples
    assert found["de"][0].captions == ("eins", "zwei", "drei")
    file.write_text(json.dumps({"image": "3.webp", "captions": ["eins"]}))
    with pytest.raises(SourceError, match="the set has 3"):
        read_translations("rsicd", tmp_path, samples)
