"""A factory of small rasters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine, from_origin

WriteRaster = Callable[..., Path]


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """write_raster(pixels [C, H, W], name=..., **profile) -> path; UTM zone 52 at 10 m unless told."""

    def write(
        pixels: NDArray[Any],
        name: str = "scene.tif",
        *,
        descriptions: tuple[str, ...] = (),
        tags: dict[str, str] | None = None,
        palette: dict[int, tuple[int, int, int, int]] | None = None,
        overviews: tuple[int, ...] = (),
        mask: NDArray[Any] | None = None,
        crs: str | None = "EPSG:32652",
        transform: Affine | None = from_origin(300_000, 4_000_000, 10, 10),  # noqa: B008 (immutable)
        **profile: Any,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        count, height, width = pixels.shape
        options = {"driver": "GTiff", "crs": crs, "transform": transform, **profile}
        if crs is None:
            options.pop("crs"), options.pop("transform")
        with rasterio.open(
            path, "w", width=width, height=height, count=count, dtype=pixels.dtype, **options
        ) as dataset:
            dataset.write(pixels)
            if descriptions:
                dataset.descriptions = descriptions
            if tags:
                dataset.update_tags(**tags)
            if palette:
                dataset.write_colormap(1, palette)
            if mask is not None:
                dataset.write_mask(mask)
        if overviews:
            with rasterio.open(path, "r+") as dataset:
                dataset.build_overviews(list(overviews), rasterio.enums.Resampling.average)
        return path

    return write


@pytest.fixture
def noise() -> Callable[..., NDArray[Any]]:
    """noise(bands, height, width, length=1): uint8 waves 1..255, `length` times 40 px long; the same in every run."""

    def make(bands: int, height: int, width: int, length: float = 1.0) -> NDArray[np.uint8]:
        y, x = np.mgrid[:height, :width]
        x, y = x / length, y / length
        waves = [128 + 60 * np.sin(x / (7 + 3 * b)) + 60 * np.cos(y / (11 + 2 * b)) for b in range(bands)]
        return np.clip(np.stack(waves), 1, 255).astype(np.uint8)

    return make
