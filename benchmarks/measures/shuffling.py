"""Captions on purpose wrong, to see whether purification finds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Captions = Sequence[tuple[str, ...]]


def shuffle_captions(captions: Captions, share: float, seed: int) -> tuple[list[tuple[str, ...]], NDArray[np.bool_]]:
    """Captions of which a share went to another image, in one cycle, so that none of those keeps its own.

    Returns:
        The captions, and bool [N]: whose are another image's.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(captions))[: round(share * len(captions))]
    out = list(captions)
    for to, source in zip(chosen, np.roll(chosen, 1), strict=True):
        out[to] = captions[source]
    wrong = np.zeros(len(captions), np.bool_)
    wrong[chosen] = len(chosen) > 1
    return out, wrong
