from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_files import picture
from PIL import Image, ImageEnhance

from geoglot.data.leakage import Leak, Look, find_leaks, find_near, look, perceptual_hash


def image(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3)).astype(np.uint8))
    return coarse.resize((96, 96), Image.Resampling.BICUBIC)


def again(picture: Image.Image, **how: object) -> Image.Image:
    out = io.BytesIO()
    picture.save(out, **how)
    return Image.open(io.BytesIO(out.getvalue()))


def slow_hash(picture: Image.Image) -> int:
    """The cosine transform written out."""
    grey = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    low = np.zeros((8, 8))
    for u in range(8):
        for v in range(8):
            for x in range(32):
                for y in range(32):
                    low[u, v] += grey[x, y] * np.cos(np.pi * u * (x + 0.5) / 32) * np.cos(np.pi * v * (y + 0.5) / 32)
    low[0] /= np.sqrt(2)
    low[:, 0] /= np.sqrt(2)
    bits = (low > np.median(low)).ravel()
    return int("".join("1" if b else "0" for b in bits), 2)


def test_the_hash_against_its_formula() -> None:
    for seed in range(3):
        assert perceptual_hash(image(seed)) == slow_hash(image(seed))


def test_the_same_picture_in_another_file_is_found_and_another_is_not() -> None:
    train = [
        look("copy.png", again(image(0), format="PNG")),
        look("copy.jpg", again(image(1), format="JPEG", quality=75)),
        look("small.png", image(2).resize((64, 64), Image.Resampling.BICUBIC)),
        look("bright.png", ImageEnhance.Brightness(image(3)).enhance(0.9)),
        look("own.png", image(50)),
    ]
    test = [look(f"test/{seed}.tif", image(seed)) for seed in range(40)]
    found = find_leaks(train, test)
    assert [(leak.train, leak.test, leak.by) for leak in found] == [
        ("copy.png", "test/0.tif", "pixels"),
        ("copy.jpg", "test/1.tif", "look"),
        ("small.png", "test/2.tif", "look"),
        ("bright.png", "test/3.tif", "look"),
    ]


def test_names_prove_nothing() -> None:
    assert find_leaks([look("a.png", image(0))], [look("a.png", image(1))]) == []


def test_flat_pictures_are_compared_by_pixels_only() -> None:
    grey, other = Image.new("RGB", (50, 50), (90, 90, 90)), Image.new("RGB", (50, 50), (20, 20, 90))
    assert perceptual_hash(grey) is None
    assert find_leaks([look("a", grey)], [look("b", other)]) == []
    assert find_leaks([look("a", grey)], [look("b", grey)]) == [Leak("a", "b", "pixels", 0.0)]


@settings(max_examples=50, deadline=None)
@given(
    base=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    flips=st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 63), max_size=5)), max_size=12),
    distance=st.integers(0, 4),
)
def test_near_hashes_against_all_pairs(base: list[int], flips: list[tuple[int, set[int]]], distance: int) -> None:
    test = [Look(f"t{i}", bytes([0, i]), value) for i, value in enumerate(base)]
    train = [
        Look(f"x{i}", bytes([1, i]), base[which % len(base)] ^ sum(1 << bit for bit in bits))
        for i, (which, bits) in enumerate(flips)
    ]
    expected = {
        (a.name, b.name)
        for a in train
        for b in test
        if a.hash is not None and b.hash is not None and (a.hash ^ b.hash).bit_count() <= distance
    }
    assert {(leak.train, leak.test) for leak in find_leaks(train, test, distance)} == expected


def test_near_embeddings_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(30, 6)), rng.normal(size=(5, 6))
    train[7] = test[2] * 3 + 0.01
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    found = find_near(
        train.astype(np.float32), test.astype(np.float32), [f"x{i}" for i in range(30)], [f"t{i}" for i in range(5)]
    )
    expected = [(f"x{i}", f"t{j}") for i in range(30) for j in range(5) if float(train[i] @ test[j]) >= 0.98]
    assert [(leak.train, leak.test) for leak in found] == expected == [("x7", "t2")]
    assert found[0].value == pytest.approx(float(train[7] @ test[2]), abs=1e-5)


def test_look_of_an_encoded_picture() -> None:
    raw = Image.open(io.BytesIO(picture(1)))
    assert look("x", raw).pixels == look("y", raw.convert("RGB")).pixels
