"""The files of a segmentation: class map, confidence, polygons, legend, picture, report.

| file | what |
|---|---|
| `classes.tif` | Cloud Optimized GeoTIFF, uint8: 0 background, 1 ... K classes, 255 nodata; palette and names inside |
| `classes.qml` | the same names and colours for QGIS, which takes it up by itself |
| `confidence.tif` | percent that the winner has of all that compete, 0 to 100; 255 nodata |
| `polygons.geojson`, `.gpkg`, `.parquet` | areas of each class, without background and nodata |
| `legend.json` | value, name, words, colour, presence, pixels, share, square metres |
| `picture.png` | for people: the scene, its class map over it, and the legend |
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from geoglot.errors import StorageError, UnknownNameError
from geoglot.imagery.scene import Scene
from geoglot.tasks.segment.classes import AskedClass
from geoglot.tasks.segment.decision import BACKGROUND, NODATA

VECTORS = ("geojson", "gpkg", "parquet")
LONGEST_PX = 900
"""Of each of the two halves."""
OPACITY = 0.62
"""How much of the class colour covers the scene."""
MARGIN, LINE, LETTER = 14, 26, 15
PAPER, INK = (255, 255, 255), (40, 40, 40)

Colour = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One value of a class map.

    Attributes:
        value: 0 background, 1 ... K.
        name: Of the class.
        words: What was asked.
        colour: "#rrggbb".
        presence: How sure it is that the scene shows it, in [0, 1]; None for the background.
        present: Whether it took part.
        pixels: How many are its.
        share: Of the pixels that hold data, in [0, 1].
        area_m2: At the scene's ground sample distance; None without one.
    """

    value: int
    name: str
    words: tuple[str, ...]
    colour: str
    presence: float | None
    present: bool
    pixels: int
    share: float
    area_m2: float | None


def make_legend(
    classes: Sequence[AskedClass],
    background: Sequence[str],
    presence: NDArray[np.float64],
    least: float,
    counts: NDArray[np.int64],
    gsd_m: float | None,
) -> tuple[LegendEntry, ...]:
    """The legend of a map.

    Args:
        classes: As asked for.
        background: Its words; none for a map that wanted no background.
        presence: [K].
        least: Presence below which a class took no part.
        counts: Pixels of each value, [256].
        gsd_m: Of the scene.
    """
    held = int(counts.sum() - counts[NODATA])

    def entry(value: int, one: AskedClass, there: float | None) -> LegendEntry:
        pixels = int(counts[value])
        area = pixels * gsd_m**2 if gsd_m else None
        present = bool(background) if there is None else there >= least
        return LegendEntry(
            value, one.name, one.words, _hex(palette(len(classes))[value]), None if there is None else round(there, 4),
            present, pixels, round(pixels / held, 6) if held else 0.0, None if area is None else round(area, 2),
        )  # fmt: skip

    none = entry(BACKGROUND, AskedClass("background", tuple(background)), None)
    return (none, *(entry(i, one, float(p)) for i, (one, p) in enumerate(zip(classes, presence, strict=True), start=1)))


def palette(classes: int) -> dict[int, Colour]:
    """A colour per value: grey background, transparent nodata, and hues a golden angle apart."""
    from geoglot.tasks.classify_area import class_colours

    hues = class_colours(classes)
    named = {value + 1: colour for value, colour in hues.items() if value < classes}
    return {BACKGROUND: (226, 226, 226, 255), **named, NODATA: (0, 0, 0, 0)}


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour[:3])


def check_vectors(formats: Sequence[str]) -> tuple[str, ...]:
    """Formats of polygons, each once.

    Raises:
        UnknownNameError: Another one.
    """
    for format in formats:
        if format not in VECTORS:
            raise UnknownNameError("vector format", format, VECTORS)
    return tuple(dict.fromkeys(formats))


def legend_properties(legend: Sequence[LegendEntry]) -> dict[int, dict[str, Any]]:
    """Value to what each polygon of it says; the background gets no polygons."""
    return {e.value: {"class": e.name, "value": e.value, "presence": e.presence} for e in legend if e.value}


def write_legend(json_file: Path, qml_file: Path, legend: Sequence[LegendEntry], about: dict[str, Any]) -> None:
    """The legend for programs and for QGIS.

    Raises:
        StorageError: They cannot be written.
    """
    body = {"nodata": NODATA, "classes": [asdict(entry) for entry in legend], **about}
    try:
        text = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
        json_file.write_text(text, encoding="utf-8")
        qml_file.write_text("\n".join(_qml(legend)) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {json_file}: {error}", hint="Check the folder and the free space.") from error


def _qml(legend: Sequence[LegendEntry]) -> Iterator[str]:
    """QGIS's layer style: a paletted renderer on band 1."""
    yield "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    yield '<qgis version="3.0" styleCategories="Symbology">'
    yield ' <pipe><rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1"><colorPalette>'
    for entry in legend:
        name, colour = quoteattr(entry.name), quoteattr(entry.colour)
        yield f'  <paletteEntry value="{entry.value}" label={name} color={colour} alpha="255"/>'
    yield " </colorPalette></rasterrenderer></pipe>"
    yield "</qgis>"


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
    over = (OPACITY * table[values] + (1 - OPACITY) * seen).astype(np.uint8)
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
