"""How much of the encoder's own speed is left when a scene is segmented from file to files?

    python benchmarks/segment_throughput.py
    python benchmarks/segment_throughput.py --side 2000 --rounds 1 --model FOLDER

Draws a scene, then in each round measures (a) the encoder alone on as many windows of the same size, in the same
batches, from memory; (b) the whole of `geoglot segment`: reading, encoding, blending, class map, confidence, GeoJSON,
picture. Ratio (a) / (b) of the same round; target 0.80; CPU seconds beside, for busy machines. Also how much the peak
memory of a process grows from a scene to one of four times its area.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from geoglot.imagery.scene import open_scene
from geoglot.models.encoder import dense
from geoglot.models.load import load_encoder
from geoglot.tasks.segment.scene import segment_scene
from geoglot.tasks.segment.scores import WINDOW_PIXELS, read_windows
from geoglot.tasks.segment.segmenter import Segmenter, SegmentSettings
from geoglot.tasks.segment.windows import ScenePicture
from geoglot_sandbox.samples import draw_sample

CLASSES = ("water", "building,roof", "tree,forest", "road", "farmland")
KINDS = ("harbor", "dense_residential", "forest", "farmland", "river", "parking_lot")


def draw(path: Path, side: int) -> Path:
    """A COG-like tiled GeoTIFF of drawn chips, 1 m pixels, `side` px squared."""
    tiles = [draw_sample(kind, seed, size_px=256).rgb for seed, kind in enumerate(KINDS)]
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "compress": "jpeg"}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "photometric": "ycbcr", "crs": "EPSG:32636"}
    with rasterio.open(path, "w", transform=from_origin(500_000, 100_000, 1, 1), **profile) as out:
        for y in range(0, side, 256):
            for x in range(0, side, 256):
                tile = tiles[(x // 256 * 7 + y // 256 * 3) % len(tiles)].transpose(2, 0, 1)
                high, wide = min(256, side - y), min(256, side - x)
                out.write(tile[:, :high, :wide], window=rasterio.windows.Window(x, y, wide, high))
    return path


def encoder_alone(segmenter: Segmenter, path: Path) -> tuple[float, float]:
    """Seconds and CPU seconds for as many windows as the scene has, in the batches that segmentation reads."""
    with open_scene(path) as scene:
        plan = segmenter.plan(ScenePicture(scene))
        batch = next(read_windows(ScenePicture(scene), plan)).images
    height, width = plan.window_px
    most = max(1, WINDOW_PIXELS // (height * width))
    images = np.concatenate([batch] * -(-most // len(batch)))[: len(batch)]
    begun, used = time.perf_counter(), time.process_time()
    done = 0
    while done < plan.windows:
        part = images[: min(len(images), plan.windows - done)]
        segmenter.encoder.patch_features(part)
        done += len(part)
    return time.perf_counter() - begun, time.process_time() - used


def whole(segmenter: Segmenter, path: Path, folder: Path) -> tuple[float, float]:
    """Seconds from file to files, and CPU seconds."""
    begun, used = time.perf_counter(), time.process_time()
    with open_scene(path) as scene:
        segment_scene(segmenter, scene, folder)
    return time.perf_counter() - begun, time.process_time() - used


def peak_mib(model: str, path: Path, folder: Path) -> float:
    """Peak resident memory of a process that segments a scene."""
    command = [sys.executable, __file__, "--model", model, "--only", str(path), "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="geoglot-mini")
    parser.add_argument("--side", type=int, default=4000, help="pixels of the scene's side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    segmenter = Segmenter(
        dense(load_encoder(args.model, threads=args.threads)), CLASSES, SegmentSettings(background=("auto",))
    )
    if args.only:
        whole(segmenter, args.only, args.folder)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = draw(folder / "scene.tif", args.side)
        encoder_alone(segmenter, draw(folder / "warm.tif", 512))
        ratios = []
        for number in range(args.rounds):
            alone, all_of_it = encoder_alone(segmenter, path), whole(segmenter, path, folder / f"out{number}")
            ratios.append((alone[0] / all_of_it[0], alone[1] / all_of_it[1]))
            speed = args.side**2 / 1e6 / all_of_it[0]
            print(
                f"round {number + 1}: encoder {alone[0]:.2f} s (CPU {alone[1]:.2f}), all {all_of_it[0]:.2f} s "
                f"(CPU {all_of_it[1]:.2f}), {speed:.2f} megapixels/s"
            )
        clock, cpu = (statistics.median(kind) for kind in zip(*ratios, strict=True))
        print(f"share of the encoder's speed: {clock:.3f} by the clock (target 0.80), {cpu:.3f} by CPU seconds")
        if not args.no_memory:
            half = draw(folder / "half.tif", args.side // 2)
            small, large = (peak_mib(args.model, p, folder / f"mem{i}") for i, p in enumerate((half, path)))
            print(f"peak memory: {small:.0f} MiB at {args.side // 2} px, {large:.0f} MiB at {args.side} px")


if __name__ == "__main__":
    main()
