"""Chips per second of ingest, against the encoder alone on ready chips and against a plain loop.

    python benchmarks/ingest_throughput.py                              # the bundled model, generated scenes
    python benchmarks/ingest_throughput.py --scenes ../shared/data/scenes/sentinel2 --rounds 5

Each round measures all three one after the other on the same scenes, the encoder both before and after ingest; ratios
are taken within a round, and the median round counts. The plain loop does what a first script would: read a window,
resize it with PIL, run the same tower in fp32 PyTorch, append to a list. A second plain loop is stronger: it runs the
tower on as many chips at once as ingest does. Targets: at least 3x the plain loop, at least 85 % of the encoder.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.windows import Window as RasterWindow
from stand_in import Forward, draw_scene, encoder_for, machine, torch_forward

from geoglot.archive.ingest import default_grid, ingest
from geoglot.archive.ingest_stages import BATCH
from geoglot.imagery.addresses import Source
from geoglot.imagery.chips import read_chips
from geoglot.imagery.grid import ChipGrid
from geoglot.imagery.scene import open_scene
from geoglot.imagery.sources import find_sources
from geoglot.models.encoder import DualEncoder

READY_CHIPS = 1024


def rate_of_encoder(encoder: DualEncoder, sources: list[Source], grid: ChipGrid) -> float:
    """Chips per second on chips that lie ready in memory."""
    chips: list[np.ndarray] = []
    for source in sources:
        with open_scene(source) as scene:
            found = read_chips(scene, grid, encoder.card.image_px)
            chips += [image for _, image in islice(found, READY_CHIPS - len(chips))]
    ready = np.stack(chips)
    started = time.perf_counter()
    for at in range(0, len(ready), BATCH):
        encoder.encode_images(ready[at : at + BATCH])
    return len(ready) / (time.perf_counter() - started)


def rate_of_ingest(encoder: DualEncoder, sources: list[Source], grid: ChipGrid) -> tuple[float, dict[str, float]]:
    """Chips per second from files to a finished archive, and the seconds of each stage."""
    with tempfile.TemporaryDirectory() as folder:
        report = ingest(Path(folder) / "archive", sources, encoder, grid)
    if report.failed:
        raise SystemExit(f"scenes failed: {report.failed}")
    return report.chips_per_s, report.seconds


def rate_of_plain_loop(
    forward: Forward, sources: list[Source], grid: ChipGrid, side_px: int, most: int, size: int
) -> float:
    """Chips per second of the loop that one would write first, `size` chips a forward, over at most `most` chips."""
    vectors: list[np.ndarray] = []
    batch: list[np.ndarray] = []
    started = time.perf_counter()
    for source in sources:
        with open_scene(source) as scene:
            windows = grid.windows(scene.info)
        with rasterio.open(source.uri) as dataset:
            for window in windows[: most - len(vectors) - len(batch)]:
                part = RasterWindow(window.x0, window.y0, window.width, window.height)
                pixels = dataset.read([1, 2, 3], window=part).transpose(1, 2, 0)
                if pixels.dtype != np.uint8:
                    low, high = np.percentile(pixels, (2, 98))
                    pixels = ((pixels - low) / max(high - low, 1e-6) * 255).clip(0, 255).astype(np.uint8)
                batch.append(np.array(Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BILINEAR)))
                if len(batch) == size:
                    vectors.extend(forward(np.stack(batch)))
                    batch = []
    if batch:
        vectors.extend(forward(np.stack(batch)))
    return len(vectors) / (time.perf_counter() - started)


def generated(folder: Path, count: int) -> list[Source]:
    """Scenes of 2,000 px at 1 m."""
    for seed in range(count):
        draw_scene(folder / f"scene-{seed}.tif", 2000, seed)
    return find_sources(folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a model; default: the bundled one")
    parser.add_argument("--weights", type=Path, help="final.pt for the plain loop; default: untrained, just as fast")
    parser.add_argument("--scenes", help="what to index; default: generated scenes")
    parser.add_argument("--generate", type=int, default=2, help="how many scenes to generate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain-chips", type=int, default=256, help="chips that the plain loop does in a round")
    arguments = parser.parse_args()
    print(machine())
    encoder = encoder_for(arguments.model)
    forward, grid = torch_forward(encoder.card, arguments.weights), default_grid(encoder.card)
    with tempfile.TemporaryDirectory() as folder:
        sources = find_sources(arguments.scenes) if arguments.scenes else generated(Path(folder), arguments.generate)
        side = encoder.card.image_px
        warm = np.zeros((BATCH, side, side, 3), np.uint8)
        encoder.encode_images(warm)
        forward(warm)
        rounds = []
        for number in range(arguments.rounds):
            before = rate_of_encoder(encoder, sources, grid)
            ours, seconds = rate_of_ingest(encoder, sources, grid)
            alone = (before + rate_of_encoder(encoder, sources, grid)) / 2
            plain, batched = (
                rate_of_plain_loop(forward, sources, grid, side, arguments.plain_chips, size) for size in (1, BATCH)
            )
            rounds.append((ours / alone, ours / plain, ours / batched))
            stages = ", ".join(f"{name} {value:.1f} s" for name, value in sorted(seconds.items()))
            rates = f"ingest {ours:.0f} chips/s, encoder {alone:.0f}, plain {plain:.0f}, plain batched {batched:.0f}"
            print(f"round {number + 1}: {rates} ({stages})")
    share, times, batched_times = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"ingest / encoder alone:      {share:.2f} (target 0.85)")
    print(f"ingest / plain loop:         {times:.1f}x (target 3.0)")
    print(f"ingest / plain batched loop: {batched_times:.1f}x")


if __name__ == "__main__":
    main()
