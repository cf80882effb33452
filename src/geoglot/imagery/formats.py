"""Which raster formats are read, told by a file's first bytes and not by its name."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from geoglot.errors import EmptySceneError, SourceError, UnreadableSceneError
from geoglot.imagery.addresses import TIMEOUT_S, is_url

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


def driver_of(uri: str) -> str:
    """GDAL's name for the format; a COG is a GTiff. Asks a server for the first bytes, and so whether it sends parts.

    VRT is refused: it can point at any file or address on the reader's machine.

    Raises:
        UnreadableSceneError: Not a format that is read, or on a server that only sends whole files.
        EmptySceneError: Zero bytes.
        SourceError: The file is gone or may not be read, or the server cannot be reached.
    """
    suffix = Path(urlsplit(uri).path if is_url(uri) else uri).suffix.lower()
    head = _remote_head(uri) if is_url(uri) else _head(uri)
    if suffix == ".vrt" or head.lstrip().startswith(b"<VRTDataset"):
        raise UnreadableSceneError(
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


def _head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise SourceError(f"cannot read {path!r}: {error.strerror}", hint="Check the file's permissions.") from error


def _remote_head(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Range": f"bytes=0-{HEAD_BYTES - 1}"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            if reply.status != 206:
                raise UnreadableSceneError(
                    f"the server of {url!r} only sends whole files (no HTTP range requests)",
                    hint="Download the file and index it from disk.",
                )
            return bytes(reply.read(HEAD_BYTES))
    except urllib.error.HTTPError as error:
        raise SourceError(f"{url!r} answers {error.code} {error.reason}", hint="Check the address.") from error
    except OSError as error:
        raise SourceError(f"cannot reach {url!r}: {error}", hint="Check the address and the network.") from error
