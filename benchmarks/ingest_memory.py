"""Peak memory of indexing a sparse GeoTIFF of 50,000 x 50,000 pixels against one of 10,000 x 10,000.

    python benchmarks/ingest_memory.py                          # the bundled model
    python benchmarks/ingest_memory.py --model pixels           # a numpy stand-in: the same pipeline, quicker

Each size runs in a process of its own, which reports its highest resident memory. Both files have the same share of
their 512 px blocks written, so the large one has 25 times the chips. Targets: at most 15 % more, and under 1 GiB.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from stand_in import PixelEncoder, draw_scene, encoder_for, machine

from geoglot.archive.ingest import ingest
from geoglot.imagery.grid import ChipGrid

SIDES = (10_000, 50_000)
BLOCK = 512
GRID = ChipGrid(ground_m=(320.0, 640.0))


def child(raster: Path, archive: Path, model: str | None) -> None:
    """Index one file; print the peak in KiB and the chips."""
    encoder = PixelEncoder() if model == "pixels" else encoder_for(model)
    report = ingest(archive, raster, encoder, GRID)
    if report.failed:
        raise SystemExit(f"failed: {report.failed}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak // 1024 if sys.platform == "darwin" else peak, report.chips, round(report.elapsed_s, 1))


def measure(side: int, written: float, model: str | None) -> float:
    """Peak in MiB of indexing a fresh file of this side."""
    with tempfile.TemporaryDirectory() as folder:
        blocks = (-(-side // BLOCK)) ** 2
        raster = draw_scene(Path(folder) / "scene.tif", side, 0, patches=max(1, round(blocks * written)))
        command = [sys.executable, __file__, "--child", str(raster), str(Path(folder) / "archive")]
        command += ["--model", model] if model else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
    kib, chips, seconds = done.stdout.split()
    peak = int(kib) / 1024
    print(f"{side:,} x {side:,} px: {chips} chips in {seconds} s, peak {peak:.0f} MiB", flush=True)
    return peak


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help='folder of a model, or "pixels"; default: the bundled one')
    parser.add_argument("--written", type=float, default=0.1, help="share of the blocks that hold data")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child, arguments.model)
        return
    print(machine())
    small, large = (measure(side, arguments.written, arguments.model) for side in SIDES)
    print(f"ratio: {large / small:.3f} (target 1.15); largest: {large:.0f} MiB (target 1024)")


if __name__ == "__main__":
    main()
