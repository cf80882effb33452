"""What the bundled model can do, on data it was not trained on.

    python benchmarks/mini_quality.py --data ../shared/data --json docs/results/mini-v2.json

Prints a Markdown table: RSICD test retrieval, UC Merced zero-shot (held out), EuroSAT test (in-domain), the same
questions in ten languages, and precision at 20 of five land-cover questions on Sentinel-2 scenes, found through the
archive, against the scenes' class maps.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from geoglot.archive.archive import Archive
from geoglot.archive.ingest import ingest
from geoglot.archive.query import Term
from geoglot.data.glossary import LANGUAGES
from geoglot.data.samples import read_samples
from geoglot.evaluation.embeddings import encode_samples
from geoglot.evaluation.multilingual import language_gap
from geoglot.evaluation.questions import prompts, question_retrieval, zero_shot
from geoglot.evaluation.report import Number
from geoglot.evaluation.retrieval import caption_retrieval
from geoglot.models.encoder import DualEncoder
from geoglot.models.load import load_encoder
from geoglot.types import Window

CLASSES = ("background", "building", "road", "field", "forest")
FLOORS = {"ucm_top1_en": 45.0, "mR": 8.0, "mean language gap (at most)": 15.0}


@dataclass(frozen=True)
class Wanted:
    """A chip answers the question when every one of these classes covers at least its share of the chip."""

    shares: dict[str, float]


# Chosen from the class maps alone (5,840 chips: 4, 18, 31, 16 and 4 % qualify), before any ranking was looked at.
LAND_COVER = {
    "building": Wanted({"building": 0.03}),
    "field": Wanted({"field": 0.2}),
    "forest": Wanted({"forest": 0.5}),
    "road": Wanted({"road": 0.05}),
    "farm_by_forest": Wanted({"field": 0.2, "forest": 0.2}),
}


def answers(class_map: np.ndarray, window: Window, wanted: Wanted) -> bool:
    """Does the class map agree that the window shows what was wanted?"""
    part = class_map[window.y0 : window.y1, window.x0 : window.x1]
    return all((part == CLASSES.index(name)).mean() >= share for name, share in wanted.shares.items())


def land_cover(encoder: DualEncoder, folder: Path) -> list[Number]:
    """Precision at 20 of each land-cover question, and the share of all chips that would answer it (the base rate)."""
    maps = {path.name.replace(".classes.png", ".tif"): np.asarray(Image.open(path)) for path in folder.glob("*.png")}
    numbers = []
    with tempfile.TemporaryDirectory() as scratch:
        archive_path = Path(scratch) / "archive"
        ingest(archive_path, [str(folder / "*.tif")], encoder)
        archive = Archive.open(archive_path, encoder)
        for name, wanted in LAND_COVER.items():
            question = [Term(1.0, "text", prompts("landcover", "en")[name])]
            ranked = archive.search(question, limit=100_000, merge=False).matches
            right = np.array([answers(maps[m.scene.name], m.chip.window, wanted) for m in ranked])
            numbers.append(Number("archive/landcover", f"P@20 {name}", 100 * right[:20].mean(), None, len(right)))
            numbers.append(Number("archive/landcover", f"base rate {name}", 100 * right.mean(), None, len(right)))
    return numbers


def languages(encoder: DualEncoder, data: Path) -> list[Number]:
    """The same questions in ten languages on UC Merced and RSICD test, and the mean relative gap to English."""
    numbers = []
    ucm = read_samples(data / "ucm" / "captions.jsonl")
    rsicd = [s for s in read_samples(data / "rsicd" / "captions.jsonl", "test") if s.label]
    gaps = {}
    for group, samples, measure in (("ucm", ucm, zero_shot), ("rsicd", rsicd, question_retrieval)):
        images = encode_samples(encoder, samples)
        rows = {code: measure(encoder, samples, group, code, images) for code in LANGUAGES}
        numbers += rows.values()
        name = f"{group} {rows['en'].metric.removesuffix('_en')} gap to English"
        gaps[name] = language_gap({code: row.value for code, row in rows.items()})
        numbers.append(Number("languages", name, gaps[name], None, len(samples)))
    mean = float(np.mean(list(gaps.values())))
    return [*numbers, Number("languages", "mean language gap (at most)", mean, None, len(ucm), parts=tuple(gaps))]


def measure(encoder: DualEncoder, data: Path) -> list[Number]:
    """Everything, about five minutes on two cores."""
    rsicd = read_samples(data / "rsicd" / "captions.jsonl", "test")
    eurosat = read_samples(data / "eurosat" / "labels.jsonl", "test")
    return [
        *caption_retrieval(encoder, rsicd),
        *languages(encoder, data),
        zero_shot(encoder, eurosat, "eurosat", "en"),
        *land_cover(encoder, data / "scenes" / "sentinel2"),
    ]


def table(numbers: Iterable[Number]) -> str:
    """Markdown."""
    lines = ["| protocol | metric | % | 95 % interval | images | floor |", "|---|---|---|---|---|---|"]
    for n in numbers:
        interval = f"{n.interval[0]:.1f} to {n.interval[1]:.1f}" if n.interval else ""
        floor = f"{FLOORS[n.metric]:.0f}" if n.metric in FLOORS and n.protocol != "ret/equivalent" else ""
        lines.append(f"| {n.protocol} | {n.metric} | {n.value:.2f} | {interval} | {n.count} | {floor} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="geoglot-mini")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    encoder = load_encoder(args.model)
    numbers = measure(encoder, args.data)
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    print(f"{encoder.card.name} {encoder.card.version} ({encoder.card.fingerprint}), {machine}\n")
    print(table(numbers))
    if args.json:
        body = {"model": encoder.card.name, "fingerprint": encoder.card.fingerprint, "machine": machine}
        args.json.write_text(json.dumps(body | {"numbers": [asdict(n) for n in numbers]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
