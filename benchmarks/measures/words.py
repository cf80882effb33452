"""A tokenizer of whole English words, made from the captions it will read: for smoke runs and small experiments.

Real recipes use the tokenizer of their model. This one needs no file and takes milliseconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geoglot.models.tokenizers.protocol import Ids, TokenRows

PAD, START, UNKNOWN = 0, 1, 2
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class WordTokenizer:
    """Start token, words, end token; the end token has the highest id, as CLIP's text towers need.

    Attributes:
        words: In the order of their ids, from 3 on.
        context: T.
    """

    words: tuple[str, ...]
    context: int
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {word: at for at, word in enumerate(self.words, start=UNKNOWN + 1)})

    @classmethod
    def of(cls, captions: Iterable[str], context: int, *, least: int = 1) -> WordTokenizer:
        """Of the words that occur at least `least` times, most frequent first; equal counts in alphabetical order."""
        counts = Counter(word for caption in captions for word in _WORD.findall(caption.lower()))
        kept = sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))
        return cls(tuple(kept), context)

    @property
    def vocabulary(self) -> int:
        """Token ids, special ones included."""
        return len(self.words) + UNKNOWN + 2

    def rows(self, texts: Sequence[str]) -> TokenRows:
        """Ids and uncut lengths."""
        ids = np.full((len(texts), self.context), PAD, np.int64)
        lengths = np.zeros(len(texts), np.int64)
        for row, text in enumerate(texts):
            read = [START, *(self._ids.get(word, UNKNOWN) for word in _WORD.findall(text.lower()))]
            lengths[row] = len(read) + 1
            read = [*read[: self.context - 1], self.vocabulary - 1]
            ids[row, : len(read)] = read
        return TokenRows(ids, lengths)

    def ids(self, texts: Sequence[str]) -> Ids:
        """[M, T]."""
        return self.rows(texts).ids

    def truncated(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """[M], whether a text is longer than the context."""
        return self.rows(texts).truncated
