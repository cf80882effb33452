"""A model that knows colours by name, and a folder of scenes painted in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from typer.testing import CliRunner

from geoglot.cli.app import app
from geoglot.errors import EmptyQueryError, UnknownWordsError
from geoglot.imagery.grid import ChipGrid
from geoglot.models.card import Card
from geoglot.types import Calibration

COLOURS = {"water": (20, 60, 220), "forest": (20, 160, 40), "desert": (230, 190, 60), "roof": (200, 40, 40)}
GRID = ChipGrid(ground_m=(320.0, 640.0), min_px=8, overlap=0.0)


class ColourWords:
    """Images and words in one space: the centred mean colour."""

    def __init__(self) -> None:
        calibration = Calibration(temperature=20.0, slope=4.0, offset=-4.0, threshold=0.5)
        self.card = Card(
            "colour-words", "1", 3, 16, ("en",), (1.0, 30.0), (320.0, 640.0), calibration=calibration,
            files={"image": ("none", "0")}, background=tuple(COLOURS),
        )  # fmt: skip

    def encode_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, S, S, 3] -> [N, 3]."""
        return self._unit(images.reshape(len(images), -1, 3).mean(axis=1))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The first colour word of each text."""
        if any(not text.strip() for text in texts):
            raise EmptyQueryError("a text is empty")
        found = [[COLOURS[word] for word in text.lower().split() if word in COLOURS] for text in texts]
        if unknown := [text for text, colours in zip(texts, found, strict=True) if not colours]:
            raise UnknownWordsError(f"no word of {unknown[0]!r} is known to the model", hint="Try another word.")
        return self._unit(np.array([colours[0] for colours in found], float))

    @staticmethod
    def _unit(colours: NDArray[Any]) -> NDArray[np.float32]:
        centred = colours - 110.0
        return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True), np.float32)


def paint(path: Path, names: Sequence[str], *, placed: bool = True, date: str | None = None) -> Path:
    """A scene of coloured quarters, 128 x 128 px at 10 m; `names` go left to right, top to bottom."""
    pixels = np.zeros((3, 128, 128), np.uint8)
    for place, name in enumerate(names):
        row, column = divmod(place, 2)
        pixels[:, row * 64 : row * 64 + 64, column * 64 : column * 64 + 64] = np.array(COLOURS[name])[:, None, None]
    # Without a place rasterio warns that there is none, which is the point.
    profile: dict[str, Any] = {"driver": "GTiff" if path.suffix == ".tif" else "PNG", "width": 128, "height": 128}
    if placed:
        profile |= {
            "crs": "EPSG:32636",
            "transform": from_origin(500_000.0 + 2_000 * len(path.stem), 100_000.0, 10, 10),
        }
    with rasterio.open(path, "w", count=3, dtype="uint8", **profile) as out:
        out.write(pixels)
        if date:
            out.update_tags(TIFFTAG_DATETIME=date)
    return path


class Shell:
    """Runs `geoglot` in this process, in a folder of its own."""

    def __call__(self, *words: str | Path) -> Any:
        """Result with `exit_code`, `stdout`, `stdout_bytes` and `stderr`."""
        return CliRunner().invoke(app, [os.fspath(word) for word in words], catch_exceptions=False)
