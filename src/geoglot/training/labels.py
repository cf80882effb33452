"""The classes of all training sources, what each may be called, and which share a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


class LabelNames:
    """Numbers classes as they are met.

    Args:
        other_names: Source -> label -> names; a label that is not listed is named by itself.
    """

    def __init__(self, other_names: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        self._other = other_names
        self.classes: list[str] = []

    def number(self, source: str, label: str | None) -> int:
        """Class number of a label of a source; -1 for no label."""
        if label is None:
            return -1
        key = f"{source}:{label}"
        if key not in self.classes:
            self.classes.append(key)
        return self.classes.index(key)

    def of(self, number: int) -> Sequence[str]:
        """The names that a class may have."""
        source, label = self.classes[number].split(":", 1)
        return self._other.get(source, {}).get(label, [label.replace("_", " ")])

    def kin(self) -> NDArray[np.bool_]:
        """bool [K, K]: classes, of whatever source, that share a name. Two sources both have forests."""
        names = [set(self.of(number)) for number in range(len(self.classes))]
        return np.array([[bool(left & right) for right in names] for left in names])
