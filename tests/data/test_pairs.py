from __future__ import annotations

import csv
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from pair_files import picture, rs5m_members, write_tar

from geoglot.data.decode import Prepare
from geoglot.data.pairs import PairSet
from geoglot.data.sources import DataSource, open_source
from geoglot.errors import SampleError, SourceError, UnknownNameError, UsageError


def pairs(data: PairSet) -> dict[str, tuple[str, ...]]:
    return {Path(data.read(i).name).name: data.read(i).captions for i in range(len(data))}


def images(folder: Path, count: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        (folder / f"{index}.png").write_bytes(picture(index))
    return folder


# --- shards --------------------------------------------------------------------------------------


def test_rs5m_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "pub11-train-0000.tar", rs5m_members(range(3)))
    write_tar(tmp_path / "pub11-train-0001.tar", rs5m_members(range(3, 5)))
    data = open_source(DataSource("pub11-train-*.tar"), tmp_path)
    assert len(data) == 5
    third = data.read(3)
    assert third.image == picture(3, kind="JPEG")
    assert third.captions == ("an aerial image, number 3, of a café",)
    assert third.name == "pub11-train-0001.tar:pub11_00000003"
    assert list(data.blocks) == [0, 3, 5]
    assert len(set(data.image_ids.tolist())) == 5
    assert pickle.loads(pickle.dumps(data)).read(4).image == data.read(4).image


def test_the_same_img_name_is_the_same_image(tmp_path: Path) -> None:
    again = [(name.replace("pub11_", "rs3_"), raw) for name, raw in rs5m_members([1])]
    write_tar(tmp_path / "a.tar", rs5m_members(range(3)) + again)
    data = open_source(DataSource("a.tar"), tmp_path)
    assert len(data) == 4
    assert data.image_ids[1] == data.image_ids[3]


def test_usual_webdataset_members(tmp_path: Path) -> None:
    members = [
        ("x/000.jpg", picture(0, kind="JPEG")),
        ("x/000.txt", b"one\n\n two  words \n"),
        ("x/001.png", picture(1)),
        ("x/001.json", json.dumps({"caption": ["red", "blue"], "width": 5}).encode()),
        ("y/001.webp", picture(2, kind="WEBP")),
        ("y/001.txt", "海边的船".encode()),
        ("z.seg.png", picture(3)),
        ("z.txt", b"not an image of its own"),
        ("lonely.jpg", picture(4, kind="JPEG")),
    ]
    write_tar(tmp_path / "a.tar", members)
    data = open_source(DataSource("."), tmp_path)
    assert [data.read(i).captions for i in range(3)] == [("one", "two words"), ("red", "blue"), ("海边的船",)]
    assert len(data) == 3
    assert [name for name, _ in data.skipped] == ["a.tar:z", "a.tar:lonely"]


def test_damaged_shards_are_reported_and_the_rest_is_used(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", rs5m_members(range(4))).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.tar").write_bytes(b"<html>" * 200)
    data = open_source(DataSource("*.tar"), tmp_path)
    assert 4 < len(data) < 8
    assert {name for name, _ in data.skipped} >= {"b.tar", "c.tar"}
    (tmp_path / "a.tar").unlink()
    (tmp_path / "b.tar").unlink()
    with pytest.raises(SourceError, match="no image with a caption"):
        open_source(DataSource("*.tar"), tmp_path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [(b"", "no caption"), (b"  \n ", "no caption"), (b"\xff\xfe\x00", "not UTF-8"), (b'{"caption": ', "broken JSON")],
)
def test_captions_that_cannot_be_read(tmp_path: Path, raw: bytes, message: str) -> None:
    write_tar(tmp_path / "a.tar", [("0.png", picture(0)), ("0.txt", raw)])
    data = open_source(DataSource("a.tar"), tmp_path)
    with pytest.raises(SampleError, match=message):
        data.read(0)


# --- tables --------------------------------------------------------------------------------------


def table(path: Path, rows: list[dict[str, Any]], encoding: str = "utf-8", delimiter: str = ",") -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(out.getvalue().encode(encoding))


ROWS = [
    {"filename": "0.png", "title": "many boats"},
    {"filename": "1.png", "title": "机场跑道 — a runway"},
    {"filename": "0.png", "title": "a harbour, with boats"},
    {"filename": "0.png", "title": "many boats"},
]
EXPECTED = {"0.png": ("many boats", "a harbour, with boats"), "1.png": ("机场跑道 — a runway",)}


@pytest.mark.parametrize(
    ("encoding", "delimiter"), [("utf-8", ","), ("utf-8-sig", "\t"), ("gb18030", ","), ("utf-16", ";")]
)
def test_csv(tmp_path: Path, encoding: str, delimiter: str) -> None:
    images(tmp_path)
    table(tmp_path / "t.csv", ROWS, encoding, delimiter)
    said = "utf-8" if encoding == "utf-8-sig" else encoding
    assert pairs(open_source(DataSource("t.csv", encoding=said), tmp_path)) == EXPECTED


def test_a_wrong_encoding_is_an_error_and_not_a_guess(tmp_path: Path) -> None:
    table(tmp_path / "t.csv", ROWS, "gb18030")
    with pytest.raises(SourceError, match="not utf-8") as caught:
        open_source(DataSource("t.csv"), tmp_path)
    assert "gb18030" in caught.value.hint
    with pytest.raises(SourceError, match="no-such-code"):
        open_source(DataSource("t.csv", encoding="no-such-code"), tmp_path)


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "columns.json"])
def test_json(tmp_path: Path, name: str) -> None:
    images(tmp_path)
    rows = [
        {"image": "0.png", "captions": ["many boats", "a harbour, with boats"]},
        {"image": "1.png", "captions": "x"},
    ]
    text = "\n".join(json.dumps(r) for r in rows) if name == "t.jsonl" else json.dumps(rows)
    if name == "columns.json":
        text = json.dumps({k: {str(i): r[k] for i, r in enumerate(rows)} for k in rows[0]})
    (tmp_path / name).write_text(text)
    assert pairs(open_source(DataSource(name), tmp_path)) == {**EXPECTED, "1.png": ("x",)}


def test_karpathy_sentences_and_splits(tmp_path: Path) -> None:
    images(tmp_path)
    rows = [
        {"filename": "0.png", "split": "train", "sentences": [{"raw": "a"}, {"raw": " b "}]},
        {"filename": "1.png", "split": "test", "sentences": [{"raw": "c"}]},
    ]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    assert pairs(open_source(DataSource("t.json", split="train"), tmp_path)) == {"0.png": ("a", "b")}
    with pytest.raises(SourceError, match="no image with a caption"):
        open_source(DataSource("t.json", split="val"), tmp_path)


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    images(tmp_path)
    pq.write_table(pa.table({k: [r[k] for r in ROWS] for k in ROWS[0]}), tmp_path / "paths.parquet")
    assert pairs(open_source(DataSource("paths.parquet"), tmp_path)) == EXPECTED
    raw = [{"bytes": picture(i), "path": f"{i}.png"} for i in range(25)] + [None]
    said = [["a", f"b{i}"] for i in range(25)] + [["x"]]
    pq.write_table(pa.table({"image": raw, "text": said}), tmp_path / "bytes.parquet", row_group_size=1)
    data = open_source(DataSource("bytes.parquet"), tmp_path)
    assert list(data.blocks) == list(range(27))
    for index in (3, 24, 3, 0):
        assert (data.read(index).image, data.read(index).captions) == (picture(index), ("a", f"b{index}"))
    with pytest.raises(SampleError, match="no image bytes"):
        data.read(25)
    assert pickle.loads(pickle.dumps(data)).read(2).image == picture(2)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(SourceError, match="cannot read"):
        open_source(DataSource("bad.parquet"), tmp_path)


def test_folders(tmp_path: Path) -> None:
    images(tmp_path / "a")
    (tmp_path / "a" / "0.txt").write_text("one\ntwo\n")
    (tmp_path / "a" / "1.json").write_text('{"captions": ["three"]}')
    data = open_source(DataSource("a"), tmp_path)
    assert pairs(data) == {"0.png": ("one", "two"), "1.png": ("three",)}
    assert [Path(name).name for name, _ in data.skipped] == ["2.png"]


def test_tables_may_not_lead_out_of_their_folder(tmp_path: Path) -> None:
    images(tmp_path / "in")
    (tmp_path / "secret.png").write_bytes(picture(9))
    rows = [{"image": n, "caption": "x"} for n in ("0.png", "../secret.png", str(tmp_path / "secret.png"), "a\0b", "")]
    (tmp_path / "in" / "t.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    data = open_source(DataSource("t.jsonl"), tmp_path / "in")
    assert list(pairs(data)) == ["0.png"]
    assert len(data.skipped) == 4
    assert len(open_source(DataSource("t.jsonl", root=".."), tmp_path / "in").skipped) == 3


def test_what_is_not_a_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    rows = [{"image": n, "caption": "x"} for n in ("pipe.png", "zero.png", "huge.png", "gone.png")]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    data = open_source(DataSource("t.jsonl"), tmp_path)
    for index in range(4):
        with pytest.raises(SampleError, match=r"not a file|limit is"):
            data.read(index)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", "{nope", "t.jsonl:1 is not JSON"),
        ("t.jsonl", "[1]", "not a JSON object"),
        ("t.json", '{"a": [1], "b": [1, 2]}', "neither a list"),
        ("t.csv", "a,b\n1,2\n", "no column one of image"),
        ("t.csv", 'image,caption\n"open,x\n', "cannot read"),
        ("t.xlsx", "", "not a table"),
        ("gone.csv", None, "no data at"),
        ("gone-*.tar", None, "no file matches"),
    ],
)
def test_sources_that_cannot_be_read(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=message):
        open_source(DataSource(name), tmp_path)


def test_a_named_column_must_be_there(tmp_path: Path) -> None:
    table(tmp_path / "t.csv", ROWS)
    with pytest.raises(UnknownNameError, match="titel"):
        open_source(DataSource("t.csv", caption="titel"), tmp_path)
    with pytest.raises(UsageError, match="weight"):
        DataSource("t.csv", weight=-1)


def test_fingerprints_follow_the_data(tmp_path: Path) -> None:
    images(tmp_path)
    table(tmp_path / "t.csv", ROWS)
    source = DataSource("t.csv")
    first = open_source(source, tmp_path).fingerprint()
    assert open_source(source, tmp_path).fingerprint() == first
    (tmp_path / "0.png").write_bytes(picture(7))
    second = open_source(source, tmp_path).fingerprint()
    table(tmp_path / "t.csv", ROWS[:2])
    assert len({first, second, open_source(source, tmp_path).fingerprint()}) == 3


def test_prepare_end_to_end(tmp_path: Path) -> None:
    import numpy as np

    write_tar(tmp_path / "a.tar", rs5m_members([5]))
    ready = Prepare(16)(open_source(DataSource("a.tar"), tmp_path).read(0), np.random.default_rng(0))
    assert (ready.image.shape, ready.image.dtype) == ((16, 16, 3), np.uint8)
    assert ready.texts == ("an aerial image, number 5, of a café",)
