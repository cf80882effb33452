"""One scene on its way into the store: written in bounded pieces, visible all at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.store import Store, new_token
from geoglot.types import Chip, SceneInfo

PIECE = 1024
"""Chips per write: 1 MB of vectors at 256 dimensions. 4,096 cost a large scene 40 MB more at the peak."""


class StagedScene:
    """Collects the chips of one scene; only `commit` makes them visible, so one that is dropped leaves no trace.

    Args:
        store: Open for writing.
        info: The scene.
        piece: Chips held in memory before they are written.
    """

    def __init__(self, store: Store, info: SceneInfo, *, piece: int = PIECE) -> None:
        self._store = store
        self.info = info
        self._piece = piece
        self._token = new_token()
        self._chips: list[Chip] = []
        self._vectors: list[NDArray[np.float32]] = []
        self.count = 0

    def append(self, chips: Sequence[Chip], vectors: NDArray[np.float32]) -> None:
        """Add chips with vectors float32 [N, D].

        Raises:
            UsageError, StorageError: As Store.replace_scene.
        """
        self._chips += chips
        self._vectors.append(vectors)
        self.count += len(chips)
        if len(self._chips) >= self._piece:
            self._flush()

    def commit(self) -> None:
        """Write the rest and make the scene visible, in place of what the store held of it.

        Raises:
            UsageError, StorageError: As Store.replace_scene.
        """
        self._flush()
        self._store.show_scene(self.info, self.count, self._token)

    def _flush(self) -> None:
        if self._chips:
            self._store.add_chips(self.info, self._chips, np.concatenate(self._vectors), self._token)
        self._chips, self._vectors = [], []
