"""Rasters that try to reach what they were not given, and what would notice if one did.

Each form is built from nothing by `build(form, folder, aims)`: a raster `scene.tif` (or a remote twin of it), the files
beside it, and in them one of the aims: a file outside the folder, or an address on loopback.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

SIDE_PX = 600
"""Large enough that thumbnails and tiles look for overviews."""


@dataclass(frozen=True)
class Aims:
    """What must not be reached: a raster and a text outside the folder, and an address."""

    raster: Path
    text: Path
    url: str


def write_plain(path: Path, side: int = SIDE_PX, **tags: str) -> Path:
    """An ordinary GeoTIFF of three bands, near Seoul."""
    y, x = np.mgrid[:side, :side]
    pixels = np.stack([(x + y) % 200 + 20, x % 200 + 20, y % 200 + 20]).astype(np.uint8)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "tiled": True}
    place = {"crs": "EPSG:32652", "transform": from_origin(300_000, 4_000_000, 10, 10)}
    with rasterio.open(path, "w", **profile, **place, blockxsize=256, blockysize=256) as out:
        out.write(pixels)
        if tags:
            out.update_tags(**tags)
    return path


def _tagged(folder: Path, domain: str, **tags: str) -> Path:
    path = write_plain(folder / "scene.tif")
    with rasterio.open(path, "r+") as out:
        out.update_tags(ns=domain, **tags)
    return path


def vrt_of(target: str, side: int = SIDE_PX // 2) -> str:
    """A VRT whose pixels are those of another raster."""
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename>{target}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    return f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">{bands}</VRTDataset>'


def raw_vrt_of(target: Path, side: int = SIDE_PX // 2) -> str:
    """A VRT whose pixels are the bytes of any file: what reads a machine byte by byte."""
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{target}</SourceFilename>'
        f"<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>{side}</LineOffset></VRTRasterBand>"
        "</VRTDataset>"
    )


def _beside(folder: Path, ending: str, content: str | bytes | Path) -> Path:
    """`scene.tif` with a file beside it; a path becomes a link there."""
    path = write_plain(folder / "scene.tif")
    other = path.with_name(path.name + ending)
    if isinstance(content, Path):
        other.symlink_to(content)
    else:
        other.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _notes(folder: Path, domain: str, key: str, value: str) -> Path:
    text = f'<PAMDataset><Metadata domain="{domain}"><MDI key="{key}">{value}</MDI></Metadata></PAMDataset>'
    return _beside(folder, ".aux.xml", text)


def _overview_with_tag(folder: Path, target: str) -> Path:
    path = write_plain(folder / "scene.tif")
    small = write_plain(folder / "scene.tif.ovr", SIDE_PX // 2)
    with rasterio.open(small, "r+") as out:
        out.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=target)
    return path


def _grid(folder: Path, grid: str) -> Path:
    path = write_plain(folder / "scene.tif")
    wkt = (
        'GEOGCS["x",DATUM["x",SPHEROID["x",6378137,298.25],'
        f'EXTENSION["PROJ4_GRIDS","{grid}"]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
    )
    path.with_name("scene.tif.aux.xml").write_text(f"<PAMDataset><SRS>{wkt}</SRS></PAMDataset>")
    return path


def _keys(folder: Path, grid: Path) -> Path:
    """The same inside the raster, as Esri's text in the keys of a GeoTIFF."""
    path = folder / "scene.tif"
    wkt = (
        'PROJCS["x",GEOGCS["x",DATUM["D_x",SPHEROID["x",6378137,298.25],EXTENSION["PROJ4_GRIDS","nowhere"]],'
        'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Mercator_1SP"],'
        'PARAMETER["central_meridian",0],PARAMETER["scale_factor",1],PARAMETER["false_easting",0],'
        'PARAMETER["false_northing",0],UNIT["metre",1]]'
    ).replace("nowhere", str(grid))
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 3, "dtype": "uint8"}
    place = {"crs": wkt, "transform": from_origin(0, 0, 10, 10), "GEOTIFF_KEYS_FLAVOR": "ESRI_PE"}
    with rasterio.open(path, "w", **profile, **place) as out:
        out.write(np.full((3, 64, 64), 99, np.uint8))
    return path


def _linked_scene(folder: Path, target: Path) -> Path:
    path = folder / "scene.tif"
    path.symlink_to(target)
    return path


def _named(folder: Path, content: str) -> Path:
    path = folder / "scene.tif"
    path.write_text(content)
    return path


def _jp2(folder: Path, url: str) -> Path:
    """A JPEG 2000 whose GML box names its coordinate system by an address."""
    path = folder / "scene.tif"
    plain = write_plain(folder / "plain.tif", 64)
    with rasterio.open(plain) as source:
        profile = {"driver": "JP2OpenJPEG", "width": 64, "height": 64, "count": 3, "dtype": "uint8"}
        with rasterio.open(folder / "plain.jp2", "w", **profile) as out:
            out.write(source.read())
    plain.unlink()
    gml = (
        f'<gml:FeatureCollection xmlns:gml="http://www.opengis.net/gml"><gml:RectifiedGrid dimension="2" '
        f'srsName="{url}"><gml:origin><gml:Point srsName="{url}"><gml:pos>1 2</gml:pos></gml:Point></gml:origin>'
        f'<gml:offsetVector srsName="{url}">1 0</gml:offsetVector><gml:offsetVector srsName="{url}">0 1'
        "</gml:offsetVector></gml:RectifiedGrid></gml:FeatureCollection>"
    ).encode()

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), kind) + content

    inner = box(b"asoc", box(b"lbl ", b"gml.root-instance\0") + box(b"xml ", gml))
    content = (folder / "plain.jp2").read_bytes()
    at = content.index(b"jp2c") - 4
    path.write_bytes(content[:at] + box(b"asoc", box(b"lbl ", b"gml.data\0") + inner) + content[at:])
    (folder / "plain.jp2").unlink()
    for left in folder.glob("plain.*"):
        left.unlink()
    return path


Form = Callable[[Path, Aims], Path]
FORMS: dict[str, Form] = {
    "tag: raster": lambda f, a: _tagged(f, "OVERVIEWS", OVERVIEW_FILE=str(a.raster)),
    "tag: address": lambda f, a: _tagged(f, "OVERVIEWS", OVERVIEW_FILE=a.url),
    "tag: vsicurl": lambda f, a: _tagged(f, "OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{a.url}"),
    "tag: base": lambda f, a: _tagged(f, "OVERVIEWS", OVERVIEW_FILE=":::BASE:::../outside/secret.tif"),
    "tag: inline vrt": lambda f, a: _tagged(f, "OVERVIEWS", OVERVIEW_FILE=raw_vrt_of(a.text)),
    "tag: small letters": lambda f, a: _tagged(f, "overviews", overview_file=str(a.raster)),
    "tag: geolocation": lambda f, a: _tagged(f, "GEOLOCATION", X_DATASET=f"/vsicurl/{a.url}", Y_DATASET=str(a.raster)),
    "inline vrt": lambda f, a: _named(f, vrt_of(str(a.raster))),
    "inline vrt: vsicurl": lambda f, a: _named(f, vrt_of(f"/vsicurl/{a.url}")),
    "ovr: vrt": lambda f, a: _beside(f, ".ovr", vrt_of(str(a.raster))),
    "ovr: raw vrt": lambda f, a: _beside(f, ".ovr", raw_vrt_of(a.text)),
    "ovr: vsicurl": lambda f, a: _beside(f, ".ovr", vrt_of(f"/vsicurl/{a.url}")),
    "ovr: link": lambda f, a: _beside(f, ".ovr", a.raster),
    "ovr: capitals": lambda f, a: _beside(f, ".OVR", a.raster),
    "ovr: with a tag": lambda f, a: _overview_with_tag(f, f"/vsicurl/{a.url}"),
    "aux.xml: tag": lambda f, a: _notes(f, "OVERVIEWS", "OVERVIEW_FILE", str(a.raster)),
    "aux.xml: vsicurl": lambda f, a: _notes(f, "OVERVIEWS", "OVERVIEW_FILE", f"/vsicurl/{a.url}"),
    "aux.xml: vrt": lambda f, a: _beside(f, ".aux.xml", vrt_of(str(a.raster))),
    "aux.xml: link": lambda f, a: _beside(f, ".aux.xml", a.text),
    "aux.xml: crs by address": lambda f, a: _beside(f, ".aux.xml", f"<PAMDataset><SRS>{a.url}</SRS></PAMDataset>"),
    "aux.xml: grid": lambda f, a: _grid(f, str(a.text)),
    "aux.xml: grid, escaped": lambda f, a: _grid(f, "".join(f"&#{ord(sign)};" for sign in str(a.text))),
    "keys: grid": lambda f, a: _keys(f, a.text),
    "msk: vrt": lambda f, a: _beside(f, ".msk", vrt_of(str(a.raster), SIDE_PX)),
    "msk: vsicurl": lambda f, a: _beside(f, ".msk", vrt_of(f"/vsicurl/{a.url}", SIDE_PX)),
    "msk: link": lambda f, a: _beside(f, ".msk", a.raster),
    "link: scene": lambda f, a: _linked_scene(f, a.raster),
    "link: world file": lambda f, a: _beside(f, "w", a.text),
    "jp2: crs by address": lambda f, a: _jp2(f, a.url),
}
"""Name -> what builds it: (empty folder, aims) -> the raster."""
INERT = frozenset({"aux.xml: crs by address", "jp2: crs by address", "link: world file"})
"""Forms that GDAL does not follow: they may be read, as long as nothing is reached."""


def build(form: str, folder: Path, aims: Aims) -> Path:
    """The raster of a form, in a new folder."""
    folder.mkdir(parents=True)
    return FORMS[form](folder, aims)


class Listener:
    """A socket on loopback that takes every connection and notes it."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/secret.tif"
        self.heard: list[bytes] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            visitor.settimeout(0.5)
            try:
                self.heard.append(visitor.recv(200))
            except OSError:
                self.heard.append(b"")
            visitor.close()

    def close(self) -> None:
        self._socket.close()


class Watch:
    """Which files of a folder are opened, by inotify. Linux only."""

    _OPEN = 0x20

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(folder), self._OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def opened(self) -> list[str]:
        """Names of files that were opened since the last call; listing the folder does not count."""
        names = []
        while True:
            try:
                content = os.read(self._fd, 65_536)
            except BlockingIOError:
                return names
            at = 0
            while at < len(content):
                length = struct.unpack_from("iIII", content, at)[3]
                name = content[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                names += [name] if name else []
                at += 16 + length

    def close(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True)
class Trap:
    """A folder outside with secrets, watched, and a listener."""

    aims: Aims
    listener: Listener
    watch: Watch

    def sprung(self) -> list[str]:
        """What was reached since the last call."""
        heard = [f"request {part!r}" for part in self.listener.heard]
        self.listener.heard.clear()
        return heard + [f"opened {name}" for name in self.watch.opened()]


@contextmanager
def trap(folder: Path) -> Iterator[Trap]:
    """Secrets in `folder/outside`, and ears on loopback."""
    outside = folder / "outside"
    outside.mkdir(parents=True)
    raster = write_plain(outside / "secret.tif", SIDE_PX // 2)
    text = outside / "secret.txt"
    text.write_text("root:x:0:0 and the rest of it\n" * 9000)
    listener, watch = Listener(), Watch(outside)
    try:
        yield Trap(Aims(raster, text, listener.url), listener, watch)
    finally:
        listener.close()
        watch.close()
