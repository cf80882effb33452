"""The values that rooms pass to each other: windows, boxes on the earth, time ranges, scenes, chips and matches.

Frames and units are in the names: `box_px` is (x0, y0, x1, y1) in full-resolution pixels, half-open, origin
top left; `bbox_lonlat` is (west, south, east, north) in degrees WGS 84, and west > east means that the box crosses the
antimeridian; `ground_m` is metres on the ground; `gsd_m` is metres per pixel.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from geoglot.errors import UsageError


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A pixel rectangle of a scene: x0 <= x < x1, y0 <= y < y1, with 0 <= x0 < x1 and 0 <= y0 < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        if not (0 <= self.x0 < self.x1 and 0 <= self.y0 < self.y1):
            raise UsageError(f"window ({self.x0}, {self.y0}, {self.x1}, {self.y1}) is empty, inverted or negative")

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.y1 - self.y0

    @property
    def box_px(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1), half-open."""
        return (self.x0, self.y0, self.x1, self.y1)

    def iou(self, other: Window) -> float:
        """Intersection over union in [0, 1]."""
        w = min(self.x1, other.x1) - max(self.x0, other.x0)
        h = min(self.y1, other.y1) - max(self.y0, other.y0)
        if w <= 0 or h <= 0:
            return 0.0
        inter = w * h
        return inter / (self.width * self.height + other.width * other.height - inter)


@dataclass(frozen=True, slots=True)
class Bbox:
    """A box on the earth in degrees: (west, south, east, north). west > east crosses the antimeridian.

    Raises:
        UsageError: Not finite, south > north, or out of range (|lon| <= 180, |lat| <= 90).
    """

    west: float
    south: float
    east: float
    north: float

    def __post_init__(self) -> None:
        values = self.lonlat
        if not all(math.isfinite(v) for v in values):
            raise UsageError(f"bbox {values} holds a value that is not finite")
        if not (-180 <= self.west <= 180 and -180 <= self.east <= 180):
            raise UsageError(f"bbox {values}: longitudes must lie in [-180, 180]", hint="Order: west south east north")
        if not (-90 <= self.south <= self.north <= 90):
            raise UsageError(
                f"bbox {values}: latitudes must lie in [-90, 90] with south <= north",
                hint="Order is west south east north.",
            )

    @property
    def lonlat(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in degrees."""
        return (self.west, self.south, self.east, self.north)

    @property
    def crosses_antimeridian(self) -> bool:
        """True when the box runs east over 180 degrees."""
        return self.west > self.east

    def parts(self) -> tuple[Bbox, ...]:
        """One box, or two on either side of the antimeridian."""
        if not self.crosses_antimeridian:
            return (self,)
        return (Bbox(self.west, self.south, 180.0, self.north), Bbox(-180.0, self.south, self.east, self.north))

    def intersects(self, other: Bbox) -> bool:
        """True when the boxes share at least a point; edges count."""
        return any(
            a.west <= b.east and b.west <= a.east and a.south <= b.north and b.south <= a.north
            for a in self.parts()
            for b in other.parts()
        )


_DATE = re.compile(r"^\d{4}(-\d{2}(-\d{2})?)?$")


def parse_instant(text: str, *, end: bool = False) -> datetime:
    """Read an ISO 8601 date or date-time as UTC; a year or a month stands for its first (`end`: last) instant.

    Raises:
        UsageError: The text is not ISO 8601.
    """
    value = text.strip()
    try:
        if match := _DATE.match(value):
            parts = [int(p) for p in value.split("-")]
            start = datetime(parts[0], parts[1] if match[1] else 1, parts[2] if match[2] else 1, tzinfo=UTC)
            return _next(start, len(parts)) - timedelta(microseconds=1) if end else start
        stamp = datetime.fromisoformat(value)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is not an ISO 8601 date: {error}", hint="Write 2019 or 2019-06-01.") from error
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).astimezone(UTC)


def _next(start: datetime, precision: int) -> datetime:
    if precision == 1:
        return start.replace(year=start.year + 1)
    if precision == 2:
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A closed range of instants in UTC; None leaves a side open.

    Raises:
        UsageError: Start lies after end.
    """

    start: datetime | None = None
    end: datetime | None = None

    def __post_init__(self) -> None:
        if self.start and self.end and self.start > self.end:
            raise UsageError(
                f"time range starts {self.start:%Y-%m-%d} after it ends {self.end:%Y-%m-%d}", hint="Swap the two dates."
            )

    @classmethod
    def parse(cls, since: str | None = None, until: str | None = None) -> TimeRange:
        """From ISO 8601 texts; a bare year or month covers all of it."""
        return cls(parse_instant(since) if since else None, parse_instant(until, end=True) if until else None)

    def contains(self, instant: datetime) -> bool:
        """True when the instant lies in the range, ends included."""
        return (self.start is None or self.start <= instant) and (self.end is None or instant <= self.end)


Ring = tuple[tuple[float, float], ...]
"""A closed ring of (lon, lat) degrees; the first point is repeated at the end."""


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """The facts of a raster file that are known before its pixels are used.

    Attributes:
        scene_id: 16 hex digits, a hash of `uri`; the same file at the same place has the same id.
        uri: Absolute path or URL.
        name: The file's name, for people.
        fingerprint: Changes when the file's content may have changed (size and modification time, or an ETag).
        width, height: Pixels at full resolution.
        bands: Number of bands, alpha included.
        dtype: numpy name of the pixel type.
        crs: Authority code or WKT; None without a georeference.
        gsd_m: Metres per pixel on the ground at the scene's centre; None without a georeference.
        bbox_lonlat: Bounds on the earth; None without a georeference.
        footprint_lonlat: Outline as one ring, or two on either side of the antimeridian; empty without a georeference.
        acquired: When it was taken, UTC; None if not known.
        sensor: Short lower-case name such as "sentinel-2"; None if not known.
    """

    scene_id: str
    uri: str
    name: str
    fingerprint: str
    width: int
    height: int
    bands: int
    dtype: str
    crs: str | None = None
    gsd_m: float | None = None
    bbox_lonlat: Bbox | None = None
    footprint_lonlat: tuple[Ring, ...] = ()
    acquired: datetime | None = None
    sensor: str | None = None


@dataclass(frozen=True, slots=True)
class Chip:
    """The window of a scene that a model sees.

    Attributes:
        chip_id: `<scene_id>-<x0>-<y0>-<x1>-<y1>`; unique, and the same in every run.
        scene_id: The scene it was cut from.
        window: Where in the scene, in full-resolution pixels.
        ground_m: Side on the ground in metres; None without a georeference.
        bbox_lonlat: Bounds on the earth; None without a georeference.
        footprint_lonlat: As in SceneInfo.
    """

    chip_id: str
    scene_id: str
    window: Window
    ground_m: float | None = None
    bbox_lonlat: Bbox | None = None
    footprint_lonlat: tuple[Ring, ...] = ()


def chip_id(scene_id: str, window: Window) -> str:
    """The identifier of a window of a scene."""
    return f"{scene_id}-{window.x0}-{window.y0}-{window.x1}-{window.y1}"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where in a chip the evidence for a question is strongest.

    Attributes:
        score: Log-odds of the chip's best place, at the sizes that rank, against what else it may show; comparable
            within one answer.
        x_px, y_px: The place, in full-resolution pixels of the scene.
        window: Around the evidence.
        lonlat: The place in degrees; None without a georeference.
        bbox_lonlat, footprint_lonlat: Of the window; None and empty without a georeference.
    """

    score: float
    x_px: float
    y_px: float
    window: Window
    lonlat: tuple[float, float] | None = None
    bbox_lonlat: Bbox | None = None
    footprint_lonlat: tuple[Ring, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """One answer to a query.

    Attributes:
        rank: 1 is best.
        score: Cosine in [-1, 1] between the query and the chip.
        confidence: Calibrated in [0, 1]: how likely the chip shows what was asked; None when nobody calibrated the
            model.
        chip: The chip found.
        scene: The scene it was cut from.
        merged: How many further chips that overlap this one were folded into it.
        spot: Where in the chip; None unless it was looked for.
    """

    rank: int
    score: float
    confidence: float | None
    chip: Chip
    scene: SceneInfo
    merged: int = 0
    spot: Spot | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Turns a margin over an archive's own background into a confidence: 1 / (1 + exp(-(slope * z + offset))).

    Attributes:
        temperature: Multiplies cosines before the background's log-sum-exp.
        alike: Background prompts with at least this cosine to the query mean the same and do not count against it.
        slope, offset: Logistic parameters, fitted on held-out pairs (the card's `measured` table says which).
        threshold: Below this confidence of the best hit the answer is "nothing matches".
    """

    temperature: float = 20.0
    alike: float = 0.7
    slope: float = 1.0
    offset: float = 0.0
    threshold: float = 0.5
