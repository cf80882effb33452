"""A dual encoder that sees colours: images become their mean colour, texts the colour they name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geoglot.errors import UnknownWordsError
from geoglot.models.card import Card
from geoglot.models.zoo.origin import Preprocess

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
GERMAN = {"rot": "red", "gruen": "green", "blau": "blue"}


class ColourEncoder:
    """Knows three colours in two languages; counts what it encodes."""

    def __init__(self, preprocess: Preprocess | None = None, name: str = "colours") -> None:
        self.card = Card(name, "1", 3, 8, ("en", "de"), None, (), preprocess=preprocess)
        self.images = 0
        self.texts = 0

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        """Mean colour, unit norm."""
        assert images.shape[1:] == (8, 8, 3)
        self.images += len(images)
        return _unit(images.reshape(len(images), -1, 3).mean(1).astype(np.float32) + 1)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """The colour named, shifted a little by the text's length; unit norm."""
        return _unit(self._lengths(texts))

    def _lengths(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += len(texts)
        rows = []
        for text in texts:
            words = [GERMAN.get(word, word) for word in text.lower().replace(".", " ").split()]
            named = [COLOURS[word] for word in words if word in COLOURS]
            if not named:
                raise UnknownWordsError(f"no colour in {text!r}")
            rows.append(np.array(named[0], np.float32) + len(text))
        return np.array(rows, np.float32)


class LongTextEncoder(ColourEncoder):
    """One that also tells the lengths of its text embeddings."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """As the tower gives them."""
        return self._lengths(texts)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
