"""Perceptual hashes: which images show the same picture, whatever they are called.

Names are no evidence: 267 file stems of RSITMD test also occur in RSICD train, on other pictures. RemoteCLIP counts two
images as the same when their hashes differ in at most 2 of 64 bits (its issue #13); so do we.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from geoglot.errors import SourceError

Hashes = NDArray[np.uint64]

SAME_BITS = 2
_SIDE, _KEPT = 32, 8  # the usual sizes of a 64-bit DCT hash


def _cosines() -> NDArray[np.float64]:
    """The first rows of the DCT-II matrix, [kept, side]; scale does not matter to a hash."""
    k, x = np.arange(_KEPT)[:, None], np.arange(_SIDE)[None, :]
    waves: NDArray[np.float64] = np.cos(np.pi * k * (2 * x + 1) / (2 * _SIDE))
    return waves


def perceptual_hash(image: Image.Image) -> int:
    """64 bits: which of the 8 x 8 lowest frequencies of the 32 x 32 grey picture lie above their median."""
    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    waves = _cosines()
    low = (waves @ np.asarray(grey, np.float64) @ waves.T).ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


def hash_files(paths: Sequence[Path]) -> Hashes:
    """Hashes [N] of image files, about 1 ms each.

    Raises:
        SourceError: A file cannot be decoded; it is named.
    """
    out = np.empty(len(paths), np.uint64)
    for index, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                out[index] = perceptual_hash(image)
        except (OSError, UnidentifiedImageError) as error:
            raise SourceError(f"cannot decode {path}: {error}") from error
    return out


def look_alikes(hashes: Hashes, others: Hashes, bits: int = SAME_BITS) -> NDArray[np.bool_]:
    """Which of `hashes` [N] lie within so many bits of any of `others` [M]; N x M words of work, in blocks."""
    alike = np.zeros(len(hashes), bool)
    for at in range(0, len(hashes), 1024):
        apart = np.bitwise_count(hashes[at : at + 1024, None] ^ others[None, :])
        alike[at : at + 1024] = (apart <= bits).any(1)
    return alike
