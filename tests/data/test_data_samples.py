from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoglot.data.samples import load_pixels, read_samples
from geoglot.errors import SourceError


def _folder(path: Path, lines: list[str]) -> Path:
    (path / "captions.jsonl").write_text("\n".join(lines), "utf-8")
    return path / "captions.jsonl"


def test_reads_the_layout(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "split": "train", "label": "river", "captions": ["A river .", " "]},
        {"image": "b.png", "split": "test", "label": None, "captions": []},
    ]
    file = _folder(tmp_path, [json.dumps(row) for row in rows])
    (sample,) = read_samples(file, "train")
    assert sample.captions == ("A river .",)
    assert len(read_samples(file)) == 2
    pixels = load_pixels([sample], 4)
    assert pixels.shape == (1, 4, 4, 3)
    assert (pixels == np.array([10, 20, 30], np.uint8)).all()


@pytest.mark.parametrize("line", ["not json", "{}", "[1]", '{"image": "a.png"}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(SourceError, match=r"captions.jsonl:1"):
        read_samples(_folder(tmp_path, [line]))


def test_missing_set_and_broken_image(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no data set"):
        read_samples(tmp_path / "captions.jsonl")
    (tmp_path / "a.png").write_bytes(b"\x89PNG broken")
    (sample,) = read_samples(_folder(tmp_path, ['{"image": "a.png", "split": "train"}']))
    with pytest.raises(SourceError, match=r"a\.png"):
        load_pixels([sample], 4)


def test_real_splits_have_the_published_sizes(real_data: Path) -> None:
    file = real_data / "rsicd" / "captions.jsonl"
    assert [len(read_samples(file, s)) for s in ("train", "valid", "test")] == [8734, 1094, 1093]
    assert len(read_samples(real_data / "ucm" / "captions.jsonl")) == 2100
