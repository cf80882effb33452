"""What every pretrained sentence encoder offers to training: texts in, one frozen vector a text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class SentenceEncoder(Protocol):
    """A frozen text encoder.

    Attributes:
        name: Of the part and its version; a cache of vectors may be kept under it.
        dim: Width of its vectors.
    """

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> Vectors:
        """M texts -> float32 [M, dim], unit norm, in the texts' order."""
        ...


def batches_of_like_length(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Indices of texts, shortest first, in batches whose padded size stays under a number of tokens.

    Args:
        lengths: Tokens of each text.
        most_tokens: Of a batch: its longest text times its texts. A longer text is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > most_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
