"""A subset of a set of pairs, with new captions for some records. Pixels are read from the original set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from geoglot.data.pairs import Pair, PairSet


@dataclass(slots=True)
class ChosenPairs:
    """A PairSet over part of another.

    Attributes:
        whole: The other set.
        records: int64 [N], rising: which of its records.
        captions: New captions, by record of `whole`.
    """

    whole: PairSet
    records: NDArray[np.int64]
    captions: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.whole.name} (chosen)"

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """[N]."""
        return self.whole.image_ids[self.records]

    @property
    def blocks(self) -> NDArray[np.int64]:
        """Runs that are read best together, as in the whole set; empty ones are gone."""
        return np.unique(np.searchsorted(self.records, self.whole.blocks))

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """The records that the whole set left out."""
        return self.whole.skipped

    def __len__(self) -> int:
        return len(self.records)

    def read(self, record: int) -> Pair:
        """See PairSet."""
        at = int(self.records[record])
        pair = self.whole.read(at)
        return replace(pair, captions=self.captions[at]) if at in self.captions else pair

    def fingerprint(self) -> str:
        """Of the whole set, the choice and the new captions."""
        digest = hashlib.blake2b(self.whole.fingerprint().encode(), digest_size=8)
        digest.update(self.records.tobytes())
        digest.update(repr(sorted(self.captions.items())).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
