"""Heat: a question as a raster, so that people see where an archive fits it and where it does not.

The value of a pixel is the mean over the chips that cover it, weighted by 1 / area, of

    (v·q - mean) / std

with mean and standard deviation of v·q over the archive's fixed sample of chips (see geoglot.scoring.calibration). So 0
is what the question scores on ordinary chips here, and small chips draw fine detail over the large ones around them.

The cost is chips plus pixels, whatever the boxes' sizes (`geoglot.scoring.sums`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.filters import Filter, intersecting, select
from geoglot.archive.snapshot import Snapshot
from geoglot.errors import UsageError
from geoglot.scoring.calibration import sample_rows, standardised
from geoglot.scoring.sums import BoxSums
from geoglot.types import Bbox

RADIUS_M = 6_378_137.0
"""Of the sphere of Web Mercator (EPSG:3857)."""
EDGE_M = math.pi * RADIUS_M
MAX_LAT = 85.0511287798066
"""Where Web Mercator ends: the latitude whose northing is EDGE_M."""
MAX_PIXELS = 16_777_216
GATHER_ROWS = 65_536

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Frame:
    """A raster in Web Mercator (EPSG:3857).

    Attributes:
        left, bottom, right, top: Bounds in metres.
        width, height: Pixels; at most MAX_PIXELS in all.

    Raises:
        UsageError: Empty, inverted, not finite or too large.
    """

    left: float
    bottom: float
    right: float
    top: float
    width: int
    height: int

    def __post_init__(self) -> None:
        bounds = (self.left, self.bottom, self.right, self.top)
        if not (all(map(math.isfinite, bounds)) and self.left < self.right and self.bottom < self.top):
            raise UsageError(f"frame {bounds} is empty, inverted or not finite")
        if self.width < 1 or self.height < 1 or self.width * self.height > MAX_PIXELS:
            raise UsageError(f"frame of {self.width} x {self.height} px: 1 to {MAX_PIXELS:,} pixels are possible")

    @classmethod
    def around(cls, box: Bbox, longest_px: int) -> Frame:
        """The frame of a box, its longer side so many pixels.

        Raises:
            UsageError: The box crosses the antimeridian or lies beyond the ends of Web Mercator.
        """
        if box.crosses_antimeridian:
            raise UsageError("a raster cannot cross the antimeridian", hint="Ask for the two sides one by one.")
        left, right = (math.radians(lon) * RADIUS_M for lon in (box.west, box.east))
        bottom, top = (float(y) for y in northing(np.array([box.south, box.north])))
        least = max(right - left, top - bottom, 1.0) / longest_px  # a point, too, gets one pixel
        right, top = max(right, left + least), max(top, bottom + least)
        scale = longest_px / max(right - left, top - bottom)
        return cls(
            left, bottom, right, top, max(1, round((right - left) * scale)), max(1, round((top - bottom) * scale))
        )

    @property
    def bbox_lonlat(self) -> Bbox:
        """The bounds in degrees."""
        west, east = (max(-180.0, min(180.0, math.degrees(x / RADIUS_M))) for x in (self.left, self.right))
        south, north = (math.degrees(math.atan(math.sinh(y / RADIUS_M))) for y in (self.bottom, self.top))
        return Bbox(west, south, east, north)


def northing(lat: Floats) -> Floats:
    """Latitudes in degrees to metres north in Web Mercator, cut at its ends."""
    phi = np.radians(np.clip(lat, -MAX_LAT, MAX_LAT))
    return np.asarray(RADIUS_M * np.arcsinh(np.tan(phi)))


def heat_map(snapshot: Snapshot, query: NDArray[np.float32], frame: Frame, filter: Filter) -> NDArray[np.float32]:
    """The heat of a question, float32 [H, W]; NaN where no chip lies."""
    boxes, vectors = snapshot.arrays.boxes, snapshot.arrays.vectors
    left = select(snapshot, filter).rows
    near = intersecting(boxes, frame.bbox_lonlat)
    rows = np.flatnonzero(near if left is None else near & left)
    usual = vectors[sample_rows(len(snapshot))] @ query
    values = standardised(_scores(vectors, rows, query), usual)
    return paint(frame, boxes[:, rows], values)


def _scores(vectors: NDArray[np.float32], rows: NDArray[np.int64], query: NDArray[np.float32]) -> Floats:
    parts = [vectors[rows[i : i + GATHER_ROWS]] @ query for i in range(0, len(rows), GATHER_ROWS)]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)


def paint(frame: Frame, boxes: Floats, values: Floats) -> NDArray[np.float32]:
    """The mean of the values [N] of the boxes [4, N] that cover each pixel, weighted by 1 / area; NaN where none does.

    A box covers at least one pixel, so that what is smaller than a pixel is seen.
    """
    boxes, values = _split(boxes, values)
    x0, x1 = _span(np.radians(boxes[[0, 2]]) * RADIUS_M - frame.left, (frame.right - frame.left) / frame.width)
    y0, y1 = _span(frame.top - northing(boxes[[3, 1]]), (frame.top - frame.bottom) / frame.height)
    weights = 1.0 / np.maximum((x1 - x0) * (y1 - y0), 1.0)
    covers = np.stack([x0, y0, x1, y1], axis=1).clip(-1, max(frame.width, frame.height) + 1).astype(np.int64)
    return BoxSums(covers, frame.height, frame.width).mean(values, weights)


def _split(boxes: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Boxes over the antimeridian become two."""
    west, south, east, north = boxes
    over = west > east
    if not over.any():
        return boxes, values
    first = np.stack([west, south, np.where(over, 180.0, east), north])
    second = np.stack([np.full_like(west, -180.0), south, east, north])[:, over]
    return np.concatenate([first, second], axis=1), np.concatenate([values, values[over]])


def _span(metres: Floats, pixel_m: float) -> tuple[Floats, Floats]:
    start = np.floor(metres[0] / pixel_m + 0.5)
    return start, np.maximum(np.floor(metres[1] / pixel_m + 0.5), start + 1)
