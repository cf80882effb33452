"""Files beside a raster that GDAL reads with it: overviews, masks, metadata. Each must stay where the raster is.

GDAL opens whatever has the right name, so all of them are looked at before it: a link may not lead out of the reach,
overviews and masks must be TIFFs, `.aux.xml` must be what GDAL writes. Where nothing lies beside a raster GDAL is told
so and looks for nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from geoglot.errors import EmptySceneError, OutOfReachError, UnreadableSceneError
from geoglot.imagery.addresses import SUFFIXES
from geoglot.imagery.formats import driver_of_bytes, read_head
from geoglot.imagery.reach import Reach

RASTERS = (".ovr", ".msk")
"""Endings of overviews and masks."""
NOTES = ".aux.xml"
"""GDAL's own notes: statistics, georeference, metadata."""
NOTES_BYTES = 16 * 2**20
_NOTES_HEAD = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*\?>\s*)?(<!--.*?-->\s*)*<PAMDataset[\s/>]", re.DOTALL)
_SHARED = re.compile(r"(dim_|rpc|hdr).*|metadata\.dim|summary\.txt|.*_(mtl|rpc|metadata)\.(txt|xml)", re.IGNORECASE)
"""What metadata readers look for under other names than the raster's (GDAL 3.10, seen by strace)."""


@dataclass(frozen=True, slots=True)
class SideFile:
    """A file beside a raster.

    Attributes:
        path: Where.
        mark: Changes when its content may have changed.
    """

    path: Path
    mark: tuple[int, ...]

    @property
    def is_notes(self) -> bool:
        """Whether it is GDAL's own XML."""
        return self.path.name.lower().endswith(NOTES)

    @property
    def is_raster(self) -> bool:
        """Whether GDAL reads pixels from it."""
        return self.path.name.lower().endswith(RASTERS)


def side_files(path: Path, reach: Reach) -> tuple[SideFile, ...]:
    """What GDAL may read beside a local raster, each looked at by name, place and first bytes.

    Longest names first: an overview's own overview is looked at before it.

    Cost: one stat of the folder, and its listing when it has changed.

    Raises:
        OutOfReachError: One is a link that leads out, or a VRT or anything else that can name other files.
        SourceError, UnreadableSceneError: One cannot be read, or is a pipe or device.
    """
    folder = path.parent
    names = _listing(str(folder), folder.stat().st_mtime_ns)
    return tuple(_checked(folder / name, reach) for name in names if _belongs(name.lower(), path))


@lru_cache(32)
def _listing(folder: str, when: int) -> tuple[str, ...]:
    """Names in a folder that are not rasters themselves; `when` it was last changed makes the cache look again."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if os.path.splitext(e.name)[1].lower() not in SUFFIXES and not e.is_dir()]  # noqa: PTH122 - fast
    return tuple(sorted(names, key=lambda name: (-len(name), name)))


def _belongs(name: str, path: Path) -> bool:
    """Whether GDAL may look for a name, in small letters, when it opens the raster."""
    whole, stem = f"{path.name.lower()}.", f"{path.stem.lower()}."
    if name.startswith(whole) and name.removeprefix(whole).partition(".")[0] in ("ovr", "msk", "aux"):
        return True
    if any(name.startswith(start) and "." not in name.removeprefix(start) for start in (whole, stem)):
        return True
    return bool(_SHARED.fullmatch(name))


def _checked(path: Path, reach: Reach) -> SideFile:
    try:
        reach.check_file(path)
        found = path.stat()
    except OutOfReachError as error:
        raise OutOfReachError(f"beside the raster, {error}", hint=error.hint) from error
    except OSError as error:
        raise UnreadableSceneError(
            f"{str(path)!r}, beside the raster, cannot be read: {error.strerror}", hint="Move it away."
        ) from error
    head = read_head(str(path), 4096)
    _check_head(path, head, found.st_size)
    return SideFile(path, (found.st_ino, found.st_size, found.st_mtime_ns))


def _check_head(path: Path, head: bytes, size: int) -> None:
    name = path.name.lower()
    if name.endswith(RASTERS):
        try:
            fits = driver_of_bytes(str(path), head) == "GTiff"
        except (EmptySceneError, UnreadableSceneError):
            fits = False
    else:
        fits = not name.endswith(NOTES) or bool(_NOTES_HEAD.match(head) and size <= NOTES_BYTES)
    if not fits:
        raise OutOfReachError(
            f"{str(path)!r}, beside the raster, is not what its name says: it starts with {head[:16]!r}",
            hint="Move it away, or make it anew: rio overview --build auto SCENE.tif",
        )
