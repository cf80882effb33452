"""Which raster formats are read, told by a file's first bytes and not by its name."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import urlsplit

from geoglot.errors import EmptySceneError, OutOfReachError, SourceError, UnreadableSceneError
from geoglot.imagery.reach import Reach, given, is_url

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"II*\0", "GTiff"),
    (b"MM\0*", "GTiff"),
    (b"II+\0", "GTiff"),  # BigTIFF
    (b"MM\0+", "GTiff"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),  # bare codestream
)
HEAD_BYTES = 64

WHOLE_DRIVERS = frozenset({"PNG", "JPEG", "WEBP"})
"""Formats without tiles, decoded from the top to get at the bottom."""


def driver_of(uri: str, reach: Reach | None = None) -> str:
    """GDAL's name for the format; a COG is a GTiff. Asks a server for the first bytes, and so whether it sends parts.

    Raises:
        UnreadableSceneError: Not a format that is read, or on a server that only sends whole files.
        EmptySceneError: Zero bytes.
        OutOfReachError: On a server that may not be read.
        SourceError: The file is gone or may not be read, or the server cannot be reached.
    """
    if is_url(uri):
        from geoglot.imagery.remote_file import RemoteFile

        return driver_of_bytes(uri, RemoteFile(uri, reach or given(uri)).head)
    return driver_of_bytes(uri, read_head(uri))


def driver_of_bytes(uri: str, head: bytes) -> str:
    """GDAL's name for the format of a file that begins like this.

    VRT is refused: it can point at any file or address on the reader's machine.

    Raises:
        OutOfReachError: A VRT.
        UnreadableSceneError: Another format that is not read.
        EmptySceneError: Zero bytes.
    """
    suffix = Path(urlsplit(uri).path if is_url(uri) else uri).suffix.lower()
    if suffix == ".vrt" or head.lstrip().startswith(b"<VRTDataset"):
        raise OutOfReachError(
            f"{uri!r} is a VRT, which can point at any other file",
            hint="Write it out: rio convert mosaic.vrt mosaic.tif",
        )
    if not head:
        raise EmptySceneError(f"{uri!r} is an empty file", hint="Copy or download it again.")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    for signature, driver in _SIGNATURES:
        if head.startswith(signature):
            return driver
    raise UnreadableSceneError(
        f"{uri!r} is not a GeoTIFF, JPEG 2000, PNG, JPEG or WebP: it starts with {head[:8]!r}",
        hint="Is it what its name says?",
    )


def read_head(path: str, size: int = HEAD_BYTES) -> bytes:
    """The first bytes of a file.

    Raises:
        SourceError: It is gone, may not be read, or is a folder, pipe or device, which need not end.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise SourceError(f"{path!r} is no file", hint="Name a raster file.")
        with Path(path).open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise SourceError(f"cannot read {path!r}: {error.strerror}", hint="Check the file's permissions.") from error
