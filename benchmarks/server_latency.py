"""What HTTP adds: search over HTTP against the same query in process, and map tiles against plain rio-tiler.

    python benchmarks/server_latency.py
    python benchmarks/server_latency.py --chips 20000 --repeats 50

One archive of random chips for the bundled model, and one scene of smooth noise, 8192 x 8192 px with overviews. In
process: `Archive.search`. Over HTTP: one client that asks one after the other on one connection, then many.
Rounds alternate between the two sides, so that other work on the machine hits both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import rasterio
from rasterio.enums import Resampling
from rio_tiler.io import Reader
from served import PER_SCENE, add_scenes, serving
from stand_in import draw_scene, machine

from geoglot.archive.archive import Archive
from geoglot.archive.ingest import ingest
from geoglot.archive.manifest import Manifest
from geoglot.archive.snapshot_writer import finish
from geoglot.archive.store import Store
from geoglot.imagery.grid import ChipGrid
from geoglot.models.load import load_encoder
from geoglot.models.zoo.registry import DEFAULT_MODEL, find_card

WORDS = ("harbour", "farmland", "airport", "forest", "river", "solar farm", "stadium", "bridge", "desert", "beach")
ROUND = 10


def compare(name: str, sides: dict[str, Callable[[int], object]], repeats: int) -> None:
    """Time both sides in alternating rounds; print medians, tails and the ratio."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for ask in sides.values():
        ask(0)
    for first in range(0, repeats, ROUND):
        for side, ask in sides.items():
            for number in range(first, min(first + ROUND, repeats)):
                started = time.perf_counter()
                ask(number)
                times[side].append(time.perf_counter() - started)
    medians = []
    for side, values in times.items():
        cuts = statistics.quantiles(values, n=100)
        medians.append(cuts[49])
        rate = len(values) / sum(values)
        print(f"{name}, {side}: p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, {rate:.1f}/s one by one")
    print(f"{name}: p50 ratio {medians[1] / medians[0]:.2f}")


def searches(folder: Path, chips: int, repeats: int, clients: int) -> None:
    """In process against HTTP."""
    archive = folder / "archive"
    with Store.create(archive, Manifest.of(find_card(DEFAULT_MODEL), {})) as store:
        add_scenes(store, 0, chips // PER_SCENE)
        finish(store)
    opened = Archive.open(archive, load_encoder())
    opened.prepare()
    with serving(archive, folder / "state") as server, httpx2.Client(base_url=server.url, timeout=120) as http:

        def over_http(number: int) -> None:
            params = {"q": WORDS[number % len(WORDS)], "limit": "10", "all": "true"}
            http.get("/search", params=params).raise_for_status()

        def in_process(number: int) -> None:
            opened.search(WORDS[number % len(WORDS)], limit=10)

        compare(f"search of {chips:,} chips", {"in process": in_process, "HTTP": over_http}, repeats)
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(over_http, range(repeats)))
        print(f"search over HTTP, {clients} at once: {repeats / (time.perf_counter() - started):.1f}/s")


def tiles(folder: Path, repeats: int) -> None:
    """Plain rio-tiler against HTTP, the same squares of the same scene."""
    (folder / "scenes").mkdir()
    scene = draw_scene(folder / "scenes" / "noise.tif", 8192, 3)
    with rasterio.open(scene, "r+") as data:
        data.build_overviews([2, 4, 8, 16, 32], Resampling.average)
    ingest(folder / "tiled", scene, load_encoder(), ChipGrid(ground_m=(1100.0,), max_px=1100, overlap=0.0))
    with (
        serving(folder / "tiled", folder / "tile-state") as server,
        httpx2.Client(base_url=server.url, timeout=120) as http,
    ):
        home = http.get("/collections/bench/scenes").json()["features"][0]["links"]
        layer = http.get(next(link["href"] for link in home if link["rel"] == "tilejson")).json()
        west, south, east, north = layer["bounds"]
        with Reader(str(scene)) as reader:
            squares = [
                square
                for zoom in range(layer["minzoom"], layer["maxzoom"] + 1)
                for square in list(reader.tms.tiles(west, south, east, north, [zoom]))[:40]
                if reader.tile_exists(square.x, square.y, square.z)  # bounds in degrees are rounded
            ]

        def plain(number: int) -> None:
            square = squares[number * 7 % len(squares)]
            with Reader(str(scene)) as reader:
                reader.tile(square.x, square.y, square.z, resampling_method="bilinear").render(img_format="PNG")

        def over_http(number: int) -> None:
            square = squares[number * 7 % len(squares)]
            http.get(layer["tiles"][0].format(z=square.z, x=square.x, y=square.y)).raise_for_status()

        compare("tile", {"plain rio-tiler": plain, "HTTP": over_http}, repeats)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where to put the temporary files")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        searches(Path(folder), options.chips, options.repeats, options.clients)
        tiles(Path(folder), options.repeats)


if __name__ == "__main__":
    main()
