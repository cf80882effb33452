"""Captions of whole images from their regions: the seam for a captioning model, and the one that needs none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoglot.data.regions.schema import RegionRecord

ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")


@dataclass(frozen=True, slots=True)
class Captions:
    """The captions of one image: `brief` in one sentence, `detailed` in several; neither is empty."""

    brief: str
    detailed: str


class Captioner(Protocol):
    """Says what an image shows. `name` goes into the manifest, so that everyone sees who spoke."""

    @property
    def name(self) -> str: ...

    def caption(self, image: NDArray[np.uint8], record: RegionRecord) -> Captions:
        """Captions of one image.

        Args:
            image: uint8 [H, W, 3].
            record: Its regions, for captioners that want to be told.
        """
        ...


@dataclass(frozen=True, slots=True)
class TemplateCaptioner:
    """Counts the labels and says where they lie. It never looks at the pixels: what has no label goes unmentioned.

    Attributes:
        count: Objects are counted ("3 ships"); False for areas, which are only named ("water, road").
    """

    count: bool = True

    @property
    def name(self) -> str:
        """As it stands in the manifest."""
        return "template: counts labels, does not look at pixels"

    def caption(self, image: NDArray[np.uint8], record: RegionRecord) -> Captions:
        """From the record alone."""
        counts = Counter(spoken(r.category) for r in record.regions if r.category)
        if not counts:
            return Captions("an overhead image without labelled objects", "An overhead image without labelled objects.")
        ordered = sorted(counts, key=lambda name: (-counts[name], name))
        things = listed([counted(counts[name], name) if self.count else name for name in ordered])
        brief = f"an overhead image {'with' if self.count else 'of'} {things}"
        where = [self._where(name, counts[name], record) for name in ordered]
        return Captions(brief, " ".join([f"A{brief[1:]}.", *filter(None, where)]))

    def _where(self, name: str, count: int, record: RegionRecord) -> str:
        """Where the regions of a category lie, if they all lie in one ninth of the image."""
        cells = {ninth(r.box_px, record) for r in record.regions if spoken(r.category) == name}
        if len(cells) > 1:
            return ""
        subject = f"The {name}" if count == 1 or not self.count else f"All {plural(name)}"
        verb = "lies" if count == 1 or not self.count else "lie"
        return f"{subject} {verb} in the {cells.pop()}."


def spoken(category: str) -> str:
    """A category as words: "large-vehicle" -> "large vehicle"."""
    return " ".join(category.replace("_", " ").replace("-", " ").split())


def ninth(box: Sequence[float], record: RegionRecord) -> str:
    """In which ninth of the image a box's middle lies: "upper left", "middle"."""
    x, y = (box[0] + box[2]) / 2 / record.width, (box[1] + box[3]) / 2 / record.height
    row, column = ROWS[min(int(3 * y), 2)], COLUMNS[min(int(3 * x), 2)]
    return row if row == column else f"{row} {column}"


def counted(count: int, name: str) -> str:
    """ "1 ship", "3 ships"."""
    return f"{count} {name if count == 1 else plural(name)}"


def plural(name: str) -> str:
    """The usual English plural of the last word."""
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
