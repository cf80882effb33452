"""A model that knows colours by name, and sees the mean colour of each 8 px patch: dense features anybody can check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import EmptyQueryError, UnknownWordsError
from geoglot.models.card import Card
from geoglot.types import Calibration

COLOURS = {
    "water": (20, 60, 220), "sea": (20, 60, 220), "forest": (20, 160, 40), "sand": (230, 190, 60),
    "roof": (200, 40, 40), "building": (190, 50, 50), "asphalt": (120, 60, 120),
}  # fmt: skip
BACKGROUND = ("water", "forest", "sand", "roof", "asphalt")


class PatchColours:
    """Images, patches and words in one space: the centred mean colour, as a unit vector."""

    patch_px = 8

    def __init__(self, background: tuple[str, ...] = BACKGROUND) -> None:
        calibration = Calibration(temperature=20.0, alike=0.9, slope=4.0, offset=-4.0)
        self.card = Card(
            "patch-colours", "1", 3, 16, ("en",), (1.0, 30.0), (), calibration=calibration,
            files={"image": ("none", "0")}, background=background,
        )  # fmt: skip
        self.seen: list[tuple[int, ...]] = []

    def encode_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, S, S, 3] -> [N, 3]."""
        return unit(images.reshape(len(images), -1, 3).mean(axis=1))

    def patch_features(self, images: NDArray[np.uint8], last_block: object = None) -> NDArray[np.float32]:
        """[N, H, W, 3] -> [N, H / 8, W / 8, 3]."""
        n, height, width, _ = images.shape
        assert height % 8 == width % 8 == 0
        self.seen.append(images.shape)
        return unit(images.reshape(n, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4)))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The first colour word of each text."""
        if any(not text.strip() for text in texts):
            raise EmptyQueryError("a text is empty")
        words = [[w.strip(".,") for w in text.lower().split()] for text in texts]
        found = [[COLOURS[w] for w in known if w in COLOURS] for known in words]
        if strange := [text for text, colours in zip(texts, found, strict=True) if not colours]:
            raise UnknownWordsError(f"no word of {strange[0]!r} is known to the model", hint="Try another word.")
        return unit(np.array([colours[0] for colours in found], float))


def unit(colours: NDArray[Any]) -> NDArray[np.float32]:
    """Centred, length 1; [..., 3]."""
    centred = colours - 110.0
    return np.asarray(centred / np.linalg.norm(centred, axis=-1, keepdims=True), np.float32)


def quarters(side: int, names: Sequence[str], *, seed: int | None = None) -> NDArray[np.uint8]:
    """A picture of four coloured quarters, uint8 [side, side, 3], left to right, top to bottom; with a seed, noisy."""
    image = np.zeros((side, side, 3), np.uint8)
    half = side // 2
    for place, name in enumerate(names):
        row, column = divmod(place, 2)
        image[row * half : (row + 1) * half or None, column * half : (column + 1) * half or None] = COLOURS[name]
    if seed is not None:
        noise = np.random.default_rng(seed).integers(-15, 16, image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image
