"""Files that a coordinate system names: grids and definitions, which PROJ opens as soon as it reads the name.

So the text is looked at before GDAL gets it: GeoTIFF's text tag, the boxes of a JPEG 2000, `.aux.xml`. Plain names stay
allowed (`@null`, `us_noaa_conus.tif`): PROJ looks for them in its own folders only.
"""

from __future__ import annotations

import html
import re
import struct
from collections.abc import Callable, Iterator

Read = Callable[[int, int], bytes]
"""(start, count) to the bytes of a file, fewer at its end."""

_PATH = re.compile(r'(?:,\s*"|"value"\s*:\s*"|grids\s*=|init\s*=)[^"|\s<]*[/\\~][^"|\s<]*', re.IGNORECASE)
"""A value with a slash, where WKT 1 and 2, PROJJSON and PROJ strings have names of files."""
_GEO_TEXT = 34_737
"""GeoAsciiParams (OGC GeoTIFF 1.1, 7.1)."""
_DIRECTORIES = 64
_TEXT_BYTES = 2**20


def path_in(crs: str) -> str | None:
    """The file that a coordinate system names by its path, with what stands before it; None where there is none."""
    match = _PATH.search(html.unescape(crs))
    return match[0] if match else None


def crs_text(driver: str, read: Read) -> str:
    """The text of a raster in which a coordinate system may stand. Cost: a few small reads."""
    if driver == "GTiff":
        return "\n".join(_tiff_texts(read))
    if driver == "JP2OpenJPEG":
        return "\n".join(_jp2_texts(read))
    return ""


def _tiff_texts(read: Read) -> Iterator[str]:
    """GeoAsciiParams of every directory. What is no TIFF has none, and GDAL will say so."""
    head = read(0, 16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    count_type, pointer, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
    try:
        (at,) = struct.unpack_from(order + pointer, head, 8 if big else 4)
        for _ in range(_DIRECTORIES):
            width = struct.calcsize(count_type)
            (count,) = struct.unpack(order + count_type, read(at, width))
            table = read(at + width, min(count, 65_535) * entry + struct.calcsize(pointer))
            for start in range(0, len(table) - entry + 1, entry):
                tag, _kind, length, where = struct.unpack_from(f"{order}HH{pointer}{pointer}", table, start)
                if tag == _GEO_TEXT:
                    yield read(where, min(length, _TEXT_BYTES)).decode("latin-1")
            (at,) = struct.unpack_from(order + pointer, table, min(count, 65_535) * entry)
            if not at:
                return
    except struct.error:
        return


def _jp2_texts(read: Read) -> Iterator[str]:
    """Boxes that are no codestream, as they are: the degenerate GeoTIFF of GeoJP2 and the XML of GMLJP2 stand there."""
    at = 0
    for _ in range(_DIRECTORIES):
        head = read(at, 16)
        if len(head) < 8:
            return
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        if kind != b"jp2c":
            yield read(at, min(length or _TEXT_BYTES, _TEXT_BYTES)).decode("latin-1")
        if length < 8:
            return
        at += length
