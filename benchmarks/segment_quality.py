"""How good are class maps made from words? mIoU on Dubai test, VHR-10 test and Kampala's buildings.

    python benchmarks/segment_quality.py --data ../shared/data --choose > chosen.json
    python benchmarks/segment_quality.py --data ../shared/data --chosen chosen.json
    python benchmarks/segment_quality.py --data ../shared/data --model FOLDER --json runs/segment.json

`--choose` tries window sizes, model sizes and presence thresholds on validation data only (Dubai tile 1, VHR-10 train,
the Philippines' scenes) and prints the best of each set; without `--chosen` the test uses the settings' defaults.
Protocol ovss/geoglot; intervals by bootstrap over images. Targets after FarSLIP tuning: Dubai (5 classes) 45 %, VHR-10
(10 classes and background) 20 %.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from geoglot.data.segmentation import SegmentationSet, open_segmentation
from geoglot.evaluation.segmentation import confusion, intersections_unions, mean_iou, score
from geoglot.evaluation.segmentation_protocols import our_predict, our_segmenter
from geoglot.models.encoder import DenseEncoder, dense
from geoglot.models.load import load_encoder
from geoglot.tasks.segment.decision import Rule, pixel_scores
from geoglot.tasks.segment.segmenter import SegmentSettings
from geoglot.tasks.segment.windows import ArrayPicture
from geoglot.types import Window

PRESENCES = (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Case:
    """One set: where, what to choose on, and which window sizes to try (pixels; metres for scenes with a place)."""

    name: str
    folder: str
    valid: str
    unit: str
    windows: tuple[float, ...]


CASES = (
    Case("dubai", "dubai", "valid", "window_px", (224, 320, 448, 640)),
    Case("vhr10", "vhr10", "train", "window_px", (160, 224, 320, 448)),
    Case("oam", "scenes/oam", "valid", "window_m", (22, 45, 90, 180)),
)


def choose(encoder: DenseEncoder, case: Case, data: SegmentationSet, limit: int, model_sides: list[int]) -> Any:
    """The settings with the best mIoU on at most `limit` images; every presence from one encoding."""
    found: list[tuple[float, dict[str, Any]]] = []
    for window, side in product(case.windows, model_sides):
        settings = SegmentSettings(model_px=side or None, **{case.unit: type(case.windows[0])(window)})
        segmenter, table = our_segmenter(encoder, data, settings)
        parts: dict[float, list[Any]] = {least: [] for least in PRESENCES}
        for i in np.linspace(0, len(data) - 1, min(limit, len(data))).round().astype(int).tolist():
            picture, truth = ArrayPicture(data.image(i), data.gsd_m), data.mask(i)
            plan = segmenter.plan(picture)
            with segmenter.scored(picture, plan) as scored:
                cells = scored.scores.read(0, scored.scores.rows)
                logits = pixel_scores(Window(0, 0, plan.width, plan.height), plan, cells)
                for least in PRESENCES:
                    values, _ = Rule.of(scored.presence >= least, scored.scores.channels).decide(logits)
                    parts[least].append(intersections_unions(confusion(table[values], truth, len(data.classes))))
        for least in PRESENCES:
            miou = score(np.stack(parts[least]), tuple(w[0] for w in data.classes), rounds=1).miou
            found.append((miou, {case.unit: window, "model_px": side or None, "presence": least}))
            print(f"{case.name} {data.split} {found[-1][1]}: {miou:.2f}", file=sys.stderr, flush=True)
    best = max(found, key=lambda one: one[0])
    return {"settings": best[1], "miou": best[0], "on": f"{case.name} {data.split}"}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="geoglot-mini")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--chosen", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--limit", type=int, default=None, help="images of each set")
    parser.add_argument("--sides", type=int, nargs="*", default=[0], help="model_px to try; 0 is the default")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    encoder = dense(load_encoder(args.model, threads=args.threads))
    chosen = json.loads(args.chosen.read_text()) if args.chosen else {}
    results = {}
    for case in (case for case in CASES if case.name in args.only):
        if args.choose:
            data = open_segmentation(case.name, args.data / case.folder, case.valid)
            results[case.name] = choose(encoder, case, data, args.limit or 60, args.sides)
            continue
        data, begun = open_segmentation(case.name, args.data / case.folder, "test"), time.perf_counter()
        settings = replace(SegmentSettings(), **chosen.get(case.name, {}).get("settings", {}))
        found = mean_iou(our_predict(encoder, data, settings), data, limit=args.limit)
        each = ", ".join(f"{name} {value:.1f}" for name, value in zip(found.names, found.iou, strict=True))
        print(
            f"{case.name} test: mIoU {found.miou:.2f} ({found.interval[0]:.2f} to {found.interval[1]:.2f}), "
            f"{found.images} images, {time.perf_counter() - begun:.0f} s; {each}",
            file=sys.stderr,
            flush=True,
        )
        results[case.name] = asdict(found) | {"settings": asdict(settings), "model": encoder.card.name}
    text = json.dumps(results, indent=1)
    if args.json:
        args.json.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
