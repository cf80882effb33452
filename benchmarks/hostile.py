"""A running server under hostile rasters and hostile requests.

    python benchmarks/hostile.py                                      # 1,000 rasters and 1,000 requests
    python benchmarks/hostile.py --rasters 50 --requests 200

Loopback only. The rasters are the forms of `tests/hostile_rasters.py` and the bombs of `tests/bombs.py`, most of them
mutated (bytes changed, cut, doubled, moved; the seed is fixed). Each is sent to POST /pictures; every tenth also takes
the place of an indexed scene, whose thumbnail and tile are asked for. The requests are broken HTTP, huge or odd
parameters, paths that climb, foreign origins, wrong types. Files outside the scenes' folder are watched by inotify, and
a socket on loopback listens. Reported: statuses, the largest resident memory, what was reached. Exits 1 on a crash, an
answer of 500 or more, more than 600 MB, or anything reached. Linux only.
"""

from __future__ import annotations

import argparse
import collections
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx2
from served import Server, serving
from stand_in import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from bombs import BOMBS
from geoglot.archive.ingest import ingest
from geoglot.models.load import load_encoder
from hostile_rasters import FORMS, Trap, build, trap, write_plain

MOST_MB = 600
Statuses = collections.Counter[int]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The same with some bytes changed, cut off, doubled or moved."""
    out = bytearray(content)
    for _ in range(rng.randrange(1, 12)):
        at = rng.randrange(min(len(out), 4096) if rng.random() < 0.7 else len(out))
        out[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    way = rng.random()
    if way < 0.15:
        del out[rng.randrange(len(out)) :]
    elif way < 0.3:
        at = rng.randrange(len(out))
        out[at:at] = out[at : at + rng.randrange(1, 200)]
    return bytes(out) or b"\0"


def originals(folder: Path, laid: Trap) -> list[bytes]:
    """Every form and bomb once."""
    made = [build(form, folder / str(number), laid.aims).read_bytes() for number, form in enumerate(FORMS)]
    for number, bomb in enumerate(BOMBS.values()):
        bomb(folder / f"bomb-{number}.tif")
        made.append((folder / f"bomb-{number}.tif").read_bytes())
    return made


def send_rasters(url: str, count: int, scene: Path, here: str, laid: Trap, folder: Path) -> Statuses:
    """Uploads, and every tenth in the place of a scene of the archive."""
    rng, seen = random.Random(13), Statuses()
    made = originals(folder, laid)
    laid.sprung()
    with httpx2.Client(base_url=url, timeout=300) as http:
        for number in range(count):
            content = rng.choice(made) if number >= len(made) else made[number]
            content = content if number < len(made) else mutated(content, rng)
            seen[http.post("/pictures", files={"file": ("x.tif", content)}).status_code] += 1
            if number % 10 == 0:
                shutil.rmtree(scene.parent)
                build(rng.choice(list(FORMS)), scene.parent, laid.aims)
                laid.sprung()  # making it touches what is watched
                for what in ("thumbnail.webp", "tiles/WebMercatorQuad/10/873/398.png"):
                    seen[http.get(f"{here}/{what}").status_code] += 1
    return seen


PATHS = ("/search", "/pictures", "/tasks/segment", "/jobs/x", "/collections/bench/items", "/", "/page/")
CLIMBS = (
    "",
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "?q=" + "x" * 9000,
    "?limit=-1&bbox=nan,inf,1e999,2",
    "?token=%00%ff",
    "?image=file:///etc/passwd",
    "?like=*",
)
BODIES = (
    b"",
    b"{",
    b"[" * 50_000,
    b'{"q": "\\ud800"}',
    b'{"limit": 1e308}',
    b"\xff" * 999,
    b'{"q":[{}]}',
    b'{"collection":"bench","scene":"/etc/passwd","text":["x"]}',
)
HEADERS = (
    "Origin: https://evil.example",
    "Sec-Fetch-Site: cross-site",
    "X-API-Key: \x1b[31m",
    "Cookie: geoglot_key=;;;=",
    "Content-Type: application/json",
    "Content-Type: multipart/form-data; boundary=",
    "Range: bytes=9-1",
    "X-Forwarded-For: 10.0.0.1",
    "Accept-Language: " + "x" * 5000,
    "Expect: 100-continue",
)


def hostile_request(rng: random.Random) -> bytes:
    """One request, as bytes; most are no HTTP that anybody means."""
    method, body = rng.choice(("GET", "POST", "DELETE", "PUT", "TRACE", "BREW")), rng.choice(BODIES)
    host = rng.choice(("127.0.0.1", "evil.example", "localhost"))
    length = rng.choice((len(body), len(body), 10**12, -5))
    headers = [
        f"Host: {host}",
        "Connection: close",
        *rng.sample(HEADERS, rng.randrange(5)),
        f"Content-Length: {length}",
    ]
    head = f"{method} {rng.choice(PATHS)}{rng.choice(CLIMBS)} HTTP/1.1\r\n" + "\r\n".join(headers) + "\r\n\r\n"
    whole = head.encode("latin-1") + body
    return whole if rng.random() < 0.8 else mutated(whole, rng)


def send_requests(port: int, count: int) -> Statuses:
    """Raw requests; 0 stands for a connection that the server closed without an answer."""
    rng, seen = random.Random(31), Statuses()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            try:
                line.sendall(hostile_request(rng))
                line.shutdown(socket.SHUT_WR)
                words = line.recv(100).split()
            except OSError:
                words = []
            seen[int(words[1]) if len(words) > 1 and words[1].isdigit() else 0] += 1
    return seen


def watch_memory(server: Server, until: threading.Event, most: list[float]) -> None:
    """The largest resident memory, looked at ten times a second."""
    while not until.wait(0.1):
        most[0] = max(most[0], server.memory_mb()[1])


def main() -> int:
    """Run it; 1 when the server failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rasters", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as text, trap(Path(text)) as laid:
        folder = Path(text)
        (folder / "scenes" / "one").mkdir(parents=True)
        scene = write_plain(folder / "scenes" / "one" / "scene.tif")
        ingest(folder / "archive", folder / "scenes", load_encoder())
        with serving(folder / "archive", folder / "state") as server:
            most, ended = [0.0], threading.Event()
            watch = threading.Thread(target=watch_memory, args=(server, ended, most), daemon=True)
            watch.start()
            started = time.perf_counter()
            found = httpx2.get(f"{server.url}/collections/bench/scenes").json()["features"][0]["id"]
            here = f"/collections/bench/scenes/{found}"
            rasters = send_rasters(server.url, asked.rasters, scene, here, laid, folder / "made")
            requests = send_requests(server.port, asked.requests)
            alive = httpx2.get(f"{server.url}/health").status_code == 200 and server.process.poll() is None
            ended.set()
            watch.join()
            reached = laid.sprung()
            print(machine())
            print(f"{asked.rasters} rasters: {dict(sorted(rasters.items()))}")
            print(f"{asked.requests} requests: {dict(sorted(requests.items()))}; 0 is a closed connection")
            seconds = time.perf_counter() - started
            print(f"largest resident memory {most[0]:.0f} MB, {seconds:.0f} s; reached: {reached or 'nothing'}")
        failed = sum(n for status, n in (rasters + requests).items() if status >= 500)
        return int(bool(failed or reached or most[0] > MOST_MB or not alive))


if __name__ == "__main__":
    raise SystemExit(main())
