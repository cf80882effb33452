"""Opening a raster safely and reading windows of it as 8-bit RGB."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling

from geoglot.errors import EmptySceneError, UsageError
from geoglot.imagery.addresses import Source, fingerprint
from geoglot.imagery.earth import EarthFrame, Georeference, georeference
from geoglot.imagery.grid import Strip
from geoglot.imagery.limits import Limits
from geoglot.imagery.opening import CACHE_BYTES, gdal_calls, open_raster
from geoglot.imagery.provenance import date_of, sensor_of
from geoglot.imagery.reach import Reach, is_url
from geoglot.imagery.render import Rendering, choose_rendering
from geoglot.types import Chip, SceneInfo, Window, chip_id

SAMPLE_SIDE_PX = 768
"""The stretch is fitted on at most this many pixels squared."""

SAMPLE_WINDOWS = 64
SAMPLE_WINDOW_PX = 128
DIRECT_SAMPLE_PIXELS = 16_000_000
"""Without overviews, larger scenes are sampled by windows instead of being read from end to end."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """8-bit pixels of a window.

    Attributes:
        rgb: uint8 [H, W, 3]; black where not valid.
        valid: bool [H, W]; False on nodata, on alpha 0, on masked, NaN and infinite pixels.
    """

    rgb: NDArray[np.uint8]
    valid: NDArray[np.bool_]


def open_scene(
    source: Source | str | os.PathLike[str], limits: Limits | None = None, reach: Reach | None = None
) -> Scene:
    """Open a raster; close it with `close()` or a `with` block.

    Cost: reads the header only. No georeference means no CRS, no ground sample distance and no footprint.

    Raises:
        OutOfReachError: It lies outside the reach, or leads there.
        UnreadableSceneError: Corrupt, mislabelled, not an accepted format, or pixels that are not numbers.
        EmptySceneError: The file is empty or the raster has no pixels.
        SceneTooLargeError: Over a limit.
        SourceError: The file is gone.
    """
    if not isinstance(source, Source):
        text = os.fspath(source)
        source = Source(text if is_url(text) else str(Path(text).absolute()))
    mark = fingerprint(source.uri, reach)
    dataset = open_raster(source.uri, reach, limits)
    try:
        return Scene(dataset, source, mark)
    except BaseException:
        dataset.close()
        raise


BandReader = Callable[[Any, tuple[int, ...], str], tuple[NDArray[Any], NDArray[np.bool_]] | None]
"""An open rasterio dataset, the bands to read and "nearest" or "bilinear" -> values [bands, H, W] and what of them is
there [H, W]; None where nothing is."""


class Scene:
    """An open raster. Not safe to share between threads."""

    def __init__(self, dataset: Any, source: Source, mark: str) -> None:
        """Use `open_scene`."""
        self._dataset = dataset
        with gdal_calls(source.uri):
            self._georeference = georeference(dataset.crs.to_wkt() if dataset.crs else None, dataset.transform)
            self.info = _describe(dataset, source, mark, self._georeference)
            self._flags = dataset.mask_flag_enums[0]

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._dataset.close()

    def read(self, window: Window, size_px: tuple[int, int] | None = None) -> Pixels:
        """Pixels of a window, resampled to `size_px` (height, width) if given: averaged down, bilinear up.

        Cost: reads the overview next above the wanted resolution; without overviews all blocks of the window pass
        through a fixed cache, so memory stays bounded either way.

        Raises:
            UsageError: The window reaches outside the scene, or the size is below 1.
            UnreadableSceneError: The pixels are damaged or cut off.
            EmptySceneError: The scene needs a stretch and holds no valid pixel.
        """
        if window.x1 > self.info.width or window.y1 > self.info.height:
            raise UsageError(f"window {window.box_px} reaches outside {self.info.width} x {self.info.height} pixels")
        height, width = size_px or (window.height, window.width)
        if min(height, width) < 1:
            raise UsageError(f"size {size_px} must be at least 1 x 1")
        values, valid = self._values(window, (height, width))
        return Pixels(self.rendering.rgb(values, valid), valid)

    def small(self, size_px: tuple[int, int]) -> Pixels:
        """The whole scene, resampled to (height, width): for pictures.

        Without overviews in strips that fit the block cache: of a larger window GDAL decodes blocks that hold all bands
        once a band. Rows lie within half a pixel of the scene from where `read` has them.
        """
        info, rows = self.info, size_px[0]
        pixel_bytes = info.bands * np.dtype(info.dtype).itemsize
        strips = 1 if self._dataset.overviews(1) else -(-info.width * info.height * pixel_bytes // (CACHE_BYTES // 2))
        starts = np.linspace(0, rows, min(strips, rows) + 1).round()
        tops = (starts * info.height / rows).round()
        parts = [
            self.read(Window(0, int(top), info.width, int(bottom)), (int(stop - start), size_px[1]))
            for (top, bottom), (start, stop) in zip(pairwise(tops), pairwise(starts), strict=True)
        ]
        return Pixels(np.concatenate([part.rgb for part in parts]), np.concatenate([part.valid for part in parts]))

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window hold data, bool [H, W]: as `read(window).valid`, without making RGB of them."""
        return self._values(window, (window.height, window.width))[1]

    def lonlat(self, x_px: NDArray[Any], y_px: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Degrees WGS 84 of pixel corners; inf where the projection is not defined. None without a georeference."""
        return None if self._georeference is None else self._georeference.lonlat(x_px, y_px)

    @property
    def grid_reference(self) -> tuple[str | None, Any]:
        """CRS as WKT and affine transform, as the file has them, for a raster on the same grid."""
        crs = self._dataset.crs
        return (crs.to_wkt() if crs else None), self._dataset.transform

    def chip(self, window: Window) -> Chip:
        """The chip of a window, with its place on the earth."""
        return self.chips([window])[0]

    def chips(self, windows: Sequence[Window]) -> list[Chip]:
        """The chips of many windows; one transformation for all of them."""
        geo = self._georeference
        frames = geo.frames(windows) if geo else [None] * len(windows)
        return [self._chip(window, frame) for window, frame in zip(windows, frames, strict=True)]

    def _chip(self, window: Window, frame: EarthFrame | None) -> Chip:
        name = chip_id(self.info.scene_id, window)
        if frame is None:
            return Chip(name, self.info.scene_id, window)
        return Chip(name, self.info.scene_id, window, frame.side_m, frame.bbox_lonlat, frame.footprint_lonlat)

    @property
    def overviews(self) -> tuple[int, ...]:
        """Factors by which the file holds its pixels made smaller, ascending."""
        return tuple(self._dataset.overviews(1))

    def read_with(self, read: BandReader) -> Pixels | None:
        """Pixels that another reader takes out of the open raster, for readers that warp; None where it finds none.

        Args:
            read: Given the raster, the bands to read and how to resample; see BandReader.

        Raises:
            UnreadableSceneError: The pixels are damaged.
        """
        part = read(self._dataset, self._chosen.bands, "bilinear" if self._chosen.palette is None else "nearest")
        if part is None:
            return None
        values, valid = part
        valid = valid & self._finite(values)
        return Pixels(self.rendering.rgb(values, valid), valid)

    @cached_property
    def rendering(self) -> Rendering:
        """How this scene becomes RGB; a stretch is fitted on a sample of the whole scene at first use."""
        chosen = self._chosen
        return chosen.fitted(self._samples()) if chosen.wants_stretch else chosen

    @cached_property
    def _chosen(self) -> Rendering:
        data = self._dataset
        with gdal_calls(self.info.uri):
            return choose_rendering(
                dtype=data.dtypes[0],
                colours=[colour.name for colour in data.colorinterp],
                descriptions=data.descriptions,
                sensor=self.info.sensor,
                palette=data.colormap(1) if data.colorinterp[0] == ColorInterp.palette else None,
            )

    def _values(self, window: Window, size: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Raw pixels [bands, H, W] of the rendering's bands and their validity [H, W]."""
        data, bands = self._dataset, list(self._chosen.bands)
        alpha = self._alpha
        smaller = size[0] < window.height or size[1] < window.width
        how = Resampling.average if smaller else Resampling.bilinear
        options: dict[str, Any] = {
            "window": rasterio.windows.Window(window.x0, window.y0, window.width, window.height),
            "out_shape": size,
            "resampling": Resampling.nearest if self._chosen.palette is not None else how,
        }
        with gdal_calls(self.info.uri):
            wanted = [*bands, alpha] if alpha else bands
            values = data.read(wanted, **{**options, "out_shape": (len(wanted), *size)})
            if alpha:
                return values[:-1], self._finite(values[:-1]) & (values[-1] > 0)
            valid = self._finite(values)
            if MaskFlags.per_dataset in self._flags:
                valid &= data.read_masks(1, **{**options, "resampling": Resampling.nearest}) > 0
            return values, valid

    @cached_property
    def _alpha(self) -> int | None:
        colours = self._dataset.colorinterp
        return colours.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colours else None

    def _finite(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Pixels that are numbers in every band and not nodata in at least one.

        Unsigned integers without any stated nodata, alpha or mask: pixels that are 0 in every band are fill.
        """
        valid = np.ones(values.shape[1:], dtype=np.bool_)
        if values.dtype.kind == "f":
            np.isfinite(values).all(axis=0, out=valid)
        if self._fill is not None:
            valid &= (values != self._fill).any(axis=0)
        return valid

    @cached_property
    def _fill(self) -> float | None:
        nodata = self._dataset.nodata
        if nodata is not None:
            return float(nodata) if np.isfinite(nodata) else None
        plain = MaskFlags.all_valid in self._flags and self._chosen.palette is None
        return 0.0 if plain and np.dtype(self.info.dtype).kind == "u" else None

    @cached_property
    def blocks(self) -> NDArray[np.bool_] | None:
        """Which blocks of a tiled GeoTIFF hold data [rows, columns]; None where that is not known or all do.

        Cost: one look-up in the file's index per block, no pixels.
        """
        data = self._dataset
        if data.driver != "GTiff":
            return None
        high, wide = data.block_shapes[0]
        rows, columns = -(-data.height // high), -(-data.width // wide)
        band = self._chosen.bands[0]
        with gdal_calls(self.info.uri):
            present = np.array(
                [
                    [data.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band) is not None for x in range(columns)]
                    for y in range(rows)
                ]
            )
        return None if present.all() else present

    @property
    def is_tiled(self) -> bool:
        """Whether a block is narrower than the scene, so that part of a row can be read without all of it."""
        return bool(self._dataset.block_shapes[0][1] < self.info.width)

    def columns_with_data(self, strips: Sequence[Strip]) -> list[int]:
        """Those of the strips' common `xs` where a window touches a block that was written; all if nobody knows."""
        first, last = strips[0], strips[-1]
        if self.blocks is None:
            return list(first.xs)
        high, wide = self._dataset.block_shapes[0]
        written = self.blocks[first.y0 // high : -(-(last.y0 + last.height) // high)].any(axis=0)
        before = np.concatenate([[0], np.cumsum(written)])  # written block columns left of each block column
        xs = np.array(first.xs)
        return [int(x) for x in xs[before[-(-(xs + first.width) // wide)] > before[xs // wide]]]

    def _samples(self) -> NDArray[Any]:
        """Valid pixels [bands, N] of the whole scene, the same in every run."""
        kept: list[NDArray[Any]] = []
        for window, size in self._sample_windows():
            values, valid = self._values(window, size)
            kept.append(values[:, valid])
        samples = np.concatenate(kept, axis=1)
        if samples.shape[1] == 0:
            raise EmptySceneError(f"{self.info.uri!r} holds nothing but nodata")
        return samples

    def _sample_windows(self) -> list[tuple[Window, tuple[int, int]]]:
        info = self.info
        if self._dataset.overviews(1) or info.width * info.height <= DIRECT_SAMPLE_PIXELS:
            shrink = max(1.0, max(info.width, info.height) / SAMPLE_SIDE_PX)
            size = (max(1, round(info.height / shrink)), max(1, round(info.width / shrink)))
            return [(Window(0, 0, info.width, info.height), size)]
        side = min(SAMPLE_WINDOW_PX, info.width, info.height)
        spots = self._sample_spots(side)
        return [(Window(x, y, x + side, y + side), (side, side)) for x, y in spots]

    def _sample_spots(self, side: int) -> list[tuple[int, int]]:
        """Top left corners of sample windows, spread evenly over the blocks that hold data."""
        info = self.info
        if self.blocks is None or not self.blocks.any():
            n = round(SAMPLE_WINDOWS**0.5)
            xs, ys = np.linspace(0, info.width - side, n), np.linspace(0, info.height - side, n)
            return [(int(x), int(y)) for y in ys for x in xs]
        high, wide = self._dataset.block_shapes[0]
        held = np.argwhere(self.blocks)
        picks = held[np.unique(np.linspace(0, len(held) - 1, SAMPLE_WINDOWS).astype(int))]
        return [(min(int(x) * wide, info.width - side), min(int(y) * high, info.height - side)) for y, x in picks]


def _describe(dataset: Any, source: Source, mark: str, geo: Georeference | None) -> SceneInfo:
    path = Path(unquote(urlsplit(source.uri).path)) if is_url(source.uri) else Path(source.uri)
    tags = _tags(dataset)
    plain = SceneInfo(
        scene_id=hashlib.sha256(source.uri.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        uri=source.uri,
        name=path.name,
        fingerprint=mark,
        width=dataset.width,
        height=dataset.height,
        bands=dataset.count,
        dtype=dataset.dtypes[0],
        acquired=source.acquired or date_of(tags, path.stem),
        sensor=source.sensor or sensor_of(tags, path.name, path.parent.name),
    )
    frame = geo.frame(Window(0, 0, dataset.width, dataset.height)) if geo else None
    gsd_m = geo.gsd_m(dataset.width, dataset.height) if geo else None
    if frame is None or gsd_m is None:
        return plain
    return replace(
        plain,
        crs=_crs_name(dataset.crs),
        gsd_m=gsd_m,
        bbox_lonlat=frame.bbox_lonlat,
        footprint_lonlat=frame.footprint_lonlat,
    )


def _crs_name(crs: Any) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.to_wkt())


def _tags(dataset: Any) -> Mapping[str, str]:
    tags = {**dataset.tags(ns="IMAGERY"), **dataset.tags()}
    return {str(name).upper(): str(value) for name, value in tags.items()}
