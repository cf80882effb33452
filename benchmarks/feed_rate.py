"""Images per second that reading, decoding and resizing bring, without any training: what a GPU could be fed with.

    python benchmarks/feed_rate.py                    # drawn JPEGs of 256 px in tars, RS5M's keys
    python benchmarks/feed_rate.py --side 512 --seconds 10

Threads and processes, one and two of each, one after the other in one run. The rate per core is what counts: divide the
samples per second of a training run by it to know how many workers it needs. With threads all work is in this process,
so its CPU time gives the rate of a core on a busy machine too.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from geoglot.data.batches import BatchPlan
from geoglot.data.decode import Prepare
from geoglot.data.loader import Feed, Workshop
from geoglot.data.sources import DataSource, open_source


def no_tokens(texts: list[str]) -> np.ndarray:
    """Texts cost next to nothing beside images; leave them out."""
    return np.zeros((len(texts), 1), np.int64)


def draw_shard(path: Path, count: int, side: int) -> None:
    """A tar as RS5M has them."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for index in range(count):
            out = io.BytesIO()
            coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3)).astype(np.uint8))
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
            members = {"img_name": f"{index}.jpg".encode(), "caption": b"a field", "img_content": out.getvalue()}
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{index:08d}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def rate(folder: Path, kind: Literal["thread", "process"], workers: int, seconds: float) -> tuple[float, float]:
    """Images per second, and per second of this process's CPU time, after the first batches."""
    sets = [open_source(DataSource("*.tar"), folder)]
    workshop = Workshop(sets, Prepare(224, (0.9, 1.0)), no_tokens, 0)
    with Feed(workshop, BatchPlan(sets, [0.0], 64, 0), kind=kind, workers=workers, ahead=4) as feed:
        batches = iter(feed)
        for _ in range(4):
            next(batches)
        began, cpu, seen = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - began < seconds:
            seen += len(next(batches).images)
        return seen / (time.perf_counter() - began), seen / (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        draw_shard(Path(name) / "a.tar", 256, args.side)
        ways: list[tuple[Literal["thread", "process"], int]] = [
            ("thread", 1),
            ("thread", 2),
            ("process", 1),
            ("process", 2),
        ]
        for kind, workers in ways:
            wall, cpu = rate(Path(name), kind, workers, args.seconds)
            print(f"{workers} {kind}: {wall:.0f} images/s; {cpu:.0f} a CPU second of this process", flush=True)


if __name__ == "__main__":
    main()
