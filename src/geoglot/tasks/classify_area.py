"""Zero-shot classification of all chips of an area: a class map (GeoTIFF), and the chips as places."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.archive import Archive
from geoglot.archive.heat import Frame, paint
from geoglot.archive.listing import ChipVectors
from geoglot.archive.request import FilterRequest, option
from geoglot.errors import TooLargeError, UsageError
from geoglot.imagery.rasters import write_raster
from geoglot.imagery.vectors import Feature, bbox_of, write_vectors
from geoglot.tasks.classify import label_vectors, probabilities, temperature
from geoglot.tasks.registry import Report
from geoglot.types import Bbox

MAX_CHIPS = 500_000
BATCH = 8192
NO_CLASS = 255


@dataclass(frozen=True, kw_only=True)
class AreaRequest(FilterRequest):
    """Which labels, for which chips, and how large the map."""

    labels: tuple[str, ...] = option("the labels, at least two", ())
    longest_px: int = option("pixels of the map's longer side, 16 to 4096", 1024)


def classify_area(archive: Archive, request: AreaRequest, folder: Path, report: Report) -> None:
    """Write classes.tif, chips.geojson and chips.parquet.

    A pixel's class is the one with the highest mean probability over the chips that cover it, weighted by 1 / area.

    Raises:
        UsageError: A value is wrong, or no chip of the area has a place.
        QueryError: No word of a label is known.
        TooLargeError: More than MAX_CHIPS chips.
        StorageError: The folder cannot be written.
    """
    if not 16 <= request.longest_px <= 4096:
        raise UsageError(f"longest_px {request.longest_px} must lie in 16 to 4096")
    labels = label_vectors(archive, request.labels)
    chips = archive.vectors(request.filter())
    if len(chips) > MAX_CHIPS:
        raise TooLargeError(
            f"the area holds {len(chips):,} chips, over the limit of {MAX_CHIPS:,}", hint="Draw it smaller."
        )
    shares = _shares(chips, labels, temperature(archive), report)
    _write_map(folder / "classes.tif", _frame(chips, request), chips.boxes, shares, request.labels, report)
    features = _features(chips, shares, request.labels, report)
    for format in ("geojson", "parquet"):
        write_vectors(features, folder / f"chips.{format}", format)
    report(1.0, f"{len(chips):,} chips")


def _shares(chips: ChipVectors, labels: NDArray[np.float32], scale: float, report: Report) -> NDArray[np.float32]:
    """Probabilities, float32 [N, K]."""
    parts = [np.empty((0, len(labels)), np.float32)]
    done = 0
    for batch in chips.batches(BATCH):
        parts.append(probabilities(batch, labels, scale).astype(np.float32))
        done += len(batch)
        report(0.4 * done / len(chips), f"{done:,} of {len(chips):,} chips")
    return np.concatenate(parts)


def _frame(chips: ChipVectors, request: AreaRequest) -> Frame:
    boxes = chips.boxes
    placed = ~np.isnan(boxes[0])
    if not placed.any():
        raise UsageError("no chip of the area has a place on the earth", hint="Choose another area.")
    wanted = request.filter().bbox
    if wanted is not None:
        return Frame.around(wanted, request.longest_px)
    west, south, east, north = boxes[:, placed]
    rings = [((w, s), (e, n)) for w, s, e, n in zip(west, south, east, north, strict=True) if w <= e]
    around = bbox_of(rings) if len(rings) == len(west) else None
    if around is None or around.crosses_antimeridian:  # a raster cannot cross it; it then shows the whole round
        around = Bbox(-180.0, float(south.min()), 180.0, float(north.max()))
    return Frame.around(around, request.longest_px)


def _write_map(
    path: Path,
    frame: Frame,
    boxes: NDArray[np.float64],
    shares: NDArray[np.float32],
    labels: Sequence[str],
    report: Report,
) -> None:
    placed = ~np.isnan(boxes[0])
    best = np.full((frame.height, frame.width), -1.0, np.float32)
    winner = np.full((frame.height, frame.width), NO_CLASS, np.uint8)
    for number in range(len(labels)):
        mean = paint(frame, boxes[:, placed], shares[placed, number].astype(np.float64))
        better = mean > best  # NaN compares False
        best[better], winner[better] = mean[better], number
        report(0.4 + 0.3 * (number + 1) / len(labels), f"map of {labels[number]}")
    bounds = (frame.left, frame.bottom, frame.right, frame.top)
    tags = {"GEOGLOT_LABELS": json.dumps(list(labels), ensure_ascii=False)}
    write_raster(path, winner, bounds, nodata=NO_CLASS, colours=class_colours(len(labels)), tags=tags)


def class_colours(count: int) -> dict[int, tuple[int, int, int, int]]:
    """A colour per class; hues a golden angle apart, so that neighbours in the list differ most."""
    hues = ((number * 0.618034) % 1.0 for number in range(count))
    rows = (colorsys.hls_to_rgb(hue, 0.5, 0.65) for hue in hues)
    colours = {i: (round(r * 255), round(g * 255), round(b * 255), 255) for i, (r, g, b) in enumerate(rows)}
    return {**colours, NO_CLASS: (0, 0, 0, 0)}


def _features(chips: ChipVectors, shares: NDArray[np.float32], labels: Sequence[str], report: Report) -> list[Feature]:
    features = []
    best = shares.argmax(axis=1)
    for number, label in enumerate(best.tolist()):
        chip, scene = chips.chip(number)
        facts = {
            "label": labels[label],
            "probability": round(float(shares[number, label]), 6),
            "scene": scene.name,
            "acquired": scene.acquired.isoformat() if scene.acquired else None,
            "chip_id": chip.chip_id,
        }
        features.append(Feature(chip.footprint_lonlat, facts))
        if number % BATCH == 0:
            report(0.7 + 0.3 * number / len(best), f"{number:,} of {len(best):,} places")
    return features
