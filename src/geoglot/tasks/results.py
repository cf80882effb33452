"""Results of `segment` and `localize`: folders as values that show themselves in notebooks and convert."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import StorageError

if TYPE_CHECKING:
    import geopandas
    import pyarrow as pa

    from geoglot.tasks.segment.scene import SegmentReport

SIDE_PX = 640
"""Longer side of a picture in a notebook."""


class _Areas:
    """Areas that lie in a folder as a GeoJSON file."""

    _file: Path
    _placed: bool

    def to_geojson(self) -> dict[str, Any]:
        """The areas as a GeoJSON FeatureCollection, in degrees; of a scene without a place in pixels, as (x, -y).

        Raises:
            StorageError: The file is gone.
        """
        try:
            collection: dict[str, Any] = json.loads(self._file.read_text("utf-8"))
        except OSError as error:
            raise StorageError(f"cannot read {self._file}: {error}", hint="Make the result again.") from error
        return collection

    def to_arrow(self) -> pa.Table:
        """The areas as an Arrow table: one row each, outlines as WKB in `geometry`."""
        from geoglot.imagery.frames import arrow_table

        return arrow_table(self.to_geojson())

    def to_geodataframe(self) -> geopandas.GeoDataFrame:
        """The areas as a GeoDataFrame, in WGS 84 or in pixels.

        Raises:
            MissingExtraError: GeoPandas is not installed.
        """
        from geoglot.imagery.frames import LONLAT, geodataframe

        return geodataframe(self.to_arrow(), LONLAT if self._placed else None)


@dataclass(frozen=True)
class Segmentation(_Areas):
    """A scene's class map.

    Attributes:
        folder: Holds classes.tif, confidence.tif, polygons.geojson, legend.json and picture.png.
        report: What was done, with the legend.
    """

    folder: Path
    report: SegmentReport

    @property
    def _file(self) -> Path:  # type: ignore[override]
        return self.folder / "polygons.geojson"

    @property
    def _placed(self) -> bool:  # type: ignore[override]
        return self.report.gsd_m is not None

    def class_map(self) -> NDArray[np.uint8]:
        """uint8 [H, W]: 0 background, k the k-th class (from 1), 255 nodata. Reads the whole map into memory."""
        from geoglot.imagery.opening import open_raster

        with open_raster(str(self.folder / "classes.tif")) as raster:
            return np.asarray(raster.read(1))

    def _repr_html_(self) -> str:
        rows = [(each.name, f"{each.share:.1%}") for each in self.report.classes if each.pixels]
        return _page(self.report.scene, [self.folder / "picture.png"], rows)


@dataclass(frozen=True)
class Localization(_Areas):
    """Where in a scene sentences hold.

    Attributes:
        folder: Holds heat.tif, regions.geojson, report.json and a picture a sentence.
        report: What was asked and found, as in report.json.
    """

    folder: Path
    report: Mapping[str, Any]

    @property
    def _file(self) -> Path:  # type: ignore[override]
        return self.folder / "regions.geojson"

    @property
    def _placed(self) -> bool:  # type: ignore[override]
        return True

    def heat(self) -> NDArray[np.float32]:
        """float32 [N, h, w]: the map of each sentence; NaN is nodata."""
        from geoglot.imagery.opening import open_raster

        with open_raster(str(self.folder / "heat.tif")) as raster:
            return np.asarray(raster.read())

    def _repr_html_(self) -> str:
        sentences = self.report["sentences"]
        rows = [(each["sentence"], _verdict(each)) for each in sentences]
        pictures = [self.folder / f"picture-{number}.png" for number in range(1, len(sentences) + 1)]
        return _page(str(self.report["scene"]), pictures, rows)


def _verdict(row: Mapping[str, Any]) -> str:
    count = len(row["regions"])
    regions = "1 region" if count == 1 else f"{count} regions"
    return f"nothing matches; {regions} nearest to it" if row["nothing_matches"] else regions


def _page(title: str, pictures: Sequence[Path], rows: Sequence[tuple[str, str]]) -> str:
    """HTML without scripts: a title, pictures made small, and a table of two columns; every text is escaped."""
    images = "".join(_image(path) for path in pictures if path.is_file())
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<div><p>{escape(title)}</p>{images}<table>{cells}</table></div>"


def _image(path: Path) -> str:
    from PIL import Image

    from geoglot.archive.pictures import data_uri

    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((SIDE_PX, SIDE_PX))
    return f'<img src="{data_uri(small)}" alt="{escape(path.name)}">'
