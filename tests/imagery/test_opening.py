"""No raster reaches what it was not given: each hostile form, and what is ordinary beside it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bombs import BOMBS
from geoglot.errors import GeoglotError, NotAllowedError, OutOfReachError, SceneTooLargeError
from geoglot.imagery.opening import FORMATS, open_raster
from geoglot.imagery.reach import Reach
from geoglot.imagery.scene import open_scene
from geoglot.imagery.tiles import scene_tile
from geoglot.types import Window
from hostile_rasters import FORMS, INERT, Trap, build, trap, write_plain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are watched by inotify")


@pytest.fixture
def laid(tmp_path: Path) -> Iterator[Trap]:
    with trap(tmp_path) as made:
        yield made


def look_at(path: str | Path, reach: Reach | None = None) -> None:
    """Everything that is done with a scene: header, mask, small and large pixels, a map tile."""
    with open_scene(path, reach=reach) as scene:
        side = scene.info.width
        scene.small((40, 40))
        scene.read(Window(0, 0, side, side), (side // 4, side // 4))
        scene.valid(Window(0, 0, 50, 50))
        if scene.info.gsd_m is not None:
            scene_tile(scene, 10, 873, 398)


@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_raster_is_refused_before_it_reaches_anything(form: str, laid: Trap, tmp_path: Path) -> None:
    path = build(form, tmp_path / "given", laid.aims)
    laid.sprung()
    if form in INERT:
        with contextlib.suppress(GeoglotError):
            look_at(path)
    else:
        with pytest.raises(GeoglotError):
            look_at(path)
    assert laid.sprung() == []


class Parts(SimpleHTTPRequestHandler):
    """A server of ordinary files that sends the parts that are asked for."""

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last or len(content)) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None


@pytest.mark.parametrize("form", FORMS)
def test_the_same_raster_on_a_server_reaches_nothing_else(form: str, laid: Trap, tmp_path: Path) -> None:
    """The server is allowed by name and port; the files of this machine and the listener on another port are not."""
    build(form, tmp_path / "given", laid.aims)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Parts, directory=str(tmp_path / "given"))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        laid.sprung()
        server = f"127.0.0.1:{http.server_port}"
        with contextlib.suppress(GeoglotError):
            look_at(f"http://{server}/scene.tif", reach=Reach(hosts=(server,)))
        opened_by_the_server = {"secret.tif"} if form == "link: scene" else set()
        assert {what for what in laid.sprung() if what.removeprefix("opened ") not in opened_by_the_server} == set()
        with pytest.raises(OutOfReachError, match="private network"):
            look_at(f"http://{server}/scene.tif", reach=Reach())
        http.shutdown()


def test_the_trap_springs_where_nothing_is_checked(laid: Trap, tmp_path: Path) -> None:
    for form in ("ovr: link", "msk: link", "tag: raster", "aux.xml: tag"):
        path = build(form, tmp_path / re.sub(r"\W", "", form), laid.aims)
        laid.sprung()
        with rasterio.open(path) as dataset:
            dataset.read(out_shape=(3, 50, 50))
            dataset.read_masks(1)
        assert laid.sprung(), form


def test_gdal_has_only_the_formats_that_are_needed() -> None:
    with rasterio.Env() as env:
        assert set(env.drivers()) <= FORMATS
        assert {"GTiff", "COG", "JP2OpenJPEG", "PNG", "JPEG", "WEBP"} <= set(env.drivers())


def test_gdal_makes_no_request_whatever_it_is_told(laid: Trap) -> None:
    from geoglot.imagery.opening import gdal_calls

    for name in (f"/vsicurl/{laid.aims.url}", f"/vsicurl?url={laid.aims.url}", laid.aims.url):
        with pytest.raises(GeoglotError), gdal_calls(name):
            rasterio.open(name)
    assert laid.sprung() == []


def test_ordinary_files_beside_a_raster_are_used(tmp_path: Path) -> None:
    plain, rich = write_plain(tmp_path / "plain.tif"), write_plain(tmp_path / "rich.tif")
    with rasterio.Env(TIFF_USE_OVR="YES"), rasterio.open(rich, "r+") as out:
        out.build_overviews([2, 4], rasterio.enums.Resampling.average)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(rich, "r+") as out:
        mask = np.full((600, 600), 255, np.uint8)
        mask[:100] = 0
        out.write_mask(mask)
    notes = '<PAMDataset><Metadata><MDI key="ACQUISITIONDATETIME">2021-05-06T07:08:09Z</MDI></Metadata></PAMDataset>'
    (tmp_path / "rich.tif.aux.xml").write_text(notes)
    assert {path.name for path in tmp_path.glob("rich.tif.*")} == {"rich.tif.ovr", "rich.tif.msk", "rich.tif.aux.xml"}
    with open_scene(rich) as scene:
        assert scene._dataset.overviews(1) == [2, 4]
        assert scene.info.acquired is not None
        assert scene.info.acquired.year == 2021
        valid = scene.valid(Window(0, 0, 600, 600))
        assert not valid[:100].any()
        assert valid[100:].all()
        far = scene.read(Window(0, 0, 600, 600), (150, 150)).rgb
    with open_scene(plain) as scene:
        near = scene.read(Window(0, 0, 600, 600), (150, 150)).rgb
    assert np.abs(far[30:].astype(int) - near[30:]).max() <= 2


def test_links_stay_inside_unless_a_root_says_otherwise(laid: Trap, tmp_path: Path) -> None:
    link = build("link: scene", tmp_path / "given", laid.aims)
    with pytest.raises(OutOfReachError, match="lies outside"):
        open_scene(link)
    with open_scene(link, reach=Reach((laid.aims.raster.parent,))) as scene:
        assert scene.info.width == 300
    inner = tmp_path / "folder"
    (inner / "deep").mkdir(parents=True)
    write_plain(inner / "deep" / "real.tif", 64)
    (inner / "near.tif").symlink_to(inner / "deep" / "real.tif")
    with open_scene(inner / "near.tif") as scene:
        assert scene.info.width == 64


def test_a_neighbours_side_files_do_not_matter(laid: Trap, tmp_path: Path) -> None:
    build("ovr: link", tmp_path / "given", laid.aims)
    other = write_plain(tmp_path / "given" / "scene2.tif", 64)
    named = write_plain(tmp_path / "given" / "scene", 64)
    laid.sprung()
    look_at(other)
    with pytest.raises(OutOfReachError, match=r"scene\.tif\.ovr"):
        look_at(tmp_path / "given" / "scene.tif")
    open_scene(named).close()
    assert laid.sprung() == []


def test_a_side_file_that_appears_later_is_looked_at(laid: Trap, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    path = write_plain(tmp_path / "given" / "scene.tif")
    look_at(path)
    (tmp_path / "given" / "scene.tif.ovr").symlink_to(laid.aims.raster)
    laid.sprung()
    with pytest.raises(OutOfReachError):
        look_at(path)
    assert laid.sprung() == []


def test_pipes_and_devices_are_no_scenes(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "scene.tif")
    (tmp_path / "zero.tif").symlink_to("/dev/zero")
    for name in ("scene.tif", "zero.tif"):
        with pytest.raises(GeoglotError):
            open_scene(tmp_path / name)
    write_plain(tmp_path / "plain.tif", 64)
    os.mkfifo(tmp_path / "plain.tif.ovr")
    with pytest.raises(GeoglotError):
        open_scene(tmp_path / "plain.tif")


PRIVATE = [
    "http://127.0.0.1:9/a.tif",
    "http://[::1]/a.tif",
    "http://[::ffff:127.0.0.1]/a.tif",
    "http://[64:ff9b::7f00:1]/a.tif",
    "http://[2002:7f00:1::]/a.tif",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/a.tif",
    "http://192.168.1.1/a.tif",
    "http://100.64.0.1/a.tif",
    "http://0.0.0.0/a.tif",
    "http://2130706433/a.tif",
    "http://0x7f.1/a.tif",
    "http://localhost/a.tif",
    "http://user@127.0.0.1/a.tif",
    "http://224.0.0.1/a.tif",
    "http://[fe80::1]/a.tif",
    "http://[fd00::1]/a.tif",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused_in_every_writing(url: str) -> None:
    with pytest.raises(NotAllowedError):
        Reach().check(url)
    with pytest.raises(NotAllowedError):
        open_raster(url, Reach())


def test_a_source_of_code_opens_rasters_in_one_place_only() -> None:
    source = Path(__file__).resolve().parents[2] / "src" / "geoglot"
    opens = re.compile(r"rasterio\.open\((?![^)]*\"(w|r\+)\")")
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if opens.search(path.read_text("utf-8"))}
    assert {name for name in found if "sandbox" not in name} == {"imagery/opening.py"}


def test_too_many_bands_are_refused(tmp_path: Path) -> None:
    write_plain(tmp_path / "a.tif", 16)
    with rasterio.open(tmp_path / "many.tif", "w", driver="GTiff", width=2, height=2, count=1500, dtype="uint8") as out:
        out.write(np.zeros((1500, 2, 2), np.uint8))
    with pytest.raises((SceneTooLargeError, GeoglotError), match="band"):
        open_scene(tmp_path / "many.tif")


LOOK = """
import sys
from pathlib import Path
from geoglot.errors import GeoglotError
from geoglot.imagery.scene import open_scene

try:
    with open_scene(sys.argv[1]) as scene:
        scene.small((40, 40))
except GeoglotError:
    pass
print([line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")][0])
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_stays_small_in_memory(bomb: str, tmp_path: Path) -> None:
    """The peak of a process of its own that opens it and reads it small, MB."""
    path = tmp_path / "bomb.tif"
    BOMBS[bomb](path)
    done = subprocess.run([sys.executable, "-c", LOOK, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 < 300
