from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_files import picture
from PIL import Image

from geoglot.data.decode import Prepare, choose, open_picture, random_box, square
from geoglot.data.pairs import Pair
from geoglot.errors import SampleError, UsageError


def encoded(image: Image.Image, kind: str = "PNG", **more: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def prepare(raw: bytes, side: int = 8) -> np.ndarray:
    return Prepare(side)(Pair("x", raw, ("a",)), np.random.default_rng(0)).image


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("size", [(31, 31), (60, 30), (30, 61)])
def test_the_middle_square_is_resampled(kind: str, size: tuple[int, int]) -> None:
    raw = picture(3, size, kind)
    image = Image.open(io.BytesIO(raw)).convert("RGB")
    left, top = (size[0] - min(size)) / 2, (size[1] - min(size)) / 2
    box = (left, top, left + min(size), top + min(size))
    expected = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC, box=box))
    assert np.array_equal(prepare(raw), expected)


def test_a_large_jpeg_is_decoded_small_and_looks_the_same() -> None:
    raw = picture(1, (900, 640), "JPEG")
    with open_picture(raw, "x") as image:
        box = (40.0, 10.0, 640.0, 610.0)
        quick = square(image, box, 32, "x")
        assert image.size[0] < 900
    plain = np.asarray(Image.open(io.BytesIO(raw)).resize((32, 32), Image.Resampling.BICUBIC, box=box))
    assert np.abs(quick.astype(int) - plain.astype(int)).max() <= 6


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    area=st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)).map(lambda p: (min(p), max(p))),
    seed=st.integers(0, 99),
)
def test_random_boxes_lie_within(size: tuple[int, int], area: tuple[float, float], seed: int) -> None:
    x0, y0, x1, y1 = random_box(size, area, np.random.default_rng(seed))
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    assert all(edge == int(edge) for edge in (x0, y0, x1, y1))


CROPS = json.loads((Path(__file__).parent / "golden" / "random_crops.json").read_text())


@pytest.mark.parametrize("case", CROPS, ids=lambda case: f"{case['size']}-{case['scale']}")
def test_random_boxes_are_spread_as_torchvisions(case: dict[str, Any]) -> None:
    (width, height), rng, draws = case["size"], np.random.default_rng(0), 20_000
    boxes = np.array([random_box((width, height), tuple(case["scale"]), rng) for _ in range(draws)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area = w * h / (width * height)
    assert area.mean() == pytest.approx(case["mean_area"], abs=0.004)
    for name, values in {"area": area, "log_ratio": np.log(w / h), "left": boxes[:, 0] / width}.items():
        for share, decile in zip(np.arange(1, 10) / 10, case[name], strict=True):
            # with whole pixels many draws are equal: a decile is right where it lies between "below" and "up to"
            assert (values < decile - 1e-9).mean() - 0.015 <= share <= (values <= decile + 1e-9).mean() + 0.015, name


def test_crops_keep_their_area() -> None:
    """What was wrong: a box that did not fit was cut down, and 44 % and 67 % of crops were below 0.9."""
    rng = np.random.default_rng(1)
    for (width, height), mean in (((256, 256), 0.942), ((522, 403), 0.951)):
        boxes = np.array([random_box((width, height), (0.9, 1.0), rng) for _ in range(20_000)])
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (width * height)
        assert area.min() > 0.895  # whole pixels
        assert area.mean() == pytest.approx(mean, abs=0.001)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 px."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (60000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


HOSTILE = {
    "empty": b"",
    "text": b"<html>" * 50,
    "cut": picture(0, (200, 200), "JPEG")[:900],
    "cut png": picture(0, (200, 200))[:400],
    "damaged": picture(0, (64, 64))[:100] + b"\0" * 60 + picture(0, (64, 64))[160:],
    "bomb": bomb(),
    "gif": encoded(Image.new("P", (8, 8)), "GIF"),
    "16 bit": encoded(Image.fromarray(np.full((8, 8), 40000, np.uint16))),
    "float": encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_sample_errors(name: str) -> None:
    with pytest.raises(SampleError, match="x "):
        prepare(HOSTILE[name])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.open(io.BytesIO(picture(2))).convert(mode)
    assert prepare(encoded(image, "TIFF" if mode == "CMYK" else "PNG")).shape == (8, 8, 3)


def test_captions_come_once_before_any_twice() -> None:
    captions = ("a", "b", "c")
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 7):
        found = choose(captions, count, rng)
        assert len(found) == count
        assert max(found.count(c) for c in captions) <= -(-count // 3)
    assert {choose(captions, 1, np.random.default_rng(s)) for s in range(30)} == {("a",), ("b",), ("c",)}


def test_senseless_preparation_is_refused() -> None:
    with pytest.raises(UsageError, match="area"):
        Prepare(8, (0.0, 1.0))
    with pytest.raises(UsageError, match="positive"):
        Prepare(8, captions=0)
