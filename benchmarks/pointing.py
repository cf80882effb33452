"""Where is it, and is it found though it is small? Pointing and small-object search on VHR-10.

    python benchmarks/pointing.py --data ../shared/data
    python benchmarks/pointing.py --data ../shared/data --model FOLDER --json runs/pointing.json
    python benchmarks/pointing.py --data ../shared/data --choose        # zooms, on VHR-10 train only

On VHR-10 test: pointing accuracy (measures.pointing; target 60 %), and recall of objects whose longer side is
below 32 px, without and with --point (measures.small_objects; target: 20 % relative). Chips are the whole
images, of which few hold only small objects of a class; and windows of 256 px, of which more do. Two minutes for
geoglot-mini on one core. The design of --point was chosen by benchmarks/pointing_designs.py, on VHR-10 train.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
from measures.pointing import pointing_accuracy
from measures.small_objects import Larger, SmallRecall, look, small_object_recall, spots_inside

from geoglot.archive.rerank import CANDIDATES, WEIGHT, ZOOMS
from geoglot.data.regions import open_regions
from geoglot.data.regions.schema import RegionSet, RegionSource
from geoglot.models.encoder import dense
from geoglot.models.load import load_encoder

KS = (5, 10, 20)
CHIPS = (None, 256)
TRIED_ZOOMS = ((0.5,), (1.0,), (0.5, 1.0), (0.75, 1.5), (0.5, 0.75, 1.0))
CHOSEN_ON = 150  # images of the train split


def regions_of(data: Path, split: str) -> RegionSet:
    """VHR-10."""
    return open_regions(RegionSource("vhr10", "coco", split=split), data)


def told(done: int, total: int) -> None:
    """Progress on stderr."""
    if done % 10 == 0 or done == total:
        print(f"\r{done}/{total} images", end="" if done < total else "\n", file=sys.stderr, flush=True)


def percent(value: float, interval: tuple[float, float]) -> str:
    """With its interval."""
    return f"{value:.1f} % [{interval[0]:.1f}, {interval[1]:.1f}]"


def tell(found: SmallRecall) -> None:
    """One recall, and its classes."""
    before, after = percent(found.plain, found.plain_interval), percent(found.pointed, found.pointed_interval)
    low, high = found.difference_interval
    print(f"  larger {found.larger}, recall@{found.k}: {before} -> {after} with --point, {found.gain:+.0f} % relative, "
          f"difference [{low:+.1f}, {high:+.1f}]")  # fmt: skip
    print("    " + ", ".join(f"{n} {a:.0f} -> {b:.0f} of {r}" for n, (a, b, r) in found.per_class.items()))


def measure(encoder: Any, data: Path, limit: int | None) -> dict[str, Any]:
    """Everything on the test split."""
    test = regions_of(data, "test")
    started = time.perf_counter()
    point = pointing_accuracy(encoder, test, limit=limit, told=told)
    print(f"pointing accuracy {percent(point.accuracy, point.interval)}, in outline {point.in_outline:.1f} %, "
          f"{point.pairs} pairs, zooms {ZOOMS}")  # fmt: skip
    print("  " + ", ".join(f"{name} {hit}/{of}" for name, (hit, of) in point.per_class.items()))
    result: dict[str, Any] = {"pointing": asdict(point), "small": [], "spots": []}
    for chip_px in CHIPS:
        looks = look(encoder, test, chip_px=chip_px, limit=limit, told=told)
        what = "whole images" if chip_px is None else f"windows of {chip_px} px"
        print(f"small objects, {len(looks.chips)} chips ({what}), weight {WEIGHT}, {CANDIDATES} candidates")
        if not looks.relevant.any():
            print("  no chip holds only small objects of a class")
            continue
        share, interval, pairs = spots_inside(looks)
        print(f"  best place in a small object: {percent(share, interval)} of {pairs} candidates that hold only such")
        result["spots"].append({"chip_px": chip_px, "inside": share, "interval": interval, "pairs": pairs})
        for larger, k in product(get_args(Larger), KS):
            found = small_object_recall(looks, k, larger=larger)
            result["small"].append({"chip_px": chip_px, "chips": len(looks.chips), **asdict(found)})
            tell(found)
    result["seconds"] = round(time.perf_counter() - started, 1)
    return result


def choose(encoder: Any, data: Path, limit: int | None) -> None:
    """Zooms of whole images, on the train split."""
    train = regions_of(data, "train")
    count = limit or CHOSEN_ON
    picked = np.linspace(0, len(train) - 1, min(count, len(train))).round().astype(int)
    part = RegionSet(train.name, tuple(train.record(int(i)) for i in picked), train.categories)
    for zooms in TRIED_ZOOMS:
        print(f"zooms {zooms}: pointing {pointing_accuracy(encoder, part, zooms=zooms).accuracy:.1f} %")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="geoglot-mini")
    parser.add_argument("--limit", type=int, help="a dry look: so many images")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    encoder = dense(load_encoder(args.model))
    print(f"{encoder.card.name} {encoder.card.version} ({encoder.card.fingerprint})")
    if args.choose:
        choose(encoder, args.data, args.limit)
        return
    result = measure(encoder, args.data, args.limit)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"model": args.model, **result}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
