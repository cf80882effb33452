"""What can be asked: query and filter, declared once, from which every door makes its own.

The fields of `SearchRequest` are the options of `geoglot search` and of the tasks, the body of `POST /search`, the
parameters of `GET /search`, and the bodies of tasks. **To add a filter, add a field to `FilterRequest`** whose `keeps`
says which scenes of a snapshot it lets through; nothing else has to change:

    most_px: int | None = option("only scenes at most so many pixels wide", keeps=narrower)

This module imports no array library at its head: the command line reads it to explain its options.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from geoglot.errors import QueryError, UsageError
from geoglot.types import Bbox, TimeRange

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from geoglot.archive.archive import Archive
    from geoglot.archive.filters import Filter
    from geoglot.archive.query import Term
    from geoglot.archive.snapshot import Snapshot
    from geoglot.imagery.limits import Limits
    from geoglot.models.encoder import DualEncoder

    Keeps = Callable[[Any, Snapshot], NDArray[np.bool_]]

_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
"""RFC 3339, section 5.6: a date-time needs its seconds and its offset."""
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


def option(
    help: str,
    default: Any = None,
    *,
    metavar: str | None = None,
    keeps: Keeps | None = None,
    wire: Any = None,
) -> Any:
    """A field of a request, for every door.

    Args:
        help: A phrase without a capital and a full stop.
        default: When it is not given.
        metavar: What stands for the value on the command line; by default the type chooses.
        keeps: Of a filter: its value and a snapshot -> which scenes it lets through, bool [S]. Only asked when given.
        wire: The type over the network, where the field's own says too little.
    """
    return field(default=default, metadata={"help": help, "metavar": metavar, "keeps": keeps, "wire": wire})


@dataclass(frozen=True, kw_only=True)
class FilterRequest:
    """Which chips may be found. Every condition that is given must hold."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    bbox: tuple[float, ...] | None = option(
        "only in this box: west, south, east, north in degrees; west > east crosses the antimeridian"
    )
    intersects: dict[str, Any] | None = option("only where this GeoJSON geometry lies; not together with bbox")
    datetime: str | None = option("only scenes taken then: an RFC 3339 instant or interval, .. for open")
    gsd_min: float | None = option("finest ground sample distance, metres per pixel", metavar="M")
    gsd_max: float | None = option("coarsest ground sample distance, metres per pixel", metavar="M")
    sensor: tuple[str, ...] = option("only these sensors", (), metavar="NAME")
    scene: tuple[str, ...] = option("only these scenes: id, name or glob", (), metavar="NAME")

    def filter(self) -> Filter:
        """As a filter.

        Raises:
            UsageError: A value is wrong, or `bbox` and `intersects` are given together.
        """
        from geoglot.archive.filters import Filter
        from geoglot.archive.geojson import read_geometry

        if self.bbox is not None and self.intersects is not None:
            raise UsageError("bbox and intersects are given together", hint="Use one of them.")
        return Filter(
            bbox=read_bbox(self.bbox) if self.bbox is not None else None,
            polygon=read_geometry(self.intersects) if self.intersects is not None else None,
            time=read_time(self.datetime) if self.datetime is not None else None,
            gsd_m=_gsd(self.gsd_min, self.gsd_max),
            sensors=tuple(self.sensor),
            scenes=tuple(self.scene),
            conditions=tuple(self._conditions()),
        )

    def _conditions(self) -> Iterator[Callable[[Snapshot], NDArray[np.bool_]]]:
        for one in fields(self):
            value, keeps = getattr(self, one.name), one.metadata.get("keeps")
            if keeps is not None and value not in (None, ()):
                yield partial(keeps, value)


@dataclass(frozen=True, kw_only=True)
class SearchRequest(FilterRequest):
    """A question, as texts, and which chips.

    Attributes:
        q: A query text; its pictures are tokens of `picture_token`, never files.
        like: Chip ids: more like these.
        image: Tokens of `picture_token`: more like these.
    """

    q: str = option("the question, in any language of the model; signed terms may be added up", "")
    like: tuple[str, ...] = option("chip ids: more like these", (), metavar="CHIP_ID")
    image: tuple[str, ...] = option(
        "pictures: more like these; over the network tokens from POST /pictures", (), metavar="FILE"
    )

    @property
    def has_question(self) -> bool:
        """Whether anything is asked."""
        return bool(self.q.strip() or self.like or self.image)

    def terms(self, archive: Archive, others: Sequence[Archive] = ()) -> tuple[Term, ...]:
        """The terms for one archive. A chip may lie in another archive of the same model.

        Raises:
            QueryError: The text cannot be read, names a file, or a picture or chip is of no use for this archive.
        """
        from geoglot.archive.query import Term, parse_terms

        terms = parse_terms(self.q.strip()) if self.q.strip() else ()
        terms += tuple(Term(1.0, "chip", chip) for chip in self.like)
        terms += tuple(Term(1.0, "image", token) for token in self.image)
        return tuple(_resolved(term, archive, others) for term in terms)


def _resolved(term: Term, archive: Archive, others: Sequence[Archive]) -> Term:
    from geoglot.archive.query import Term, pack_vector

    if term.kind == "image":
        return Term(term.weight, "vector", _vector_of(term.value, archive))
    if term.kind == "chip" and archive.chip(term.value) is None:
        same = (a for a in others if a.manifest.fingerprint == archive.manifest.fingerprint)
        vector = next((v for a in same if (v := a.chip_vector(term.value)) is not None), None)
        if vector is not None:
            return Term(term.weight, "vector", pack_vector(vector))
    return term


def picture_token(file: Path, encoder: DualEncoder, limits: Limits) -> str:
    """A picture as a text that can be asked with: the model's fingerprint and the picture's vector.

    Raises:
        SceneError: It cannot be read as an image, or is over the limits.
    """
    from geoglot.archive.query import pack_vector, read_picture

    vector = encoder.encode_images(read_picture(str(file), encoder.card.image_px, limits))[0]
    return f"{encoder.card.fingerprint}.{pack_vector(vector)}"


def _vector_of(token: str, archive: Archive) -> str:
    fingerprint, _, vector = token.partition(".")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise QueryError(
            f"{token[:60]!r} is not a picture that was sent here",
            hint="Send the file to /pictures first; to ask for it as a text, put it in quotes.",
        )
    if fingerprint != archive.manifest.fingerprint:
        raise QueryError(
            f"the picture was encoded for another model than {archive.manifest.model!r}",
            hint="Encode the picture again, with the model of this archive.",
        )
    return vector


def _gsd(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None and high is None else (low or 0.0, math.inf if high is None else high)


def read_bbox(numbers: Sequence[float]) -> Bbox:
    """Four numbers, or six with heights, which are ignored.

    Raises:
        UsageError: Another count, or not a box.
    """
    if len(numbers) not in (4, 6):
        raise UsageError(f"bbox has {len(numbers)} numbers; 4 or 6 are possible", hint="Order: west south east north")
    if len(numbers) == 6:
        if numbers[2] > numbers[5]:
            raise UsageError(f"bbox goes from height {numbers[2]} down to {numbers[5]}", hint="Swap the two.")
        numbers = (*numbers[:2], *numbers[3:5])
    return Bbox(*(float(number) for number in numbers))


def read_time(text: str) -> TimeRange:
    """An RFC 3339 instant, or two with a slash between them of which one may be `..` or empty.

    Raises:
        UsageError: Anything else, or the first lies after the second.
    """
    parts = text.split("/")
    if len(parts) == 1:
        instant = _instant(parts[0])
        return TimeRange(instant, instant)
    if len(parts) != 2 or all(part in ("", "..") for part in parts):
        raise UsageError(f"datetime {text!r} is not an interval", hint="Write 2019-01-01T00:00:00Z/.. or alike.")
    return TimeRange(*(None if part in ("", "..") else _instant(part) for part in parts))


def _instant(text: str) -> datetime:
    try:
        if not _INSTANT.fullmatch(text):
            raise ValueError("it needs date, time and offset")
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text[:60]!r} is not an RFC 3339 date-time: {error}", hint="Write 2019-06-01T00:00:00Z."
        ) from error
