from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from geoglot.data.glossary import LANGUAGES, concepts
from geoglot.data.glossary.reading import concept_of
from geoglot.models.definitions import DefinedEncoder, with_definitions
from geoglot.models.encoder import DenseEncoder, DualEncoder, dense
from geoglot.models.load import load_encoder


class _Letters:
    """Each text has a random unit vector of its own; counts the texts that it encodes."""

    def __init__(self) -> None:
        self.card: Any = SimpleNamespace(dim=16, name="letters")
        self.encoded: list[str] = []

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)[:, :16].astype(np.float32)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        vectors = np.stack([np.random.default_rng(list(text.encode())).normal(size=16) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_name_in_any_language_is_its_concept(language: str) -> None:
    for key in ("airport", "storage_tank", "vineyard", "parking_lot", "golf_course", "forest"):
        assert concept_of(concepts()[key].name(language)).id == key


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("a satellite photo of large forests", "forest"),
        ("a blurry satellite photo of a harbor", "harbor"),
        ("boats in a harbor", None),  # two things
        ("fields without trees", None),
        ("no trees", None),
        ("xyzzy", None),
        ("", None),
        ("beautiful", None),  # an attribute alone
        ("sulphur-crested cockatoos of the outer pond", None),  # mostly unknown
    ],
)
def test_a_text_is_about_one_thing_or_about_none(text: str, concept: str | None) -> None:
    found = concept_of(text)
    assert (found.id if found else None) == concept


@pytest.mark.parametrize("scale", ["fine", "coarse", "both"])
def test_looks_join_the_name_as_a_slow_twin_says(scale: Any) -> None:
    plain = _Letters()
    texts = ["a forest", "ein Wald", "boats in a harbor", "forest", "xyzzy"]
    slow = []
    for text in texts:
        name = plain.encode_texts([text])[0].astype(np.float64)
        if text in {"a forest", "ein Wald", "forest"}:
            looks = concepts()["forest"].looks
            sentences = {"fine": looks.fine, "coarse": looks.coarse, "both": (*looks.fine, *looks.coarse)}[scale]
            mean = sum(plain.encode_texts([s])[0].astype(np.float64) for s in sentences) / len(sentences)
            name = name + mean / np.linalg.norm(mean)
        slow.append(name / np.linalg.norm(name))
    np.testing.assert_allclose(DefinedEncoder(_Letters(), scale).encode_texts(texts), slow, atol=1e-6)


def test_looks_are_encoded_once_and_only_when_needed() -> None:
    inner = _Letters()
    encoder = DefinedEncoder(inner, "both")
    encoder.encode_texts(["boats in a harbor"])
    assert inner.encoded == ["boats in a harbor"]
    for _ in range(3):
        encoder.encode_texts(["a forest", "a dense forest"])
    sentence = concepts()["forest"].looks.fine[0]
    assert inner.encoded.count(sentence) == 1


def test_it_stands_where_an_encoder_stands() -> None:
    plain = load_encoder()
    defined = load_encoder(definitions="both")
    assert isinstance(defined, DualEncoder)
    assert isinstance(defined, DenseEncoder)
    assert defined.card == plain.card
    pixels = np.random.default_rng(0).integers(0, 255, (1, plain.card.image_px, plain.card.image_px, 3), np.uint8)
    np.testing.assert_array_equal(defined.encode_images(pixels), plain.encode_images(pixels))
    np.testing.assert_array_equal(dense(defined).patch_features(pixels), dense(plain).patch_features(pixels))
    both = ["a forest", "boats in a harbour"]
    one, other = plain.encode_texts(both), defined.encode_texts(both)
    assert one[0] @ other[0] < 0.999
    np.testing.assert_array_equal(one[1], other[1])


def test_off_is_the_encoder_itself() -> None:
    inner = _Letters()
    assert with_definitions(inner, None) is inner
