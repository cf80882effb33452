"""Where an archive fits a question, as a raster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geoglot.archive.archive import Archive
from geoglot.archive.heat import Frame
from geoglot.archive.request import SearchRequest, option
from geoglot.errors import EmptyQueryError, UsageError
from geoglot.imagery.rasters import write_raster
from geoglot.tasks.registry import Report


@dataclass(frozen=True, kw_only=True)
class HeatRequest(SearchRequest):
    """A question, which chips, and how large the raster."""

    longest_px: int = option("pixels of the raster's longer side, 16 to 4096", 1024)


def heat(archive: Archive, request: HeatRequest, folder: Path, report: Report) -> None:
    """Write heat.tif: float32, standard deviations above what the archive's chips usually score, NaN where none lies.

    Raises:
        QueryError: The question cannot be asked.
        UsageError: A value is wrong, or the archive has no place on the earth.
        StorageError: The file cannot be written.
    """
    if not request.has_question:
        raise EmptyQueryError("nothing to look for", hint="Give q, like or image.")
    if not 16 <= request.longest_px <= 4096:
        raise UsageError(f"longest_px {request.longest_px} must lie in 16 to 4096")
    wanted = request.filter()
    box = wanted.bbox or archive.info().bbox_lonlat
    if box is None:
        raise UsageError("no scene of the archive has a place on the earth", hint="Choose another archive.")
    report(0.1, "drawing")
    frame = Frame.around(box, request.longest_px)
    values = archive.heat(request.terms(archive), frame, wanted)
    bounds = (frame.left, frame.bottom, frame.right, frame.top)
    write_raster(folder / "heat.tif", values, bounds, nodata=float("nan"))
    report(1.0, f"{frame.width} x {frame.height} px")
