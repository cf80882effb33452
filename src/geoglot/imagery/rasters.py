"""Result rasters of one band: in Web Mercator (EPSG:3857), so that a map shows them as is, or on a scene's own grid."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import StorageError
from geoglot.types import Window

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


class BlockRaster:
    """A raster that is written block by block; see `block_raster`."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def write(self, window: Window, values: NDArray[Any]) -> None:
        """Write values [H, W] of a window."""
        from rasterio.windows import Window as Area

        self._dataset.write(values, 1, window=Area(window.x0, window.y0, window.width, window.height))


@contextmanager
def block_raster(
    path: Path,
    size: tuple[int, int],
    grid: tuple[str | None, Any],
    *,
    nodata: int,
    colours: Mapping[int, tuple[int, int, int, int]] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[BlockRaster]:
    """A uint8 raster to fill; when the block ends without an error it becomes a Cloud Optimized GeoTIFF at `path`.

    Memory does not depend on its size. What is not written is nodata. Overviews keep the commonest value of a palette's
    classes, and the mean of measurements.

    Args:
        path: The file.
        size: (height, width).
        grid: CRS as WKT, or None, and the affine transform.
        nodata: The value that stands for none.
        colours: A palette.
        tags: Name to text.

    Raises:
        StorageError: It cannot be written.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    height, width = size
    draft = path.with_name(f".{path.name}.draft.tif")
    profile: dict[str, Any] = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "uint8"}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "lzw", "bigtiff": "if_safer"}
    profile |= {"nodata": nodata, "crs": grid[0], "transform": grid[1] if grid[0] else None}
    how = "mode" if colours else "average"
    try:
        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=24 * 2**20):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(draft, "w", **profile) as out:
                if colours is not None:
                    out.write_colormap(1, dict(colours))
                out.update_tags(**(tags or {}))
                yield BlockRaster(out)
            options = {"compress": "deflate", "overview_resampling": how, "bigtiff": "if_safer", "num_threads": "2"}
            rasterio.shutil.copy(draft, path, driver="COG", **options)
    except (OSError, RasterioError) as error:
        raise StorageError(f"cannot write {path}: {error}", hint="Check the folder and the free space.") from error
    finally:
        draft.unlink(missing_ok=True)
