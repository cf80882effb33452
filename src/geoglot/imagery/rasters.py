"""Result rasters: one band in Web Mercator (EPSG:3857), tiled and with overviews, so that a map shows them as is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import StorageError

BLOCK_PX = 256


def write_raster(
    path: Path,
    values: NDArray[Any],
    bounds_m: tuple[float, float, float, float],
    *,
    nodata: float,
    colours: Mapping[int, tuple[int, int, int, int]] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write values [H, W] as a GeoTIFF.

    Args:
        path: The file to write.
        values: uint8 classes or float32 measurements.
        bounds_m: (left, bottom, right, top) in EPSG:3857.
        nodata: The value that stands for none.
        colours: A palette, for uint8.
        tags: Name to text.

    Raises:
        StorageError: The file cannot be written.
    """
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError
    from rasterio.transform import from_bounds

    height, width = values.shape
    profile: dict[str, Any] = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": values.dtype}
    profile |= {"crs": "EPSG:3857", "transform": from_bounds(*bounds_m, width, height), "nodata": nodata}
    profile |= {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "compress": "deflate"}
    try:
        with rasterio.open(path, "w", **profile) as out:
            out.write(values, 1)
            if colours is not None:
                out.write_colormap(1, dict(colours))
            out.update_tags(**(tags or {}))
            how = Resampling.nearest if values.dtype == np.uint8 else Resampling.average
            factors = [2**i for i in range(1, 6) if max(width, height) >> i >= BLOCK_PX]
            if factors:
                out.build_overviews(factors, how)
    except (OSError, RasterioError) as error:
        raise StorageError(f"cannot write {path}: {error}", hint="Check the folder and the free space.") from error
