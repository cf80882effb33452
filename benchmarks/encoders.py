"""Image embeddings a second: ours in PyTorch, with and without patch features, against open_clip; ViT-B/32, one run.

    python benchmarks/encoders.py --reference-python OTHER/bin/python
    python benchmarks/encoders.py --reference-python OTHER/bin/python --threads 1 --rounds 7

The other Python needs open_clip_torch and torch (torchvision's schemas are declared here, see tools/golden). Weights
are random: time does not depend on them. Each side is one process that stays; rounds go over all rows in turn, a row's
seconds are the median over the rounds, ratios are medians of ratios within a round. On a shared machine the processor
time with --threads 1 says more than the wall clock: both are printed. Targets: pooled embeddings at least on par with
open_clip; patch features at most 10 % dearer than pooled; the light runtime at least 1.2 times open_clip in fp32, 2.8
times in int8.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE, BATCHES = 224, (1, 32)
FORWARDS = {1: 8, 32: 1}  # of one measurement
Forward = Callable[[Any], Any]
Seconds = tuple[float, float]
"""Wall clock and processor time of one image."""


def reference_forwards() -> dict[str, Forward]:
    """open_clip's ViT-B-32."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for op in ("nms", "qnms"):
        library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import open_clip

    return {"open_clip": open_clip.create_model("ViT-B-32").eval().encode_image}


def our_forwards() -> dict[str, Forward]:
    """The same network by us: pooled, with patches, and pooled with bf16 weights."""
    import torch

    from geoglot.models.towers.clip import build
    from geoglot.models.zoo.registry import released_card

    architecture = released_card("laion2b-vit-b-32-e16").architecture
    assert architecture is not None
    model, rounded = build(architecture), build(architecture).to(torch.bfloat16)
    return {
        "ours": model.encode_image,
        "ours, patches (segearth)": lambda images: model.patch_features(images, "segearth"),
        "ours, torch.compile": torch.compile(model.encode_image),
        "ours, bf16 weights": lambda images: rounded.encode_image(images.bfloat16()),
    }


def light_forwards(threads: int) -> dict[str, Forward]:
    """The light runtime: uint8 pixels in, normalisation and unit length included. Exporting takes a minute or more."""
    import tempfile

    import numpy as np
    import onnxruntime
    import torch

    from geoglot.models.export.graphs import ImageGraph
    from geoglot.models.export.int8 import quantize_products
    from geoglot.models.export.towers import strip_traces, write_graph
    from geoglot.models.load import load_encoder
    from geoglot.models.towers.clip import build
    from geoglot.models.zoo.registry import released_card

    card = released_card("laion2b-vit-b-32-e16")
    assert card.architecture is not None
    assert card.preprocess is not None
    found: dict[str, Forward] = {}
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        pixels = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
        write_graph(ImageGraph(build(card.architecture), card.preprocess), pixels, "images", fp32)
        quantize_products(fp32, int8, ())
        for row, path in (("light fp32", fp32), ("light int8", int8)):
            strip_traces(path)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            images = {n: np.random.default_rng(n).integers(0, 256, (n, SIDE, SIDE, 3), np.uint8) for n in BATCHES}
            found[row] = lambda given, s=session, i=images: s.run(None, {"images": i[len(given)]})
    mini = load_encoder(threads=threads)
    side = mini.card.image_px
    chips = {n: np.random.default_rng(n).integers(0, 256, (n, side, side, 3), np.uint8) for n in BATCHES}
    return found | {f"light, bundled model at {side} px": lambda given: mini.encode_images(chips[len(given)])}


def work(forwards: dict[str, Forward], threads: int) -> None:
    """Answer each line [row, batch] with the seconds an image took; the first line says which rows there are."""
    import torch

    torch.set_num_threads(threads)
    images = {batch: torch.randn(batch, 3, SIDE, SIDE) for batch in BATCHES}
    with torch.inference_mode():
        for row in forwards:
            forwards[row](images[1])  # first touch of the weights
        print(json.dumps(list(forwards)), flush=True)
        for line in sys.stdin:
            row, batch = json.loads(line)
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(FORWARDS[batch]):
                forwards[row](images[batch])
            spent = (time.perf_counter() - wall, time.process_time() - processor)
            print(json.dumps([s / FORWARDS[batch] / batch for s in spent]), flush=True)


class Side:
    """A process with one library in it."""

    def __init__(self, python: str, worker: str, threads: int) -> None:
        command = [python, __file__, "--worker", worker, "--threads", str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.rows: list[str] = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended early with code {self._process.wait()}")
        return json.loads(line)

    def time(self, row: str, batch: int) -> Seconds:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([row, batch]) + "\n")
        self._process.stdin.flush()
        wall, processor = self._answer()
        return wall, processor

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(sides: list[Side], rounds: int) -> dict[tuple[str, int], list[Seconds]]:
    """Seconds per image of each row and batch, one value a round."""
    plan = [(side, row, batch) for batch in BATCHES for side in sides for row in side.rows]
    found: dict[tuple[str, int], list[Seconds]] = {}
    for number in range(rounds):
        for side, row, batch in plan if number % 2 == 0 else plan[::-1]:
            found.setdefault((row, batch), []).append(side.time(row, batch))
    return found


def report(found: dict[tuple[str, int], list[Seconds]]) -> None:
    """A table: images a second; how many times as fast as open_clip's and as our pooled row of the same batch."""

    def ratio(row: str, other: str, batch: int, clock: int) -> str:
        pairs = zip(found[row, batch], found.get((other, batch), ()), strict=False)
        return f"{statistics.median([b[clock] / a[clock] for a, b in pairs] or [float('nan')]):.2f}"

    print(
        "| row | batch | images/s | x open_clip (wall) | x open_clip (processor) | x ours (wall) | x ours (processor) |"
    )
    print("|---|---|---|---|---|---|---|")
    for row, batch in sorted(found, key=lambda key: key[1]):
        speed = 1 / statistics.median(wall for wall, _ in found[row, batch])
        ratios = [ratio(row, other, batch, clock) for other in ("open_clip", "ours") for clock in (0, 1)]
        print(f"| {row} | {batch} | {speed:.1f} | {' | '.join(ratios)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", help="a Python with open_clip; without it only ours is timed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", choices=("ours", "reference", "light"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        makers = {"ours": our_forwards, "reference": reference_forwards, "light": lambda: light_forwards(args.threads)}
        work(makers[args.worker](), args.threads)
        return
    from stand_in import machine

    print(machine())
    sides = [Side(sys.executable, worker, args.threads) for worker in ("ours", "light")]
    if args.reference_python:
        sides.append(Side(args.reference_python, "reference", args.threads))
    try:
        report(compare(sides, args.rounds))
    finally:
        for side in sides:
            side.close()


if __name__ == "__main__":
    main()
