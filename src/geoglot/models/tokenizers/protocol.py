"""The protocol of tokenizers: texts in, rows of token ids out, and how much of each text did not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenRows:
    """M texts as a text tower reads them.

    Attributes:
        ids: Token ids [M, T], special tokens and padding included.
        lengths: Tokens [M] that each text would take uncut, special tokens included.
    """

    ids: Ids
    lengths: Ids

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """[M], whether a text lost tokens."""
        cut: NDArray[np.bool_] = self.lengths > self.ids.shape[1]
        return cut


@runtime_checkable
class Tokenizer(Protocol):
    """Reads texts for one text tower. Instances may be shared between threads."""

    @property
    def context(self) -> int:
        """T, tokens of a row."""
        ...

    def rows(self, texts: Sequence[str]) -> TokenRows:
        """Ids and lengths in one pass."""
        ...

    def ids(self, texts: Sequence[str]) -> Ids:
        """M texts -> int64 [M, T]."""
        ...

    def truncated(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """[M], whether a text is longer than the context."""
        ...
