"""Load: many clients at once on a large archive that grows meanwhile; then kill -9, and a second process.

    python benchmarks/server_load.py                                  # 64 clients, five minutes, 250,000 chips
    python benchmarks/server_load.py --chips 20000 --seconds 20 --clients 8

Loopback only. Each client asks without pause: ranked search with and without a box, its second page, plain search,
items, collections, heat tiles. Meanwhile another process adds scenes and writes a snapshot every few seconds. Reported:
errors (anything but 200), requests/s, p50 and p99 for each kind, and the server's memory, sampled each second, as the
means of the five fifths of the run. Allocated (anonymous) memory must not grow by more than 10 % from the second to the
last; resident memory also counts the mapped archive, which grows. Linux only.

Then the server is killed with SIGKILL in the middle of load, with one job done and one running, and started again: the
archive's chips, the finished job and the interrupted job must be there. At last a second process on the same archive
must give the same answers. Exits 1 if any of this fails.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx2
from served import PER_SCENE, Server, add_scenes, serving
from stand_in import machine

from geoglot.archive.manifest import Manifest
from geoglot.archive.snapshot_writer import finish
from geoglot.archive.store import Store
from geoglot.models.zoo.registry import DEFAULT_MODEL, find_card

WORDS = ("harbour", "farmland", "airport", "forest", "river", "solar farm", "stadium", "bridge", "desert", "beach")
GROWTH = 1.10

Times = dict[str, list[float]]


async def client(url: str, number: int, until: float, times: Times, errors: list[str]) -> None:
    """Ask until the time is up."""
    rng = random.Random(number)
    async with httpx2.AsyncClient(base_url=url, timeout=120, verify=False) as http:  # reading certificates takes 45 ms
        while time.monotonic() < until:
            kind, method, path, options = request(rng)
            started = time.perf_counter()
            try:
                reply = await http.request(method, path, **options)
            except httpx2.HTTPError as error:
                errors.append(f"{kind}: {error!r}")
                continue
            times[kind].append(time.perf_counter() - started)
            if reply.status_code != 200:
                errors.append(f"{kind}: {reply.status_code} {reply.text[:200]}")
            following = _next(reply) if kind == "ranked" else None
            if following:
                started = time.perf_counter()
                second = await http.get(following)
                times["second page"].append(time.perf_counter() - started)
                if second.status_code != 200:
                    errors.append(f"second page: {second.status_code} {second.text[:200]}")


def _next(reply: httpx2.Response) -> str | None:
    links = reply.json().get("links", ())
    return next((link["href"] for link in links if link["rel"] == "next"), None)


def request(rng: random.Random) -> tuple[str, str, str, dict[str, Any]]:
    """(kind, method, path, options): half of them ranked searches."""
    west, south = rng.uniform(-170, 130), rng.uniform(-70, 40)
    box = [west, south, west + 40, south + 30]
    q, pick = rng.choice(WORDS), rng.random()
    if pick < 0.25:
        return "ranked", "GET", "/search", {"params": {"q": q, "limit": 10, "all": True}}
    if pick < 0.5:
        return "ranked in a box", "POST", "/search", {"json": {"q": q, "bbox": box, "limit": 10, "all": True}}
    if pick < 0.75:
        return "plain in a box", "GET", "/search", {"params": {"bbox": ",".join(map(str, box)), "limit": 20}}
    if pick < 0.85:
        return "items", "GET", "/collections/bench/items", {"params": {"limit": 20}}
    if pick < 0.95:
        return "collections", "GET", "/collections", {}
    x, y = rng.randrange(16), rng.randrange(2, 14)
    path = f"/collections/bench/heat/tiles/WebMercatorQuad/4/{x}/{y}.png"
    return "heat tile", "GET", path, {"params": {"q": q}}


async def load(url: str, clients: int, seconds: float, server: Server) -> tuple[Times, list[str], list[Any]]:
    """Run all clients; sample memory each second."""
    times: Times = defaultdict(list)
    errors: list[str] = []
    memory: list[Any] = []
    until = time.monotonic() + seconds

    async def sample() -> None:
        while time.monotonic() < until:
            memory.append(server.memory_mb())
            await asyncio.sleep(1)

    await asyncio.gather(sample(), *(client(url, i, until, times, errors) for i in range(clients)))
    return times, errors, memory


def append(archive: Path, first: int, every_s: float, seconds: float) -> None:
    """Add scenes, and finish, every few seconds; in a process of its own."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with Store.open(archive, write=True) as store:
            add_scenes(store, first, 5)
            finish(store)
        first += 5
        time.sleep(every_s)


def report(times: Times, seconds: float) -> None:
    """A table."""
    for kind, values in sorted(times.items()):
        cuts = statistics.quantiles(values, n=100) if len(values) > 1 else [values[0]] * 99
        print(f"  {kind:<16} {len(values):7,}  p50 {cuts[49] * 1000:8.1f} ms  p99 {cuts[98] * 1000:8.1f} ms")
    every = [value for values in times.values() for value in values]
    cuts = statistics.quantiles(every, n=100)
    print(f"  {'all':<16} {len(every):7,}  p50 {cuts[49] * 1000:8.1f} ms  p99 {cuts[98] * 1000:8.1f} ms")
    print(f"  {len(every) / seconds:.1f} requests/s")


def flat(memory: list[Any]) -> bool:
    """Print memory in each fifth of the run, and whether what is allocated stayed from the second to the last."""
    length = max(1, len(memory) // 5)
    grew = {}
    for number, name in enumerate(("allocated", "resident")):
        fifths = [memory[at : at + length] for at in range(0, len(memory), length)][:5]
        means = [statistics.fmean(sample[number] for sample in part) for part in fifths]
        grew[name] = means[-1] / means[min(1, len(means) - 1)]
        print(f"  {name} memory: {', '.join(f'{mean:.0f}' for mean in means)} MiB ({grew[name]:.2f})")
    return grew["allocated"] <= GROWTH


def killed_and_restarted(archive: Path, state: Path, server: Server, clients: int) -> tuple[Server, bool]:
    """Kill the server under load with a finished and an unfinished job; what is there afterwards?"""
    body = {"collection": "bench", "labels": list(WORDS[:4]), "longest_px": 512}
    with httpx2.Client(base_url=server.url, timeout=120) as http:
        chips = http.get("/search").json()["numberMatched"]
        export = http.post("/tasks/export", json={"collection": "bench", "q": "harbour", "all": True}).json()["id"]
        while http.get(f"/jobs/{export}").json()["state"] != "done":
            time.sleep(0.1)
        area = http.post("/tasks/classify-area", json=body).json()["id"]
        while http.get(f"/jobs/{area}").json()["state"] == "queued":
            time.sleep(0.02)
    crowd = subprocess.Popen([sys.executable, __file__, "--crowd", server.url, "--clients", str(clients)])
    time.sleep(1)
    server.kill()
    crowd.kill()
    crowd.wait()
    server = Server(archive, state)
    with httpx2.Client(base_url=server.url, timeout=120) as http:
        kept = http.get("/search").json()["numberMatched"]
        first = http.get(f"/jobs/{export}").json()
        deadline = time.monotonic() + 300
        while (second := http.get(f"/jobs/{area}").json())["state"] in ("queued", "running"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
    print(f"kill -9: {chips:,} chips before, {kept:,} after; finished job {first['state']}, other {second['state']}")
    print(f"  {second['problem']['detail']}" if second["problem"] else "  the other was run again")
    return server, kept >= chips and first["state"] == second["state"] == "done" and bool(first["files"])


def same_answers(archive: Path, state: Path, server: Server) -> bool:
    """Whether a second process on the same archive answers alike."""
    with serving(archive, state) as other, httpx2.Client(timeout=120) as http:
        answers = []
        for url in (server.url, other.url):
            found = [http.get(f"{url}/search", params={"q": q, "all": True}).json()["features"] for q in WORDS]
            answers.append([[(item["id"], item["properties"]) for item in items] for items in found])
    print(f"second process: {'the same answers' if answers[0] == answers[1] else 'OTHER ANSWERS'}")
    return answers[0] == answers[1]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=250_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--append-every", type=float, default=5.0, help="seconds between two additions")
    parser.add_argument("--folder", type=Path, help="where to put the temporary archive")
    parser.add_argument("--crowd", help=argparse.SUPPRESS)
    parser.add_argument("--append-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.crowd:
        times: Times = defaultdict(list)
        crowd = (client(options.crowd, i, time.monotonic() + 60, times, []) for i in range(options.clients))

        async def all_of_them() -> None:
            await asyncio.gather(*crowd)

        asyncio.run(all_of_them())
        return
    if options.append_to:
        append(options.append_to, options.chips // PER_SCENE, options.append_every, options.seconds)
        return
    print(machine())
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        sys.exit(0 if run(Path(folder), options) else 1)


def run(folder: Path, options: argparse.Namespace) -> bool:
    """All of it."""
    archive = folder / "archive"
    with Store.create(archive, Manifest.of(find_card(DEFAULT_MODEL), {})) as store:
        add_scenes(store, 0, options.chips // PER_SCENE)
        finish(store)
    server = Server(archive, folder / "one")
    command = [sys.executable, __file__, "--append-to", str(archive), "--chips", str(options.chips)]
    command += ["--seconds", str(options.seconds), "--append-every", str(options.append_every)]
    writer = subprocess.Popen(command)
    times, errors, memory = asyncio.run(load(server.url, options.clients, options.seconds, server))
    written = writer.wait(timeout=300)
    print(f"{options.clients} clients, {options.seconds:.0f} s, {options.chips:,} chips, growing: {len(errors)} errors")
    for text in errors[:5]:
        print(f"  {text}")
    report(times, options.seconds)
    steady = flat(memory)
    with httpx2.Client(base_url=server.url, timeout=120) as http:
        time.sleep(5)
        grown = http.get("/search").json()["numberMatched"]
    print(f"  {grown - options.chips:,} chips were added and are seen")
    server, whole = killed_and_restarted(archive, folder / "one", server, options.clients)
    alike = same_answers(archive, folder / "two", server)
    print(f"SIGTERM: gone after {server.stop():.1f} s")
    return not errors and written == 0 and steady and whole and alike and grown > options.chips


if __name__ == "__main__":
    main()
