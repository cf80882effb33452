"""What most requests share: a question, and which chips it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from geoglot.archive.filters import Filter
from geoglot.archive.request import Question, read_filter
from geoglot.tasks.registry import option


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which chips; names and meanings are those of search."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    bbox: tuple[float, ...] | None = option("only in this box: west, south, east, north in degrees")
    intersects: dict[str, Any] | None = option("only where this GeoJSON geometry lies")
    datetime: str | None = option("only scenes taken then: an RFC 3339 instant or interval")
    gsd_min: float | None = option("finest ground sample distance, metres per pixel")
    gsd_max: float | None = option("coarsest ground sample distance")
    sensor: tuple[str, ...] = option("only these sensors", ())
    scene: tuple[str, ...] = option("only these scenes: id, name or glob", ())

    def filter(self) -> Filter:
        """As a filter.

        Raises:
            UsageError: A value is wrong.
        """
        return read_filter(
            bbox=self.bbox,
            intersects=self.intersects,
            datetime=self.datetime,
            gsd_min=self.gsd_min,
            gsd_max=self.gsd_max,
            sensor=self.sensor,
            scene=self.scene,
        )


@dataclass(frozen=True, kw_only=True)
class Asked(Where):
    """A question, and which chips."""

    q: str = option("the question, in any language of the model", "")
    like: tuple[str, ...] = option("chip ids: more like these", ())
    image: tuple[str, ...] = option("tokens of pictures: more like these", ())

    def question(self) -> Question:
        """As a question."""
        return Question(self.q, self.like, self.image)
