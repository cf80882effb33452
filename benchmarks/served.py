"""What the server's benchmarks share: archives of random chips, and a server in a process of its own."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from geoglot.archive.store import Store
from geoglot.types import Bbox, Chip, SceneInfo, Window, chip_id

PER_SCENE = 100


def add_scenes(store: Store, first: int, count: int, seed: int = 1) -> None:
    """Scenes of PER_SCENE random chips each, numbered from `first`."""
    rng = np.random.default_rng([seed, first])
    for number in range(first, first + count):
        vectors = rng.standard_normal((PER_SCENE, store.manifest.dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        scene_id, west, south = f"{number:016x}", float(rng.uniform(-180, 178)), float(rng.uniform(-80, 79))
        made = [_chip(scene_id, i, west, south) for i in range(PER_SCENE)]
        name = f"random {number}.tif"
        info = SceneInfo(scene_id, f"/random/{name}", name, "1", 10_000, 100, 3, "uint8", "EPSG:4326", 10.0)
        store.replace_scene(info, made, vectors)


def _chip(scene_id: str, i: int, west: float, south: float) -> Chip:
    window = Window(i * 100, 0, i * 100 + 100, 100)
    b = Bbox(west + i / 100, south, west + i / 100 + 0.01, south + 0.01)
    ring = ((b.west, b.south), (b.east, b.south), (b.east, b.north), (b.west, b.north), (b.west, b.south))
    return Chip(chip_id(scene_id, window), scene_id, window, 1000.0, b, (ring,))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """`geoglot serve` on loopback, started and ready; its log goes to a file."""

    def __init__(self, archive: Path, state: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = (state.parent / f"{state.name}.log").open("ab")
        command = [sys.executable, "-m", "geoglot", "serve", f"bench={archive}", "--port", str(self.port)]
        self.process = subprocess.Popen([*command, "--state", str(state)], stderr=self._log, stdout=self._log)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), urlopen(f"{self.url}/ready", timeout=5):
                return
            time.sleep(0.1)
        raise SystemExit(f"the server did not start; see {self._log.name}")

    def memory_mb(self) -> tuple[float, float]:
        """(anonymous, resident) MiB; resident counts the mapped archive too, anonymous only what was allocated."""
        rows = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text("ascii").splitlines()
        found = {row.split()[0]: int(row.split()[1]) / 1024 for row in rows[1:]}
        return found["Anonymous:"], found["Rss:"]

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> float:
        """SIGTERM; seconds until it was gone."""
        started = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        return time.perf_counter() - started


@contextlib.contextmanager
def serving(archive: Path, state: Path) -> Iterator[Server]:
    """A server for the length of a block."""
    server = Server(archive, state)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
