"""Where one raster lies: a path or a URL, what is known of it before it is opened, and whether it has changed."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from geoglot.errors import SourceError

SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".webp"})
"""Raster files that a folder listing takes. A file named outright may have any suffix; opening it tells."""

TIMEOUT_S = 20.0


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


def is_url(uri: str) -> bool:
    """True for http and https addresses."""
    return uri.startswith(("http://", "https://"))


def fingerprint(uri: str) -> str:
    """A short text that changes when the content may have changed.

    Local: size and modification time. Remote: ETag, Last-Modified and length from one HEAD request; a server that
    gives none of them makes the URL itself the fingerprint.

    Raises:
        SourceError: The file is gone, or the server cannot be reached.
    """
    if is_url(uri):
        return _remote_fingerprint(uri)
    try:
        stat = Path(uri).stat()
    except OSError as error:
        raise SourceError(f"cannot look at {uri!r}: {error.strerror}", hint="Was the file moved or deleted?") from error
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _remote_fingerprint(url: str) -> str:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            marks = [reply.headers.get(name, "") for name in ("ETag", "Last-Modified", "Content-Length")]
    except urllib.error.HTTPError as error:
        if error.code not in (405, 501):  # the server does not do HEAD
            raise SourceError(f"{url!r} answers {error.code} {error.reason}", hint="Check the address.") from error
        marks = []
    except OSError as error:
        raise SourceError(f"cannot reach {url!r}: {error}", hint="Check the address and the network.") from error
    text = "|".join(marks) if any(marks) else url
    return hashlib.sha256(text.encode()).hexdigest()[:16]
