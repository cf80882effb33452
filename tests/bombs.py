"""Rasters that are small as files and huge when they are decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import rasterio


def tiff(
    width: int, height: int, bands: int, strip: bytes, *, rows: int | None = None, tags: dict[int, int] | None = None
) -> bytes:
    """A little-endian TIFF of 8-bit values, pixel by pixel, of which every strip is the same deflated bytes."""
    rows = rows or height
    count = -(-height // rows)
    entries = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: bands, 278: rows, 284: 1, **(tags or {})}
    body = b"II*\0" + struct.pack("<I", 8)
    table_bytes = 2 + 12 * (len(entries) + 2) + 4
    arrays = 8 + table_bytes
    offsets = struct.pack(f"<{count}I", *[arrays + 8 * count] * count)
    sizes = struct.pack(f"<{count}I", *[len(strip)] * count)
    fields = {tag: (4, 1, struct.pack("<I", value)) for tag, value in entries.items()}
    fields[273] = (4, count, offsets if count == 1 else struct.pack("<I", arrays))
    fields[279] = (4, count, sizes if count == 1 else struct.pack("<I", arrays + 4 * count))
    table = b"".join(struct.pack("<HHI", tag, kind, n) + value for tag, (kind, n, value) in sorted(fields.items()))
    return body + struct.pack("<H", len(fields)) + table + struct.pack("<I", 0) + offsets + sizes + strip


def many_bands(path: Path) -> None:
    """65,535 bands of 64 x 64 pixels: 268 MB to be decoded at once."""
    path.write_bytes(tiff(64, 64, 65_535, zlib.compress(bytes(2**20))))


def deflate(path: Path) -> None:
    """One strip of 7,000 x 7,000 pixels in four bands: 196 MB out of 190 kB."""
    packer = zlib.compressobj(9)
    strip = b"".join(packer.compress(bytes(7_000 * 4)) for _ in range(7_000)) + packer.flush()
    path.write_bytes(tiff(7_000, 7_000, 4, strip))


def deflate_strips(path: Path) -> None:
    """The same in strips of one row, which are harmless one by one."""
    path.write_bytes(tiff(7_000, 7_000, 4, zlib.compress(bytes(7_000 * 4)), rows=1))


def jpeg2000(path: Path) -> None:
    """7,000 x 7,000 pixels in one tile, all alike."""
    import numpy as np

    profile = {"driver": "JP2OpenJPEG", "width": 7_000, "height": 7_000, "count": 1, "dtype": "uint8"}
    options = {"BLOCKXSIZE": 8_192, "BLOCKYSIZE": 8_192, "QUALITY": 1, "RESOLUTIONS": 1}
    with rasterio.open(path, "w", **profile, **options) as out:
        out.write(np.full((1, 7_000, 7_000), 77, np.uint8))


def jpeg2000_header(path: Path) -> None:
    """A small JPEG 2000 that declares 60,000 x 60,000 pixels in one tile."""
    import numpy as np

    with rasterio.open(path, "w", driver="JP2OpenJPEG", width=64, height=64, count=1, dtype="uint8") as out:
        out.write(np.full((1, 64, 64), 77, np.uint8))
    content = path.read_bytes()
    small, large = struct.pack(">II", 64, 64), struct.pack(">II", 60_000, 60_000)
    path.write_bytes(content.replace(small, large))


def png(path: Path) -> None:
    """A PNG of 30,000 x 30,000 pixels of one colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b""))


BOMBS: dict[str, Callable[[Path], None]] = {
    "65,535 bands": many_bands,
    "deflate, one strip": deflate,
    "deflate, strips": deflate_strips,
    "JPEG 2000": jpeg2000,
    "JPEG 2000, header": jpeg2000_header,
    "PNG": png,
}
"""Name -> what writes it."""
