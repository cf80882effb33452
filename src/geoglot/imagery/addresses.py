"""Where one raster lies: a path or a URL, what is known of it before it is opened, and whether it has changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from geoglot.errors import SourceError
from geoglot.imagery.reach import Reach, given, is_url
from geoglot.imagery.remote import ask

SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".webp"})
"""Raster files that a folder listing takes. A file named outright may have any suffix; opening it tells."""


@dataclass(frozen=True, slots=True)
class Source:
    """A raster that may become a scene.

    Attributes:
        uri: Absolute path or http(s) URL.
        acquired: When it was taken, UTC, if the listing knows.
        sensor: Short lower-case name, if the listing knows.
        collection: STAC collection, if any.
    """

    uri: str
    acquired: datetime | None = None
    sensor: str | None = None
    collection: str | None = None


def fingerprint(uri: str, reach: Reach | None = None) -> str:
    """A short text that changes when the content may have changed.

    Local: size and modification time. Remote: ETag, Last-Modified and length from one HEAD request; a server that
    gives none of them makes the URL itself the fingerprint.

    Raises:
        OutOfReachError: On a server that may not be read.
        SourceError: The file is gone, or the server cannot be reached.
    """
    if is_url(uri):
        return _remote_fingerprint(uri, reach or given(uri))
    try:
        stat = Path(uri).stat()
    except OSError as error:
        raise SourceError(f"cannot look at {uri!r}: {error.strerror}", hint="Was the file moved or deleted?") from error
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _remote_fingerprint(url: str, reach: Reach) -> str:
    answer = ask(url, reach, method="HEAD", refused=(405, 501))  # the server does not do HEAD
    marks = [answer.headers.get(name, "") for name in ("ETag", "Last-Modified", "Content-Length")]
    text = "|".join(marks) if answer.status < 400 and any(marks) else url
    return hashlib.sha256(text.encode()).hexdigest()[:16]
