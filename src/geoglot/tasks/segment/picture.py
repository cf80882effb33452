"""A segmentation as one picture for people: the scene, its class map over it, and the legend."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from geoglot.errors import StorageError
from geoglot.imagery.scene import Scene
from geoglot.tasks.segment.files import LegendEntry

LONGEST_PX = 900
"""Of each of the two halves."""
OVER = 0.62
"""How much of the class colour covers the scene."""
MARGIN, LINE, LETTER = 14, 26, 15
PAPER, INK = (255, 255, 255), (40, 40, 40)


def write_picture(path: Path, scene: Scene, classes: Path, legend: Sequence[LegendEntry]) -> None:
    """Write a PNG.

    Args:
        path: The file.
        scene: Read through its overviews.
        classes: The class map, read through its own.
        legend: Its values; those without a pixel are left out, absent classes are named as absent.

    Raises:
        StorageError: It cannot be written.
    """
    info = scene.info
    shrink = max(1.0, max(info.width, info.height) / LONGEST_PX)
    size = (max(1, round(info.height / shrink)), max(1, round(info.width / shrink)))
    seen = scene.small(size).rgb
    values = _nearest(classes, size)
    table = np.full((256, 3), 255, np.uint8)
    for entry in legend:
        table[entry.value] = tuple(bytes.fromhex(entry.colour[1:]))
    over = (OVER * table[values] + (1 - OVER) * seen).astype(np.uint8)
    over[values == 255] = 255
    _save(path, _sheet(seen, over, legend))


def _nearest(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    import warnings

    from rasterio.errors import NotGeoreferencedWarning

    from geoglot.imagery.opening import open_raster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with open_raster(str(path)) as source:
            return np.asarray(source.read(1, out_shape=size))


def _sheet(seen: NDArray[np.uint8], over: NDArray[np.uint8], legend: Sequence[LegendEntry]) -> Image.Image:
    height, width = seen.shape[:2]
    shown = [entry for entry in legend if entry.pixels or entry.value]
    total = 2 * width + 3 * MARGIN
    columns = max(1, total // 260)
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (total, height + 2 * MARGIN + rows * LINE + MARGIN), PAPER)
    sheet.paste(Image.fromarray(seen), (MARGIN, MARGIN))
    sheet.paste(Image.fromarray(over), (2 * MARGIN + width, MARGIN))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=LETTER)
    for number, entry in enumerate(shown):
        row, column = divmod(number, columns)
        x, y = MARGIN + column * (total - 2 * MARGIN) // columns, height + 2 * MARGIN + row * LINE
        draw.rectangle((x, y + 3, x + 22, y + 19), fill=entry.colour, outline=INK)
        draw.text((x + 30, y + 2), _words(entry), fill=INK, font=font)
    return sheet


def _words(entry: LegendEntry) -> str:
    return f"{entry.name}  {entry.share:.1%}" if entry.present or not entry.value else f"{entry.name}  absent"


def _save(path: Path, sheet: Image.Image) -> None:
    try:
        sheet.save(path, compress_level=1, compress_type=zlib.Z_RLE)  # many times as quick, and hardly larger
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}", hint="Check the folder and the free space.") from error
