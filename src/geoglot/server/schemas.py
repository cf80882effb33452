"""The parameters of requests, as the OpenAPI description shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from geoglot.archive.filters import Filter
from geoglot.archive.request import Question, read_filter
from geoglot.errors import UsageError

LIMIT, MOST = 10, 10_000
Text = Annotated[str, Field(max_length=2000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Names = Annotated[list[Annotated[str, Field(max_length=8000)]], Field(max_length=100)]
Ids = Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=10_000)]
"""Chip ids, of which a body of 1 MB holds no more."""
Token = Annotated[str | None, Field(max_length=100_000, description="From the `next` link.")]
Limit = Annotated[
    int, AfterValidator(lambda value: min(value, MOST)), Field(ge=1, description=f"Items on a page; {MOST:,} at most.")
]
"""STAC: a larger limit is not an error, the answer is only shorter."""

_BBOX = "west,south,east,north in degrees; west > east crosses the antimeridian"
_TIME = "RFC 3339 instant or interval, .. for open"


class What(BaseModel):
    """What is asked, and of which chips; the body of a POST."""

    model_config = ConfigDict(extra="forbid")

    q: Text = Field("", description="The question, in any language of the model; signed terms as on the command line.")
    like: Names = Field([], description="Chip ids: more like these.", max_length=16)
    image: Names = Field([], description="Tokens from POST /pictures: more like these.", max_length=16)
    bbox: list[Number] | None = Field(None, description=_BBOX, max_length=6)
    intersects: dict[str, Any] | None = Field(None, description="GeoJSON geometry; not together with bbox.")
    datetime: Text | None = Field(None, description=_TIME)
    gsd_min: Number | None = Field(None, description="Finest ground sample distance, metres per pixel.")
    gsd_max: Number | None = Field(None, description="Coarsest ground sample distance.")
    sensor: Names = Field([], description="Only these sensors.", max_length=64)
    scene: Names = Field([], description="Only these scenes: id, name or glob.", max_length=64)

    def question(self) -> Question:
        """What is asked."""
        return Question(self.q.strip(), tuple(self.like), tuple(self.image))

    def filter(self, ids: list[str] | None = None) -> Filter:
        """Of which chips.

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
            ids=ids,
        )


class Search(What):
    """The body of POST /search."""

    ids: Ids | None = Field(None, description="Only these chips.")
    collections: Names | None = Field(None, description="Only these archives.")
    limit: Limit = LIMIT
    token: Token = None
    min_confidence: float = Field(0.0, ge=0, le=1, description="With a question: leave out what is less likely.")
    merge: bool = Field(True, description="With a question: fold what overlaps a better hit.")
    all: bool = Field(False, description="With a question: give the nearest misses when nothing matches.")


class WhatQuery(BaseModel):
    """`What` as query parameters: lists may be repeated, or parted by commas."""

    model_config = ConfigDict(extra="forbid")

    q: Text = Field("", description="The question, in any language of the model; signed terms as on the command line.")
    like: Names = Field([], description="Chip ids: more like these.", max_length=16)
    image: Names = Field([], description="Tokens from POST /pictures: more like these.", max_length=16)
    bbox: Text | None = Field(None, description=_BBOX)
    intersects: Annotated[str, Field(max_length=100_000)] | None = Field(None, description="GeoJSON geometry.")
    datetime: Text | None = Field(None, description=_TIME)
    gsd_min: Number | None = Field(None, description="Finest ground sample distance, metres per pixel.")
    gsd_max: Number | None = Field(None, description="Coarsest ground sample distance.")
    sensor: Names = Field([], description="Only these sensors.", max_length=64)
    scene: Names = Field([], description="Only these scenes: id, name or glob.", max_length=64)

    def what(self) -> What:
        """As if it had come as a body.

        Raises:
            UsageError: A value cannot be read.
        """
        return What(**self._values())

    def _values(self) -> dict[str, Any]:
        values = self.model_dump(exclude_unset=True)
        for name in ("like", "image", "sensor", "scene", "ids", "collections"):
            if values.get(name) is not None:
                values[name] = [word for text in values[name] for word in text.split(",") if word]
        if self.bbox is not None:
            values["bbox"] = numbers(self.bbox)
        if self.intersects is not None:
            values["intersects"] = _object(self.intersects)
        return values


class SearchQuery(WhatQuery):
    """The parameters of GET /search."""

    ids: Names | None = Field(None, description="Only these chips.")
    collections: Names | None = Field(None, description="Only these archives.")
    limit: Limit = LIMIT
    token: Token = None
    min_confidence: float = Field(0.0, ge=0, le=1, description="With a question: leave out what is less likely.")
    merge: bool = Field(True, description="With a question: fold what overlaps a better hit.")
    all: bool = Field(False, description="With a question: give the nearest misses when nothing matches.")

    def search(self) -> Search:
        """As if it had come as a body.

        Raises:
            UsageError: A value cannot be read.
        """
        return Search(**self._values())


class ItemsQuery(BaseModel):
    """The parameters of GET /collections/{collection}/items."""

    model_config = ConfigDict(extra="forbid")

    bbox: Text | None = Field(None, description=_BBOX)
    datetime: Text | None = Field(None, description=_TIME)
    collections: Names | None = Field(None, description="Some clients repeat the collection here.")
    limit: Limit = LIMIT
    token: Token = None

    def search(self, collection: str) -> Search:
        """As a search in one collection.

        Raises:
            UsageError: A value cannot be read.
        """
        values = self.model_dump(exclude_unset=True)
        if self.bbox is not None:
            values["bbox"] = numbers(self.bbox)
        named = [word for text in self.collections or [collection] for word in text.split(",")]
        return Search(**{**values, "collections": [collection] if collection in named else []})


def numbers(text: str) -> list[float]:
    """Numbers parted by commas.

    Raises:
        UsageError: One of them is none.
    """
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"bbox {text[:80]!r} is not numbers with commas", hint="Write bbox=32,-1,33,1") from error
    if len(found) > 6 or not all(math.isfinite(number) for number in found):
        raise UsageError(f"bbox {text[:80]!r} is not 4 or 6 finite numbers", hint="Write bbox=32,-1,33,1")
    return found


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"intersects is not JSON: {error}", hint="Give a GeoJSON geometry.") from error
    if not isinstance(value, dict):
        raise UsageError("intersects is not a JSON object", hint="Give a GeoJSON geometry.")
    return value
