"""Embeddings of a data set, computed once: image vectors are kept per model and files, block by block.

An interrupted evaluation goes on where it stopped, and a second protocol on the same images costs no encoding. A
block's name hashes each file's path, size and time of change, so changed files are encoded anew.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoglot.data.samples import Sample, decode, load_pixels
from geoglot.errors import UnknownWordsError
from geoglot.files import replacing
from geoglot.models.encoder import DualEncoder, Vectors
from geoglot.models.towers.preprocess import fit

BLOCK = 256
"""Images decoded, encoded and kept at a time: 38 MB of pixels at 224 px, two blocks in memory."""

Told = Callable[[int, int], None]
"""Called with images done and images in all."""


def cache_folder() -> Path:
    """Where embeddings are kept: $GEOGLOT_CACHE, else `geoglot` in the user's cache folder."""
    if named := os.environ.get("GEOGLOT_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "geoglot" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "geoglot"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "geoglot"


@dataclass(frozen=True, slots=True)
class Kept:
    """Blocks of image vectors on disk.

    Attributes:
        folder: Below it, `embeddings/<model fingerprint>/<block>.npy`.
    """

    folder: Path

    def path(self, encoder: DualEncoder, block: Sequence[Sample]) -> Path:
        """The file of one block."""
        digest = hashlib.sha256(f"{type(encoder).__name__}|{encoder.card.image_px}".encode())
        for sample in block:
            status = sample.image.stat()
            digest.update(f"|{sample.image.resolve()}|{status.st_size}|{status.st_mtime_ns}".encode())
        return self.folder / "embeddings" / encoder.card.fingerprint / f"{digest.hexdigest()[:32]}.npy"

    def read(self, path: Path, shape: tuple[int, int]) -> Vectors | None:
        """The vectors, or None when they are not there or not what they should be."""
        try:
            vectors = np.load(path)
        except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
            return None
        return vectors if vectors.shape == shape and vectors.dtype == np.float32 else None

    def write(self, path: Path, vectors: Vectors) -> None:
        """Keep a block; readers see all of it or nothing.

        Raises:
            StorageError: The folder cannot be written.
        """
        with replacing(path, hint="Name another folder with --cache, or keep nothing: --no-cache.") as part:
            np.save(part, vectors)


def encode_samples(
    encoder: DualEncoder, samples: Sequence[Sample], *, kept: Kept | None = None, told: Told | None = None
) -> Vectors:
    """Images of samples -> [N, D], as the model's card wants them resized; the next block decodes meanwhile.

    Args:
        encoder: The model.
        samples: Name the images.
        kept: Where vectors are looked up and put; None computes all and keeps nothing.
        told: Called after each block.
    """
    out = np.empty((len(samples), encoder.card.dim), np.float32)
    blocks = [samples[at : at + BLOCK] for at in range(0, len(samples), BLOCK)]
    paths = [kept.path(encoder, block) if kept else None for block in blocks]
    missing = []
    for number, (block, path) in enumerate(zip(blocks, paths, strict=True)):
        vectors = kept.read(path, (len(block), encoder.card.dim)) if kept and path else None
        if vectors is None:
            missing.append(number)
        else:
            out[number * BLOCK : number * BLOCK + len(block)] = vectors
    done = len(samples) - sum(len(blocks[number]) for number in missing)
    for number, pixels in _ahead(encoder, blocks, missing):
        vectors = encoder.encode_images(pixels)
        out[number * BLOCK : number * BLOCK + len(vectors)] = vectors
        if kept and (path := paths[number]):
            kept.write(path, vectors)
        done += len(vectors)
        if told:
            told(done, len(samples))
    return out


def _ahead(
    encoder: DualEncoder, blocks: Sequence[Sequence[Sample]], wanted: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Pixels of the wanted blocks, the next one decoded while the caller works."""
    with ThreadPoolExecutor(1) as pool:
        jobs = [pool.submit(pixels_of, encoder, blocks[number]) for number in wanted[:1]]
        for place, number in enumerate(wanted):
            ready = jobs.pop().result()
            jobs += [pool.submit(pixels_of, encoder, blocks[later]) for later in wanted[place + 1 : place + 2]]
            yield number, ready


def pixels_of(encoder: DualEncoder, samples: Sequence[Sample], *, threads: int = 2) -> NDArray[np.uint8]:
    """Decoded squares [N, S, S, 3], resized the way the model's card says; squashed where it says nothing."""
    side, preprocess = encoder.card.image_px, encoder.card.preprocess
    if preprocess is None:
        return load_pixels(samples, side, threads=threads)
    out = np.empty((len(samples), side, side, 3), np.uint8)

    def load(index: int) -> None:
        out[index] = fit(np.asarray(decode(samples[index].image))[None], side, preprocess)[0]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(load, range(len(samples))))
    return out


def encode_known(encoder: DualEncoder, texts: Sequence[str]) -> Vectors:
    """As encode_texts, but a text of unknown words becomes a zero vector; each different text is encoded once."""
    return _known(encoder.encode_texts, texts, encoder.card.dim)


def encode_lengths(encoder: DualEncoder, texts: Sequence[str]) -> tuple[Vectors, Literal["raw", "unit"]]:
    """Text embeddings with the lengths that the tower gave them, or unit ones where the runtime only has those.

    A runtime that knows the lengths has a method `embed_texts(texts) -> float32 [M, D]`, not normalised.
    """
    raw = getattr(encoder, "embed_texts", None)
    if raw is None:
        return encode_known(encoder, texts), "unit"
    return _known(raw, texts, encoder.card.dim), "raw"


def _known(encode: Callable[[Sequence[str]], Vectors], texts: Sequence[str], dim: int) -> Vectors:
    distinct = list(dict.fromkeys(texts))
    vectors = np.zeros((len(distinct), dim), np.float32)
    for at in range(0, len(distinct), BLOCK):
        _fill(encode, distinct[at : at + BLOCK], vectors[at : at + BLOCK])
    number = {text: index for index, text in enumerate(distinct)}
    return vectors[[number[text] for text in texts]] if texts else vectors


def _fill(encode: Callable[[Sequence[str]], Vectors], texts: Sequence[str], out: Vectors) -> None:
    """Encode together; where a word is unknown halve, until the text that has it stands alone and stays zero."""
    try:
        out[:] = encode(texts)
    except UnknownWordsError:
        if len(texts) > 1:
            half = len(texts) // 2
            _fill(encode, texts[:half], out[:half])
            _fill(encode, texts[half:], out[half:])


def unknown(vectors: Vectors) -> NDArray[np.bool_]:
    """Which texts [M] the model could not read: their vectors are zero."""
    zero: NDArray[np.bool_] = np.logical_not(vectors.any(-1))
    return zero
