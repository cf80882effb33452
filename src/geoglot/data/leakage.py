"""Is a test image among the training images? By pixels, by look, and by embedding; never by name.

Names say nothing: RSICD and RSITMD share file stems without sharing pictures. Implements the rule by which RET-2 was
made: perceptual hashes at most 2 bits apart (GeoRSCLIP's and RemoteCLIP's de-duplication).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DISTANCE = 2
"""Bits between perceptual hashes of the same picture (RET-2's threshold)."""

COSINE = 0.98
"""Between embeddings of the same picture. Models differ: look at what is reported before you believe it."""

FLAT = 2.0
"""Grey levels: a picture with less in its low frequencies (open water, clouds) has a hash made of noise."""


@dataclass(frozen=True, slots=True)
class Look:
    """The fingerprint of a picture.

    Attributes:
        name: For reports.
        pixels: Digest of the decoded RGB values: equal only for the very same pixels.
        hash: 64-bit perceptual hash; None for flat pictures.
    """

    name: str
    pixels: bytes
    hash: int | None


@dataclass(frozen=True, slots=True)
class Leak:
    """A training image that shows a test image.

    Attributes:
        train, test: Names.
        by: "pixels", "look" (perceptual hash) or "embedding".
        value: 0 for pixels, bits for look, cosine for embedding.
    """

    train: str
    test: str
    by: str
    value: float


def look(name: str, picture: Image.Image) -> Look:
    """Recognise a picture, of any size and mode. About a millisecond."""
    rgb = picture.convert("RGB")
    digest = hashlib.blake2b(f"{rgb.size}".encode() + rgb.tobytes(), digest_size=16).digest()
    return Look(name, digest, perceptual_hash(rgb))


def perceptual_hash(picture: Image.Image) -> int | None:
    """64 signs of the low frequencies of the 32 x 32 grey picture against their median; None for a flat picture.

    Implements: pHash as of Zauner 2010, "Implementation and benchmarking of perceptual image hash functions", 3.2.1.
    """
    grey = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    cosines = _cosines()
    low = cosines @ grey @ cosines.T  # [8, 8]
    if np.abs(low.ravel()[1:]).max() < FLAT:
        return None
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """The first 8 rows of the orthonormal cosine transform of 32 samples, scaled to grey levels: [8, 32]."""
    n, k = np.arange(32), np.arange(8)[:, None]
    table: NDArray[np.float64] = np.sqrt(2.0) * np.cos(np.pi * (n + 0.5) * k / 32) / 32
    table[0] /= np.sqrt(2.0)
    return table


def find_leaks(train: Iterable[Look], test: Sequence[Look], distance: int = DISTANCE) -> list[Leak]:
    """Training pictures that equal a test picture in pixels, or look like one.

    Two hashes at most d bits apart agree exactly in at least one of d + 1 pieces: so each training picture is compared
    with the few test pictures that share a piece, not with all.
    """
    pixels = defaultdict(list)
    pieces: dict[tuple[int, int], list[Look]] = defaultdict(list)
    for one in test:
        pixels[one.pixels].append(one)
        for piece in _pieces(one.hash, distance):
            pieces[piece].append(one)
    found = []
    for mine in train:
        same = {id(other) for other in pixels.get(mine.pixels, ())}
        found += [Leak(mine.name, other.name, "pixels", 0.0) for other in pixels.get(mine.pixels, ())]
        near = {id(o): o for piece in _pieces(mine.hash, distance) for o in pieces.get(piece, ())}
        for key, other in near.items():
            bits = ((mine.hash or 0) ^ (other.hash or 0)).bit_count()
            if key not in same and bits <= distance:
                found.append(Leak(mine.name, other.name, "look", float(bits)))
    return found


def _pieces(value: int | None, distance: int) -> list[tuple[int, int]]:
    if value is None:
        return []
    edges = [64 * i // (distance + 1) for i in range(distance + 2)]
    return [(i, value >> a & ((1 << (b - a)) - 1)) for i, (a, b) in enumerate(pairwise(edges))]


def find_near(
    train: NDArray[np.float32],
    test: NDArray[np.float32],
    train_names: Sequence[str],
    test_names: Sequence[str],
    cosine: float = COSINE,
) -> list[Leak]:
    """Training embeddings [N, D] within `cosine` of a test embedding [M, D], both unit norm; blocks of rows."""
    found = []
    for start in range(0, len(train), 4096):
        scores = train[start : start + 4096] @ test.T  # [b, M]
        for row, column in zip(*np.nonzero(scores >= cosine), strict=True):
            names = train_names[start + int(row)], test_names[int(column)]
            found.append(Leak(*names, "embedding", float(scores[row, column])))
    return found
