"""Where scenes come from: folders, files, globs and STAC documents, listed before anything is opened."""

from __future__ import annotations

import glob
import hashlib
import os
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from geoglot.errors import SourceError
from geoglot.imagery.reach import Reach, given, is_url
from geoglot.imagery.remote import ask

SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".webp"})
"""Raster files that a folder listing takes. A file named outright may have any suffix; opening it tells."""

STAC_SUFFIXES = frozenset({".json", ".geojson"})


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


def find_sources(spec: str | Path, *, recursive: bool = True, reach: Reach | None = None) -> list[Source]:
    """List the rasters that a folder, file, glob or STAC document stands for.

    A folder lists raster suffixes only, and leaves out hidden files and side images: `a.mask.png` beside `a.tif`
    belongs to `a.tif`. A STAC item, collection or catalogue (file or URL) lists its data assets with their dates.

    Args:
        spec: Path, glob pattern or http(s) URL.
        recursive: Also list folders inside a folder. `**` in a glob is always recursive.
        reach: Where a STAC document, and what it links to, may be; by default its own folder or server, see `given`.

    Returns:
        Sources sorted and unique by uri; never empty.

    Raises:
        OutOfReachError: An address, or a link of a STAC document, leads where nothing may be read.
        SourceError: Nothing there, not readable, not STAC, or nothing in it is a raster.
    """
    text = os.fspath(spec)
    reach = reach or given(text)
    if is_url(text):
        return _finish(_from_url(text, reach), text)
    path = Path(text).expanduser()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise SourceError(
            f"cannot look at {text!r}: {error.strerror}", hint="Check the folder's permissions."
        ) from error
    if is_folder:
        return _finish((Source(str(p)) for p in _without_sidecars(_walk(path.resolve(), recursive))), text)
    if is_file:
        return _finish(_from_file(path.resolve(), reach), text)
    if glob.has_magic(text):
        return _finish(_from_glob(str(path)), text)
    raise SourceError(f"there is nothing at {text!r}", hint="Give a folder, a raster, a glob or a STAC document.")


def _finish(sources: Iterable[Source], spec: str) -> list[Source]:
    unique = {source.uri: source for source in sources}
    if not unique:
        raise SourceError(
            f"no rasters found in {spec!r}",
            hint=f"Looked for {', '.join(sorted(SUFFIXES))}; name another file outright.",
        )
    return [unique[uri] for uri in sorted(unique)]


def _from_url(url: str, reach: Reach) -> Iterable[Source]:
    suffix = Path(urllib.parse.urlsplit(url).path).suffix.lower()
    if suffix in SUFFIXES:
        return [Source(url)]
    from geoglot.imagery.stac import sources_of

    return sources_of(url, reach)


def _from_file(path: Path, reach: Reach) -> Iterable[Source]:
    if path.suffix.lower() not in STAC_SUFFIXES:
        return [Source(str(path))]
    from geoglot.imagery.stac import sources_of

    return sources_of(str(path), reach)


def _from_glob(pattern: str) -> Iterable[Source]:
    for name in glob.iglob(pattern, recursive=True):  # noqa: PTH207 (Path.glob takes no absolute pattern)
        path = Path(name).resolve()
        if path.suffix.lower() in SUFFIXES and os.path.isfile(path):  # noqa: PTH113 - what may not be seen is no match
            yield Source(str(path))


def _walk(folder: Path, recursive: bool) -> list[Path]:
    def fail(error: OSError) -> None:
        raise SourceError(
            f"cannot list {error.filename!r}: {error.strerror}", hint="Check the folder's permissions."
        ) from error

    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [f for f in folders if recursive and not f.startswith(".")]
        found += [Path(root, n) for n in names if not n.startswith(".") and Path(n).suffix.lower() in SUFFIXES]
    return found


def _without_sidecars(paths: list[Path]) -> list[Path]:
    """Drop masks and previews: `<scene>.<word>.png` beside `<scene>.<raster suffix>`."""
    stems = {path.with_suffix("") for path in paths}
    return [p for p in paths if not (Path(p.stem).suffix and p.with_suffix("").with_suffix("") in stems)]


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
