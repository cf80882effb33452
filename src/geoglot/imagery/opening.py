"""What may be opened. Every raster that is read passes through here, and can then lead nowhere else.

GDAL can be made to open other files and addresses by what a raster says (tags, coordinate systems), by what lies
beside it, and by formats that consist of references. So: of GDAL's formats only those that are read or written stay
registered; the format is told by the first bytes; files beside a raster are looked at first (`side_files`); GDAL makes
no requests (`remote_file` reads for it, within the reach); and a raster that names another file is refused before
anything of it is read. SECURITY.md has the list of ways and what stops each.
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio import _env
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoglot.errors import OutOfReachError, UnreadableSceneError
from geoglot.imagery.crs_files import Read, crs_text, path_in
from geoglot.imagery.formats import driver_of_bytes, read_head
from geoglot.imagery.limits import MAX_BANDS, Limits, check_blocks, check_size
from geoglot.imagery.reach import Reach, given, is_url
from geoglot.imagery.side_files import SideFile, side_files

CACHE_BYTES = 24 * 2**20
"""GDAL's block cache: thirty RGB tiles of 512 px, more than neighbouring patches share."""

FORMATS = frozenset({"GTiff", "COG", "JP2OpenJPEG", "PNG", "JPEG", "WEBP", "MEM", "Memory", "VRT", "GPKG"})
"""What stays registered: formats that are read; COG is written; rasterio computes through MEM, Memory (outlines) and
VRT, which are never opened from a file; pyogrio writes GPKG, and may share the library."""

_OTHER_FILES = {"OVERVIEWS": ("OVERVIEW_FILE",), "GEOLOCATION": ("X_DATASET", "Y_DATASET")}
"""Domains and names of tags by which GDAL opens another file."""
_SEEN = 4096


def _narrow() -> None:
    """Take all other formats away from GDAL, for this process. A format that is not there opens nothing."""
    gdal = ctypes.CDLL(_env.__file__)
    gdal.GDALGetDriver.restype = ctypes.c_void_p
    gdal.GDALGetDriverShortName.restype = ctypes.c_char_p
    gdal.GDALGetDriverShortName.argtypes = gdal.GDALDeregisterDriver.argtypes = (ctypes.c_void_p,)
    with rasterio.Env():  # registers all
        for number in reversed(range(gdal.GDALGetDriverCount())):
            driver = gdal.GDALGetDriver(number)
            if gdal.GDALGetDriverShortName(driver).decode() not in FORMATS:
                gdal.GDALDeregisterDriver(driver)


_narrow()


@contextmanager
def gdal_calls(uri: str, *, alone: bool = False) -> Iterator[None]:
    """GDAL's settings for some calls, and its errors as ours.

    Args:
        uri: What the calls are about.
        alone: Opens a raster that has nothing beside it: nothing is looked for there, now or later.
    """
    options: dict[str, Any] = {
        "GDAL_CACHEMAX": CACHE_BYTES,
        # Never lists a folder; looks for .ovr, .msk and .aux.xml by name where there is something.
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR" if alone or is_url(uri) else "TRUE",
        "GDAL_MAX_BAND_COUNT": MAX_BANDS,
        # No request: of all addresses GDAL may read this one.
        "CPL_VSIL_CURL_ALLOWED_FILENAME": "/vsicurl/none",
        "PROJ_NETWORK": "OFF",
        # A cut-off JPEG is an error, not a picture with a grey bottom.
        "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
        # GDAL's short cut for whole PNGs does not notice that the end is missing.
        "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    }
    try:
        with rasterio.Env(**options), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except (RasterioError, CPLE_BaseError, MemoryError) as error:
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        if "/vsiriopener_" in reason:  # rasterio's name for what is read through `remote_file`
            reason = "the server does not send what was asked for, or it is damaged"
        raise UnreadableSceneError(f"cannot read {uri!r}: {reason}", hint="The file is damaged or cut off.") from error


def open_raster(uri: str, reach: Reach | None = None, limits: Limits | None = None) -> Any:
    """Open a raster for reading; gives rasterio's dataset, which leads to no other file. Close it.

    Cost: reads headers only. A file that has not changed since is not looked at as closely again.

    Args:
        uri: Path or http(s) address.
        reach: Where it, and what lies beside it, may be; by default its own folder or server, see `given`.
        limits: How large it may be.

    Raises:
        OutOfReachError: It lies outside the reach, or leads there.
        UnreadableSceneError: Corrupt, mislabelled, not an accepted format, or pixels that are not numbers.
        EmptySceneError: The file is empty or the raster has no pixels.
        SceneTooLargeError: Over a limit.
        SourceError: The file is gone, or the server does not answer.
    """
    limits, reach = limits or Limits(), reach or given(uri)
    if is_url(uri):
        return _open_remote(uri, reach, limits)
    path = Path(uri)
    reach.check_file(path)
    driver = driver_of_bytes(uri, read_head(uri))
    beside = side_files(path, reach)
    found = path.stat()
    key = (uri, found.st_ino, found.st_size, found.st_mtime_ns, beside, limits)
    if key not in _seen:
        _check_crs(crs_text(driver, _reader_of(path)), uri)
        for side in beside:
            _look_at_side(side, limits)
    with gdal_calls(uri, alone=not beside):
        return _admitted(path, uri, limits, key, driver=driver)


def _open_remote(url: str, reach: Reach, limits: Limits) -> Any:
    from geoglot.imagery.remote_file import RemoteFile, opener_of

    file = RemoteFile(url, reach)
    driver = driver_of_bytes(url, file.head)
    _check_crs(crs_text(driver, file.read), url)
    with gdal_calls(url):
        return _admitted(url, url, limits, (url, file.mark, limits), driver=driver, opener=opener_of(file))


def _look_at_side(side: SideFile, limits: Limits) -> None:
    """An overview or mask is a raster as well: all that holds for a raster holds for it."""
    uri = str(side.path)
    if side.is_notes:
        _check_crs(side.path.read_text("utf-8", "replace"), uri)
    if not side.is_raster:
        return
    _check_crs(crs_text("GTiff", _reader_of(side.path)), uri)
    with gdal_calls(uri):
        _admitted(side.path, uri, limits, (uri, side.mark, limits), driver="GTiff").close()


def _reader_of(path: Path) -> Read:
    def read(start: int, count: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(count)

    return read


def _admitted(name: str | Path, uri: str, limits: Limits, key: Any, **options: Any) -> Any:
    """Open, and give back only what leads nowhere else and is within the limits, its overviews included."""
    dataset = rasterio.open(name, **options)
    try:
        _check_tags(dataset, uri)
        check_size(dataset, uri, limits)
        if key not in _seen:
            for level in range(len(dataset.overviews(1))):
                with rasterio.open(name, overview_level=level, **options) as overview:
                    check_blocks(overview, uri, limits)
            _seen.add(key)
        return dataset
    except BaseException:
        dataset.close()
        raise


def _check_tags(dataset: Any, uri: str) -> None:
    """Refuse a raster that names other files. Reads only what GDAL has read already."""
    for domain, names in _OTHER_FILES.items():
        tags = {name.upper(): value for name, value in dataset.tags(ns=domain).items()}
        for name in names:
            if name in tags:
                raise _names_other(uri, f"{name} {tags[name][:200]!r}")
    for crs in (dataset.crs, dataset.gcps[1]):
        _check_crs(crs.to_wkt() if crs else "", uri)


def _check_crs(text: str, uri: str) -> None:
    if path := path_in(text):
        raise _names_other(uri, f"a coordinate system with {path[:200]!r}")


def _names_other(uri: str, what: str) -> OutOfReachError:
    return OutOfReachError(
        f"{uri!r} names another file, by {what}",
        hint="Write it out without: rio convert in.tif out.tif",
    )


class _Seen:
    """What was looked at closely and found good: the newest, by name and mark. Safe between threads."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Any, None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Any) -> bool:
        return key in self._keys

    def add(self, key: Any) -> None:
        with self._lock:
            self._keys[key] = None
            if len(self._keys) > _SEEN:
                self._keys.popitem(last=False)


_seen = _Seen()
