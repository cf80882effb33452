"""A question as it comes over a wire: plain JSON values in, terms and a filter out. For servers and tasks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoglot.archive.filters import Filter
from geoglot.archive.query import Term, pack_vector, parse_terms, read_picture
from geoglot.errors import QueryError, UsageError
from geoglot.types import Bbox, TimeRange

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoglot.archive.archive import Archive
    from geoglot.imagery.limits import Limits
    from geoglot.models.encoder import DualEncoder

_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
"""RFC 3339, section 5.6: a date-time needs its seconds and its offset."""
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
MAX_NESTING = 3
GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as texts; the names are those of the REST API. Empty when nothing is.

    Attributes:
        q: A query text; its pictures are tokens of `picture_token`, never files.
        like: Chip ids: more like these.
        image: Tokens of `picture_token`: more like these.
    """

    q: str = ""
    like: tuple[str, ...] = ()
    image: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return bool(self.q or self.like or self.image)

    def terms(self, archive: Archive, others: Sequence[Archive] = ()) -> tuple[Term, ...]:
        """The terms for one archive. A chip may lie in another archive of the same model.

        Raises:
            QueryError: The text cannot be read, names a file, or a picture or chip is of no use for this archive.
        """
        terms = parse_terms(self.q) if self.q else ()
        terms += tuple(Term(1.0, "chip", chip) for chip in self.like)
        terms += tuple(Term(1.0, "image", token) for token in self.image)
        return tuple(self._resolved(term, archive, others) for term in terms)

    def _resolved(self, term: Term, archive: Archive, others: Sequence[Archive]) -> Term:
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


def read_filter(
    *,
    bbox: Sequence[float] | None = None,
    intersects: Mapping[str, Any] | None = None,
    datetime: str | None = None,
    gsd_min: float | None = None,
    gsd_max: float | None = None,
    sensor: Sequence[str] = (),
    scene: Sequence[str] = (),
    ids: Sequence[str] | None = None,
) -> Filter:
    """A filter from plain values; the names are those of the REST API.

    Raises:
        UsageError: A value is wrong, or `bbox` and `intersects` are given together.
    """
    if bbox is not None and intersects is not None:
        raise UsageError("bbox and intersects are given together", hint="Use one of them.")
    return Filter(
        bbox=read_bbox(bbox) if bbox is not None else None,
        polygon=read_geometry(intersects) if intersects is not None else None,
        time=read_time(datetime) if datetime is not None else None,
        gsd_m=_gsd(gsd_min, gsd_max),
        sensors=tuple(sensor),
        scenes=tuple(scene),
        chips=tuple(ids) if ids is not None else None,
    )


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


def read_geometry(raw: Mapping[str, Any]) -> BaseGeometry:
    """A GeoJSON geometry in lon/lat; invalid polygons are repaired.

    Raises:
        UsageError: Not GeoJSON, a Feature, not finite, or outside the earth.
    """
    import shapely

    kind = raw.get("type")
    if kind not in GEOMETRIES:
        raise UsageError(
            f"intersects has type {str(kind)[:40]!r}, which is not a geometry",
            hint=f"Give one of {', '.join(GEOMETRIES)}; of a Feature, give its geometry.",
        )
    try:
        _check_depth(raw)
        shape = shapely.geometry.shape(dict(raw))
        if not bool(shapely.is_valid(shape)):
            shape = shapely.make_valid(shape)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise UsageError(
            f"intersects is not a GeoJSON geometry: {error}", hint="See RFC 7946; positions are [lon, lat]."
        ) from error
    return _finite(shape)


def _check_depth(raw: Mapping[str, Any], depth: int = 0) -> None:
    """Shapely recurses; a hostile nesting must not reach it."""
    if depth > MAX_NESTING:
        raise ValueError("collections are nested too deeply")
    for geometry in raw.get("geometries", ()) if raw["type"] == "GeometryCollection" else ():
        _check_depth(geometry, depth + 1)


def _finite(shape: BaseGeometry) -> BaseGeometry:
    import shapely

    if not all(math.isfinite(v) for v in shape.bounds) and not shape.is_empty:
        raise UsageError("intersects holds a position that is not finite", hint="Positions are [lon, lat] in degrees.")
    return shapely.force_2d(shape)


def read_region(path: str | Path) -> BaseGeometry:
    """All polygons of a GeoJSON file as one geometry in lon/lat degrees; invalid ones are repaired.

    Raises:
        UsageError: The file is not there, not GeoJSON, or holds no polygon.
    """
    import shapely

    file = Path(path).expanduser()
    try:
        polygons = [shapely.geometry.shape(raw) for raw in _polygons(json.loads(file.read_text("utf-8")))]
    except OSError as error:
        raise UsageError(
            f"cannot read {str(path)!r}: {error.strerror or error}", hint="Give a GeoJSON file with polygons."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.GEOSException) as error:
        raise UsageError(f"{str(path)!r} is not GeoJSON: {error}", hint="Give a GeoJSON file with polygons.") from error
    if not polygons:
        raise UsageError(f"{str(path)!r} holds no polygon", hint="Points and lines have no inside; draw a polygon.")
    return shapely.union_all([shapely.make_valid(polygon) for polygon in polygons])


def _polygons(raw: Any) -> Iterator[dict[str, Any]]:
    """Polygon geometries of any GeoJSON object, depth first."""
    kind = raw["type"]
    if kind == "FeatureCollection":
        for feature in raw["features"]:
            yield from _polygons(feature)
    elif kind == "Feature":
        if raw["geometry"] is not None:
            yield from _polygons(raw["geometry"])
    elif kind == "GeometryCollection":
        for geometry in raw["geometries"]:
            yield from _polygons(geometry)
    elif kind in ("Polygon", "MultiPolygon"):
        yield raw
