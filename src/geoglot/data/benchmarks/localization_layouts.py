"""Layouts of sets that mark where a sentence holds: AIR-SLT's JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geoglot.data.benchmarks.schema import Found, Polygons, Request, check_images, image_in
from geoglot.data.samples import Sample
from geoglot.errors import SourceError


def air_slt(request: Request) -> Found:
    """[{caption, jpg_name, points: [[[x, y], ...], ...]}], one sample a sentence; pixels of `<images>/<jpg_name>`.

    Traps: scenes repeat, one sentence each time; the first caption ends with a line break.

    Raises:
        SourceError: Not such a file, a blank caption, or a polygon of fewer than three points.
    """
    where = str(request.file)
    try:
        rows = json.loads(request.file.read_text("utf-8"))
    except ValueError as error:
        raise SourceError(f"{where} is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise SourceError(f"{where} is not a list of sentences")
    read = [_sample(row, request.images, f"{where}, entry {number}") for number, row in enumerate(rows)]
    samples = tuple(sample for sample, _ in read)
    check_images(samples, where)
    return Found(samples, polygons=tuple(polygons for _, polygons in read))


def _sample(row: Any, images: Path, where: str) -> tuple[Sample, Polygons]:
    try:
        caption, name, points = str(row["caption"]).strip(), str(row["jpg_name"]), row["points"]
        polygons = tuple(tuple((float(x), float(y)) for x, y in polygon) for polygon in points)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where} is not a sentence with regions: {error!r}") from error
    if not caption:
        raise SourceError(f"{where} has a blank caption")
    if not polygons or not all(_usable(polygon) for polygon in polygons):
        raise SourceError(f"{where} has no region, or one of fewer than three points")
    return Sample(image_in(images, name, where), (caption,), None, "test"), polygons


def _usable(polygon: Sequence[tuple[float, float]]) -> bool:
    return len(polygon) >= 3 and all(math.isfinite(v) for point in polygon for v in point)
