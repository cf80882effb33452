"""What should rank small things? Designs of `--point` side by side, on VHR-10 train only.

    python benchmarks/pointing_designs.py --data ../shared/data --work runs/pointing
    python benchmarks/pointing_designs.py --data ../shared/data --work runs/pointing-0 --model FOLDER --parts 0 1

The images are dealt into four parts, each as large as the test split; the windows of 256 px of each part are an
archive. A line is a design: the sides in px at which candidates are looked at, and how places become evidence.
Then recall at 10 of objects below 32 px, mean over parts, at several weights beside the chip's cosine (0: no pointing),
as measures.small_objects has it: larger ones of the class aside / against. At the end, of the candidates that
hold only small ones, and of those with larger ones: how many have their best place in a box of the class.

geoglot-mini 1 has learned from crops around these very objects, so a second look with a model that has not (version 0)
is worth its time. Places are kept in --work, a gigabyte for a model: a stopped run goes on. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from measures.small_objects import (
    SMALL_PX,
    Looks,
    best_rows,
    cut,
    longest_px,
    peaks_inside,
    small_object_recall,
)
from numpy.typing import NDArray

from geoglot.archive.rerank import CANDIDATES
from geoglot.data.regions import open_regions
from geoglot.data.regions.schema import RegionSet, RegionSource
from geoglot.imagery.grid import chip_windows
from geoglot.models.encoder import DenseEncoder, Vectors, background_prompts, dense
from geoglot.models.load import load_encoder
from geoglot.scoring.calibration import Scorer
from geoglot.scoring.places import Scores, cell_scores
from geoglot.types import Window

CHIP_PX = 256
PARTS = 4
WEIGHTS = (0.0, 1.0, 2.0, 4.0, 8.0)
Evidence = Callable[[Scores], Scores]
CELLS = 72  # a side of the maps in which sizes are averaged


@dataclass(frozen=True)
class Question:
    """What places are compared with."""

    queries: Vectors  # [K, D]
    scorer: Scorer

    def counts(self) -> Scores:
        """Which prompts speak against which query, [P, K]."""
        scorer = self.scorer
        return (scorer.prompts @ self.queries.T < scorer.calibration.alike).astype(np.float32)


@dataclass(frozen=True)
class Part:
    """An archive of windows, their truth, and the candidates' places at each size."""

    looks: Looks  # evidence and inside still empty
    windows: list[Window]
    rows: list[int]  # candidates
    places: dict[int, NDArray[np.float16]]  # size -> [candidates, h, w, D]


Maps = Callable[[Part], Scores]


def part_of(
    number: int, data: RegionSet, encoder: DenseEncoder, question: Question, sizes: Sequence[int], work: Path
) -> Part:
    """What a part needs, from `work` where it is kept."""
    images = np.array_split(np.random.default_rng(0).permutation(len(data)), PARTS)[number]
    rows = sorted(int(i) for i in images)
    windows = [(i, w) for i in rows for w in chip_windows(data.record(i).width, data.record(i).height, CHIP_PX)]
    sides = np.array([[longest_px(data.record(i), w, c) for c in data.categories] for i, w in windows])

    def cosines() -> NDArray[np.float32]:
        mine = {i: [w for j, w in windows if j == i] for i in rows}
        side = encoder.card.image_px
        return np.concatenate(
            [encoder.encode_images(cut(data.image(i), ws, side)) @ question.queries.T for i, ws in mine.items()]
        )

    chips = kept(work / f"chips-{number}.npy", cosines)
    relevant = (sides > 0) & (sides < SMALL_PX)
    empty = np.full_like(chips, np.nan), np.zeros(chips.shape, np.bool_)
    looks = Looks(data.categories, np.array([i for i, _ in windows]), chips, *empty, relevant, sides >= SMALL_PX)
    best = best_rows(chips[:, relevant.any(0)], CANDIDATES)

    def places(size: int) -> NDArray[np.float16]:
        found = [encoder.patch_features(cut(data.image(windows[r][0]), [windows[r][1]], size))[0] for r in best]
        return np.stack(found).astype(np.float16)

    found = {size: kept(work / f"places-{number}-{size}.npy", partial(places, size)) for size in sizes}
    return Part(looks, [w for _, w in windows], best, found)


def kept(file: Path, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """An array from its file, or made and put there."""
    if not file.is_file():
        print(f"{file.name} ...", flush=True)
        np.save(file, make())
    array: NDArray[Any] = np.load(file)
    return array


# --- designs: a part's places -> maps [candidates, h, w, K], and maps -> evidence [candidates, K] ------------------


def odds(part: Part, size: int, question: Question) -> Scores:
    """Log-odds of each place against the prompts."""
    return question.scorer.place_scores(part.places[size].astype(np.float32), question.queries)


def averaged(part: Part, sizes: Sequence[int], question: Question) -> Scores:
    """Log-odds at several sizes on one grid: what `--point` takes."""
    maps = [odds(part, size, question) for size in sizes]
    px = CELLS * 8
    return np.asarray(
        np.mean([cell_scores(m, (px / m.shape[1], px / m.shape[2]), (CELLS, CELLS)) for m in maps], axis=0)
    )


def cosine(part: Part, size: int, question: Question) -> Scores:
    """Without prompts."""
    return np.asarray(part.places[size].astype(np.float32) @ question.queries.T)


def unusual(part: Part, size: int, question: Question) -> Scores:
    """Every word's cosines in standard deviations of all places of the archive, then the log-odds of those."""
    places = part.places[size].astype(np.float32)
    words = [places @ vectors.T for vectors in (question.queries, question.scorer.prompts)]
    asked, against = ((w - w.mean((0, 1, 2))) / w.std((0, 1, 2)) for w in words)
    counts = question.counts()
    return np.asarray(asked - np.log(np.exp(against) @ counts + 1e-12))


def peak_of_words(part: Part, size: int, question: Question) -> Scores:
    """The peak of the question against the peaks of the prompts, wherever in the chip they are."""
    places = part.places[size].astype(np.float32)
    asked, against = (
        question.scorer.calibration.temperature * (places @ v.T).max((1, 2))
        for v in (question.queries, question.scorer.prompts)
    )
    counts = question.counts()
    top = against.max(1, keepdims=True)
    return np.asarray(asked - top - np.log(np.exp(against - top) @ counts + 1e-12))[:, None, None]


def less_chip(part: Part, size: int, question: Question) -> Scores:
    """Cosines of what a place adds to its chip's mean."""
    places = part.places[size].astype(np.float32)
    rest = places - places.mean((1, 2), keepdims=True)
    return np.asarray(rest / np.linalg.norm(rest, axis=-1, keepdims=True) @ question.queries.T)


def peak(maps: Scores) -> Scores:
    """The best place."""
    return np.asarray(maps.max((1, 2)))


def best_three(maps: Scores) -> Scores:
    """Their mean."""
    return np.asarray(np.sort(maps.reshape(len(maps), -1, maps.shape[-1]), 1)[:, -3:].mean(1))


def mean_chance(maps: Scores) -> Scores:
    """How much of the chip it may be."""
    return np.asarray((1 / (1 + np.exp(-maps))).mean((1, 2)))


def peak_less_median(maps: Scores) -> Scores:
    """How far the best place stands out."""
    return np.asarray(maps.max((1, 2)) - np.median(maps, (1, 2)))


def designs(sizes: Sequence[int], question: Question) -> dict[str, tuple[Maps, Evidence]]:
    """Every design by name."""
    middle = sizes[min(1, len(sizes) - 1)]
    found: dict[str, tuple[Maps, Evidence]] = {}
    for count in range(1, len(sizes) + 1):
        for some in combinations(sizes, count):
            found["+".join(map(str, some)) + " peak"] = (partial(averaged, sizes=some, question=question), peak)
    for name, made in (("best three", best_three), ("mean chance", mean_chance), ("peak - median", peak_less_median)):
        found[f"{middle} {name}"] = (partial(odds, size=middle, question=question), made)
    for name, maps in (
        ("cosine", cosine),
        ("unusual", unusual),
        ("peak of words", peak_of_words),
        ("- chip", less_chip),
    ):
        found[f"{middle} {name}, peak"] = (partial(maps, size=middle, question=question), peak)
    return found


def line(name: str, parts: Sequence[Part], maps: Maps, made: Evidence, data: RegionSet) -> str:
    """One design's figures."""
    seen, small, other = [], [], []
    for part in parts:
        heat, looks = maps(part), part.looks
        looks.evidence[part.rows] = made(heat)
        seen.append(looks)
        for at, row in enumerate(part.rows):
            inside = peaks_inside(
                heat[[at]], [part.windows[row]], data.record(int(looks.images[row])), data.categories
            )[0]
            small += inside[looks.relevant[row]].tolist()
            other += inside[looks.larger[row]].tolist()
    cells = []
    for weight in WEIGHTS:
        ways = [
            [small_object_recall(one, 10, larger=how, weight=weight).pointed for one in seen]
            for how in ("aside", "against")
        ]
        cells.append(" / ".join(f"{np.mean(way):4.1f}" for way in ways))
    return (
        f"{name:22s} | "
        + " | ".join(cells)
        + f" | {100 * np.mean(small):.0f} % of {len(small)}, {100 * np.mean(other):.0f} % of {len(other)}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="geoglot-mini")
    parser.add_argument("--sizes", type=int, nargs="+", default=[144, 288, 576])
    parser.add_argument("--parts", type=int, nargs="+", default=list(range(PARTS)))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    encoder = dense(load_encoder(args.model))
    data = open_regions(RegionSource("vhr10", "coco", split="train"), args.data)
    scorer = Scorer.unmeasured(background_prompts(encoder), encoder.card.calibration)
    question = Question(encoder.encode_texts(list(data.categories)), scorer)
    parts = [part_of(number, data, encoder, question, args.sizes, args.work) for number in args.parts]
    print(f"{encoder.card.name} {encoder.card.version}, parts {args.parts}, {CANDIDATES} candidates")
    print(
        "design | " + " | ".join(f"weight {weight:g}" for weight in WEIGHTS) + " | best place in a box: small, larger"
    )
    for name, (maps, made) in designs(args.sizes, question).items():
        print(line(name, parts, maps, made, data), flush=True)


if __name__ == "__main__":
    main()
