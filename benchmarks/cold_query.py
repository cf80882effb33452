"""Wall time of a whole `geoglot search` process on an archive of 100,000 chips, its snapshot current.

    python benchmarks/cold_query.py                    # about 250 MB of disk under --folder
    python benchmarks/cold_query.py --chips 10000 --repeats 5

The archive holds random unit vectors, 100 chips to a scene, written through the store for the bundled model's card. The
process is started anew for each measurement; the files are in the page cache after the first, which is shown apart and
also pays for the background's measurement. `python -c pass` is the floor that no program in this language can beat.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from geoglot.archive.manifest import Manifest
from geoglot.archive.snapshot_writer import finish
from geoglot.archive.store import Store
from geoglot.models.zoo.registry import DEFAULT_MODEL, find_card
from geoglot.types import Bbox, Chip, SceneInfo, Window, chip_id

PER_SCENE = 100
LIMIT_S = 1.0


def make(folder: Path, chips: int, model: str) -> None:
    """An archive of random chips."""
    card = find_card(model)
    rng = np.random.default_rng(1)
    with Store.create(folder, Manifest.of(card, {})) as store:
        for number in range(chips // PER_SCENE):
            vectors = rng.standard_normal((PER_SCENE, card.dim), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            scene_id, west, south = f"{number:016x}", float(rng.uniform(-180, 178)), float(rng.uniform(-80, 79))
            windows = [Window(i * 100, 0, i * 100 + 100, 100) for i in range(PER_SCENE)]
            boxes = [Bbox(west + i / 100, south, west + i / 100 + 0.01, south + 0.01) for i in range(PER_SCENE)]
            made = [
                Chip(chip_id(scene_id, w), scene_id, w, 1000.0, b, (_ring(b),))
                for w, b in zip(windows, boxes, strict=True)
            ]
            name = f"random {number}.tif"
            info = SceneInfo(scene_id, f"/random/{name}", name, "1", 10_000, 100, 3, "uint8", "EPSG:4326", 10.0)
            store.replace_scene(info, made, vectors)
        finish(store)


def _ring(b: Bbox) -> tuple[tuple[float, float], ...]:
    return ((b.west, b.south), (b.east, b.south), (b.east, b.north), (b.west, b.north), (b.west, b.south))


def seconds(command: list[str]) -> float:
    """Wall time of a process, start to end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--folder", type=Path, help="where to put the temporary archive")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        archive = Path(folder) / "archive"
        make(archive, options.chips, options.model)
        search = [sys.executable, "-m", "geoglot", "search", "boats in a harbour"]
        search += ["--archive", str(archive), "--model", options.model, "--format", "json"]
        first = seconds(search)
        times = [(seconds(search), seconds([sys.executable, "-c", "pass"])) for _ in range(options.repeats)]
    mine, floor = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{options.chips:,} chips: first {first:.2f} s, then median {mine:.2f} s (limit {LIMIT_S} s)")
    print(f"python -c pass: {floor:.3f} s; ratio {mine / floor:.1f}")


if __name__ == "__main__":
    main()
