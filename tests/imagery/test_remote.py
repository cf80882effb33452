"""Rasters on a web server."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from geoglot.errors import SourceError, UnreadableSceneError
from geoglot.imagery.formats import driver_of
from geoglot.imagery.scene import open_scene
from geoglot.types import Window


class Whole(SimpleHTTPRequestHandler):
    """Sends whole files, as Python's own server does."""

    def log_message(self, *args: object) -> None:
        pass


class Parts(Whole):
    """Sends the parts that are asked for."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.copyfile(io.BytesIO(part), self.wfile)


@contextmanager
def serving(folder: Path, handler: type[SimpleHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_a_remote_raster_is_read_in_parts(write_raster: Callable[..., Path], tmp_path: Path) -> None:
    path = write_raster(np.random.default_rng(1).integers(1, 255, (3, 40, 50)).astype(np.uint8), "été 1.tif")
    with serving(tmp_path, Parts) as server, open_scene(f"{server}/%C3%A9t%C3%A9%201.tif") as scene:
        far = scene.read(Window(0, 0, 50, 40)).rgb
        assert scene.info.name == "été 1.tif"
    with open_scene(path) as scene:
        assert np.array_equal(scene.read(Window(0, 0, 50, 40)).rgb, far)


def test_the_first_bytes_tell_a_remote_format_too(tmp_path: Path) -> None:
    (tmp_path / "photo.tif").write_bytes(b"\xff\xd8\xff and so on" * 9)
    (tmp_path / "login.tif").write_bytes(b"<html>please log in</html>" * 9)
    with serving(tmp_path, Parts) as server:
        assert driver_of(f"{server}/photo.tif") == "JPEG"
        with pytest.raises(UnreadableSceneError, match="starts with b'<html>"):
            driver_of(f"{server}/login.tif")


def test_a_server_of_whole_files_is_named_as_the_reason(write_raster: Callable[..., Path], tmp_path: Path) -> None:
    write_raster(np.ones((3, 40, 50), np.uint8), "a.tif")
    with serving(tmp_path, Whole) as server:
        with pytest.raises(UnreadableSceneError, match="whole files") as caught:
            open_scene(f"{server}/a.tif")
        assert "Download" in caught.value.hint
        with pytest.raises(SourceError, match="404"):
            driver_of(f"{server}/missing.tif")
    with pytest.raises(SourceError, match="cannot reach"):
        driver_of("http://127.0.0.1:9/a.tif")
