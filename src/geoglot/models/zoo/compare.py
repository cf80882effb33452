"""How far two models agree on the same pictures and texts. NumPy only; the vectors are unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.models.encoder import DualEncoder, Images, Vectors

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two models, A and B, on N pictures and M texts.

    Attributes:
        image_cosine, text_cosine: (mean, least) cosine between A's and B's vector of the same input; None when their
            widths differ. Only of use between versions of one model: other models have other spaces.
        order: Mean over texts of Spearman's rank correlation between A's and B's order of the pictures, in [-1, 1].
        first: Share of texts for which A and B put the same picture first.
        pictures, texts: N and M.
    """

    image_cosine: tuple[float, float] | None
    text_cosine: tuple[float, float] | None
    order: float
    first: float
    pictures: int
    texts: int


def agreement(a: tuple[Vectors, Vectors], b: tuple[Vectors, Vectors]) -> Agreement:
    """Compare (pictures [N, D], texts [M, D]) of two models; N at least 2, M at least 1.

    Raises:
        UsageError: Too few, or not the same number of each.
    """
    (images_a, texts_a), (images_b, texts_b) = a, b
    pictures, texts = len(images_a), len(texts_a)
    if pictures < 2 or texts < 1 or (pictures, texts) != (len(images_b), len(texts_b)):
        raise UsageError(
            f"comparing needs two pictures and a text at least, the same for both; got {pictures}, {texts}"
        )
    alike = images_a.shape[1] == images_b.shape[1]
    scores_a, scores_b = texts_a @ images_a.T, texts_b @ images_b.T  # [M, N]
    return Agreement(
        _cosines(images_a, images_b) if alike else None,
        _cosines(texts_a, texts_b) if alike else None,
        float(np.mean([spearman(x, y) for x, y in zip(scores_a, scores_b, strict=True)])),
        float(np.mean(scores_a.argmax(1) == scores_b.argmax(1))),
        pictures,
        texts,
    )


def encode(encoder: DualEncoder, pictures: list[Images], texts: list[str]) -> tuple[Vectors, Vectors]:
    """Vectors of pictures uint8 [H, W, 3] of any size, resized to the model's input, and of texts."""
    from PIL import Image

    side = (encoder.card.image_px, encoder.card.image_px)
    resized = [np.asarray(Image.fromarray(p).resize(side, Image.Resampling.BICUBIC)) for p in pictures]
    return encoder.encode_images(np.stack(resized)), encoder.encode_texts(texts)


def _cosines(a: Vectors, b: Vectors) -> tuple[float, float]:
    cosines = np.sum(a.astype(np.float64) * b.astype(np.float64), axis=1)
    return float(cosines.mean()), float(cosines.min())


def spearman(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Pearson's correlation of mean ranks; 1 when both are constant, 0 when one is."""
    rx, ry = _ranks(x), _ranks(y)
    sx, sy = rx.std(), ry.std()
    if sx == 0 or sy == 0:
        return float(sx == sy)
    return float(np.mean((rx - rx.mean()) * (ry - ry.mean())) / (sx * sy))


def _ranks(values: NDArray[np.floating]) -> Floats:
    """Ranks from 0; equal values share their mean rank."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count) - 1.0
    return np.asarray((last - (count - 1) / 2)[group], np.float64)
