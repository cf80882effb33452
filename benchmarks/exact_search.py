"""Exact search through the planner against a plain NumPy scan of the same rows, in one run.

    python benchmarks/exact_search.py                  # 1,000,000 chips x 256; about 1.2 GB of disk under --folder
    python benchmarks/exact_search.py --rows 100000
    python benchmarks/exact_search.py --sweep          # gathering against one product over all rows: ranking.DENSE

Vectors are random and unit, chips lie at random on the earth, 100 to a scene, dated at random over ten years.
The scan is what one writes without a planner: a mask from the columns, a copy of the rows that are left, one
product, argpartition. Both read the same mapped file, in the page cache after the warm-up. Answers must be equal.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np

from geoglot.archive.filters import Filter, intersecting, select
from geoglot.archive.ranking import ExactRanker, hits
from geoglot.archive.snapshot import SNAPSHOT, Arrays, Snapshot, load_snapshot, microseconds
from geoglot.archive.snapshot_writer import save_arrays
from geoglot.types import Bbox, TimeRange

DIM, PER_SCENE, TOP, KEY = 256, 100, 10, "0" * 16
START = datetime(2015, 1, 1, tzinfo=UTC)
DAYS = 3650


def make(folder: Path, rows: int) -> Snapshot:
    """A snapshot of random chips, written and mapped."""
    rng = np.random.default_rng(1)
    scenes = rows // PER_SCENE
    west, south = rng.uniform(-180, 179.9, rows), rng.uniform(-80, 79.9, rows)
    days = rng.integers(0, DAYS, scenes)
    side = np.arange(PER_SCENE, dtype=np.int32) * 10
    one = np.stack([side, 0 * side, side + 10, 0 * side + 10], axis=1)
    home = folder / SNAPSHOT / KEY
    home.mkdir(parents=True)
    vectors = np.lib.format.open_memmap(home / "vectors.npy", "w+", np.float32, (rows, DIM))
    for at in range(0, rows, 50_000):
        block = rng.standard_normal((min(50_000, rows - at), DIM), dtype=np.float32)
        vectors[at : at + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    arrays = Arrays(
        scene_ids=np.array([f"{i:016x}" for i in range(scenes)]),
        scene_text=np.empty(0, np.uint8),
        scene_text_start=np.zeros(scenes + 1, np.int64),
        scene_start=np.arange(scenes + 1) * PER_SCENE,
        gsd_m=np.full(scenes, 10.0),
        acquired=np.array([microseconds(START + timedelta(days=int(day))) for day in days]),
        sensor=np.zeros(scenes, np.int32),
        sensors=np.array(["random"]),
        windows=np.tile(one, (scenes, 1)),
        ground_m=np.full(rows, 100.0),
        boxes=np.stack([west, south, west + 0.1, south + 0.1]),
        chip_rings=np.zeros(rows + 1, np.int64),
        ring_start=np.zeros(1, np.int64),
        points=np.empty((0, 2)),
        vectors=vectors,
    )
    save_arrays(arrays, home)
    snapshot = load_snapshot(folder, KEY)
    if snapshot is None:
        raise SystemExit(f"the snapshot in {folder} cannot be read back")
    return snapshot


def ours(snapshot: Snapshot, query: np.ndarray, wanted: Filter) -> list[int]:
    """The planner's way."""
    selection = select(snapshot, wanted)
    return [
        hit.row for hit in islice(hits(snapshot, ExactRanker(snapshot, query, selection), selection, merge=False), TOP)
    ]


def scan(snapshot: Snapshot, query: np.ndarray, wanted: Filter) -> list[int]:
    """The plain way."""
    a = snapshot.arrays
    mask = np.ones(len(snapshot), bool)
    if wanted.bbox:
        mask &= intersecting(a.boxes, wanted.bbox)
    if wanted.time and wanted.time.start and wanted.time.end:
        acquired = np.repeat(a.acquired, PER_SCENE)
        mask &= (acquired >= microseconds(wanted.time.start)) & (acquired <= microseconds(wanted.time.end))
    rows = np.flatnonzero(mask)
    scores = a.vectors[rows] @ query if len(rows) < len(mask) else a.vectors @ query
    best = np.argpartition(-scores, TOP)[:TOP]
    return [int(rows[i]) for i in best[np.argsort(-scores[best])]]


def share(part: float) -> Filter:
    """A box and a time range that leave this part of the chips: the square root of it each."""
    root = part**0.5
    width, years = 360 * root, timedelta(days=DAYS * root)
    return Filter(bbox=Bbox(-180 + 90, -90, -90 + width, 90), time=TimeRange(START, START + years))


def milliseconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Wall times of single calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def compare(snapshot: Snapshot, repeats: int) -> None:
    """The table."""
    query = np.asarray(snapshot.arrays.vectors[7] + snapshot.arrays.vectors[77])
    query /= np.linalg.norm(query)
    ours(snapshot, query, Filter())  # warms the page cache
    print(f"{len(snapshot):,} chips x {DIM}, top {TOP}, median of {repeats}")
    print(f"{'filter':>10} {'rows left':>10} {'planner ms':>11} {'scan ms':>9} {'planner / scan':>15}")
    for name, wanted in (("none", Filter()), ("5 %", share(0.05)), ("0.1 %", share(0.001))):
        if ours(snapshot, query, wanted) != scan(snapshot, query, wanted):
            raise SystemExit(f"answers differ under filter {name}")
        mine, plain = [], []
        for _ in range(repeats):  # turn by turn: other load on the machine hits both
            mine += milliseconds(lambda w=wanted: ours(snapshot, query, w), 1)
            plain += milliseconds(lambda w=wanted: scan(snapshot, query, w), 1)
        a, b = statistics.median(mine), statistics.median(plain)
        print(f"{name:>10} {select(snapshot, wanted).count:>10,} {a:>11.1f} {b:>9.1f} {a / b:>15.2f}")


def sweep(snapshot: Snapshot, repeats: int) -> None:
    """Where one product over all rows begins to beat gathering."""
    from geoglot.archive import ranking
    from geoglot.archive.filters import Selection

    query = np.asarray(snapshot.arrays.vectors[7])
    rng = np.random.default_rng(2)
    print(f"{'share':>6} {'gather ms':>10} {'whole ms':>9}")
    for part in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8):
        mask = rng.random(len(snapshot)) < part
        chosen = Selection(mask, None, int(mask.sum()))
        row = []
        for dense in (2.0, 0.0):
            ranking.DENSE = dense
            row.append(statistics.median(milliseconds(lambda c=chosen: ExactRanker(snapshot, query, c), repeats)))
        print(f"{part:>6} {row[0]:>10.1f} {row[1]:>9.1f}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to put the temporary snapshot")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        snapshot = make(Path(folder), options.rows // PER_SCENE * PER_SCENE)
        (sweep if options.sweep else compare)(snapshot, options.repeats)


if __name__ == "__main__":
    main()
