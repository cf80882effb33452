"""FarSLIP's claims at small scale on real data, and geoglot-mini after its tuning.

    python benchmarks/farslip_small_data.py --data ../shared/data --work runs/farslip-small --model mini-torch
    python benchmarks/farslip_small.py train --work runs/farslip-small --model mini-torch
    python benchmarks/farslip_small.py score --work runs/farslip-small --model mini-torch --data ../shared/data
    python benchmarks/farslip_small.py report --work runs/farslip-small

All runs begin with the same model (`python -m geoglot.evaluation.release_torch` writes it) and see the same windows in
the same order. `plain`, `stage1` and `patch_to_cls` take the same number of steps; `plain2`, `stage2`, `pooled` and
`roi` go on from `plain` or `stage1` for as many again. The `tuned` ones take longer, for the targets; `tuned_objects`
learns from regions beside objects, too, `tuned_even` goes on with as many regions of each of Dubai's classes, and
`tuned_fine` and the like with smaller windows of Dubai. The lower half of the image tower stays as it is. In
geoglot-mini an image's embedding is the mean of its patches, so `patch_to_cls` is `stage1` and `pooled` is `stage2` but
for rounding; the runs named `vit_...` compare the same with a small transformer, which has a class token.
Sizes of windows and thresholds are chosen on Dubai's validation tile, on images of VHR-10 train that training did not
see, and on the Philippines' buildings; the tests are looked at once, with that choice. `tile` prints mIoU on Dubai's
validation tile for sizes of windows, to choose between runs without a look at the test. Every run and score is kept
in --work, so a killed command goes on where it was. Pixels, weights and results there are not part of the project.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import farslip_small_data as small
import numpy as np
import torch
from numpy.typing import NDArray

from geoglot.data.regions import RegionSource, open_regions
from geoglot.data.samples import read_samples
from geoglot.data.segmentation import SegmentationSet, open_segmentation
from geoglot.evaluation.embeddings import encode_samples
from geoglot.evaluation.questions import zero_shot
from geoglot.evaluation.retrieval import caption_retrieval
from geoglot.evaluation.segmentation import confusion, intersections_unions, score
from geoglot.models.encoder import DenseEncoder, dense
from geoglot.models.load import load_encoder
from geoglot.models.towers.architecture import VisionShape
from geoglot.models.towers.clip import build
from geoglot.models.zoo.registry import find_card
from geoglot.tasks.segment.classes import AUTO
from geoglot.tasks.segment.segmenter import Segmenter, SegmentSettings, segment_picture
from geoglot.tasks.segment.windows import ArrayPicture
from geoglot.training.distributed import open_world
from geoglot.training.finetune import Mix
from geoglot.training.journal import Progress
from geoglot.training.loop_config import Loop
from geoglot.training.model_folder import load_start, write_model
from geoglot.training.recipes.farslip.recipe import Config, start_of, tune_on
from geoglot.training.recipes.farslip.region_pairs import RegionPairs

PATCHES, REGIONS = {"patch_weight": 1.0}, {"region_weight": 1.0}
MANY = REGIONS | {"align": "cls", "most_regions": 4}
FROZEN = ("towers.visual.stem.*", "towers.visual.stages.[0-3].*")
WINDOWS = {"dubai": (112, 160, 224), "vhr10": (112, 160, 224), "oam": (224, 448)}  # px of the scene, seen as 224
THRESHOLDS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7)
CHOICE_IMAGES = 16  # of VHR-10 train
EVEN_SHARES = {"rsicd": 0.3, "objects": 0.25, "dubai_even": 0.35, "nymaps": 0.1}
FINE_SHARES = {"rsicd": 0.25, "objects": 0.15, "dubai_even": 0.15, "dubai_fine_even": 0.35, "nymaps": 0.1}
FINER_SHARES = {"rsicd": 0.25, "objects": 0.1, "dubai_even": 0.25, "dubai_fine_even": 0.35, "nymaps": 0.05}
UNEVEN_SHARES = {"rsicd": 0.25, "objects": 0.25, "dubai": 0.2, "dubai_fine": 0.2, "nymaps": 0.1}
TUNED_SHARES = {"rsicd": 0.35, "objects": 0.35, "dubai": 0.2, "nymaps": 0.1}


@dataclass(frozen=True)
class Run:
    """What differs from plain tuning: of the recipe, of its loop; after which run; how many times the usual steps."""

    options: dict[str, Any] = field(default_factory=dict)
    after: str = ""
    longer: float = 1.0
    loop: dict[str, Any] = field(default_factory=lambda: {"freeze": FROZEN})
    shares: dict[str, float] = field(default_factory=lambda: small.SHARES)


RUNS = {
    "plain": Run(),
    "stage1": Run(PATCHES),
    "patch_to_cls": Run(PATCHES | {"distill": "roi2cls"}),
    "plain2": Run(after="plain"),
    "stage2": Run(REGIONS | {"align": "cls"}, "stage1"),
    "pooled": Run(REGIONS | {"align": "pooled"}, "stage1"),
    "roi": Run(REGIONS | {"align": "roi"}, "stage1"),
    "tuned": Run(REGIONS | {"align": "cls"}, "stage1", 3.0),
    "tuned_roi": Run(REGIONS | {"align": "roi"}, "stage1", 3.0),
    "tuned_objects": Run(MANY, "stage1", 2.0, shares=TUNED_SHARES),
    "tuned_even": Run(MANY, "tuned_objects", 2.0, {"freeze": FROZEN[:1]}, shares=EVEN_SHARES),
    "tuned_fine": Run(MANY, "tuned_even", 2.0, {"freeze": FROZEN[:1]}, shares=FINE_SHARES),
    "tuned_fine_roi": Run(MANY | {"align": "roi"}, "tuned_even", 2.0, {"freeze": FROZEN[:1]}, shares=FINE_SHARES),
    "tuned_finer": Run(MANY, "tuned_fine", 4.0, {"freeze": FROZEN[:1]}, shares=FINER_SHARES),
    "tuned_uneven": Run(MANY, "tuned_objects", 2.0, {"freeze": FROZEN[:1]}, shares=UNEVEN_SHARES),
    # The same comparisons with a class token, trained here from random weights; the words are geoglot-mini's.
    "vit": Run(longer=7.5, loop={"batch": 64, "learning_rate": 1e-3}, shares=small.VIT_SHARES),
    "vit_plain": Run(after="vit", loop={}),
    "vit_stage1": Run(PATCHES, "vit", loop={}),
    "vit_patch_to_cls": Run(PATCHES | {"distill": "roi2cls"}, "vit", loop={}),
    "vit_plain2": Run(after="vit_plain", loop={}),
    "vit_stage2": Run(REGIONS | {"align": "cls"}, "vit_stage1", loop={}),
    "vit_pooled": Run(REGIONS | {"align": "pooled"}, "vit_stage1", loop={}),
    "vit_roi": Run(REGIONS | {"align": "roi"}, "vit_stage1", loop={}),
}
USUAL = ("plain", "stage1", "plain2", "stage2", "roi")


# --- training -----------------------------------------------------------------------------------


def config_of(run: Run, args: argparse.Namespace, seed: int) -> Config:
    steps = round(args.steps * run.longer)
    usual: dict[str, Any] = {"batch": args.batch, "learning_rate": args.learning_rate}
    loop = Loop(
        steps=steps,
        allow_high_learning_rate=True,
        weight_decay=0.05,
        warmup=steps // 10,
        clip=1.0,
        ema=0.98,
        seed=seed,
        checkpoint_every=50,
        log_every=20,
        workers=1,
        device="cpu",
        **(usual | run.loop),
    )
    model = args.model if run is not RUNS["vit"] else write_vit(args.model, args.work / "vit0")
    begin = {"init_from": str(folder_of(args.work, run.after, seed))} if run.after else {"model": str(model)}
    windows = tuple(RegionSource(name, "coco") for name in run.shares)  # as a record: the arrays are opened below
    return Config(
        loop=loop,
        regions=windows,
        loss="multi_positive",
        crops=2,
        region_px=(10.0, 1024.0),
        **({"most_regions": 3} | begin | run.options),
    )


def write_vit(model: Path, out: Path) -> Path:
    """A vision transformer with random weights beside the words of `model`, as a model folder."""
    start = load_start(find_card(str(model)))
    shape = start.card.architecture
    assert shape is not None
    vision = VisionShape("vit", 96, 16, 128, (4,), 4, 512, "cls")
    torch.manual_seed(0)
    towers = build(replace(shape, vision=vision))
    words = {name: value for name, value in start.towers.state_dict().items() if not name.startswith("visual.")}
    towers.load_state_dict(towers.state_dict() | words)
    card = replace(start.card, architecture=replace(shape, vision=vision))
    state = {f"towers.{name}": value for name, value in towers.state_dict().items()}
    write_model(replace(start, card=card), state, out, "vit0")
    return out


def folder_of(work: Path, name: str, seed: int) -> Path:
    return work / "runs" / f"{name}-{seed}"


def train(args: argparse.Namespace) -> None:
    """Every run that is asked for and not there yet, the runs before it first."""
    torch.set_num_threads(args.threads)
    for seed in args.seeds:
        for name in with_those_before(args.runs):
            out = folder_of(args.work, name, seed)
            if (out / "model" / "card.toml").is_file():
                continue
            began = perf_counter()
            config, shares = config_of(RUNS[name], args, seed), RUNS[name].shares
            sets = [RegionPairs(chips) for chips in small.load(args.work, tuple(shares))]
            with open_world("cpu") as world:
                mix = Mix(sets, list(shares.values()))
                tune_on(config, start_of(config), mix, Path(), out, world, on_progress=_say(name))
            spent = {"seconds": round(perf_counter() - began), "machine": platform.platform()}
            (out / "time.json").write_text(json.dumps(spent))


def with_those_before(names: Sequence[str]) -> list[str]:
    """The runs in an order in which each comes after what it begins with."""
    order: dict[str, None] = {}
    for name in names:
        chain = [name]
        while before := RUNS[chain[0]].after:
            chain.insert(0, before)
        order |= dict.fromkeys(chain)
    return list(order)


def _say(name: str) -> Callable[[Progress], None]:
    return lambda p: print(f"{name} {p.step}/{p.steps} loss {p.loss:.3f} {p.samples_per_s:.1f}/s", flush=True)


# --- scoring ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """How a set's scenes are segmented."""

    window_px: int
    threshold: float


def segmented(encoder: DenseEncoder, data: SegmentationSet, window_px: int) -> NDArray[np.int64]:
    """Intersections and unions [N, thresholds, 2, K] at one size of windows. Without a background there is one
    threshold."""
    inner = [",".join(words) for at, words in enumerate(data.classes) if at != data.background]
    has_background = data.background is not None
    side = max(encoder.card.image_px, 7 * encoder.patch_px)  # 224 px for geoglot-mini, 112 for the transformer
    settings = SegmentSettings(
        window_px=round(window_px * side / 224),
        model_px=side,
        overlap=0.25,
        presence=0.0,
        background=(AUTO,) if has_background else None,
    )
    segmenter = Segmenter(encoder, inner, settings)
    thresholds = THRESHOLDS if has_background else THRESHOLDS[:1]
    rows = []
    for i in range(len(data)):
        image, truth = data.image(i), data.mask(i)
        chances = segment_picture(segmenter, ArrayPicture(image)).probabilities  # [H, W, 1 + K], background first
        answers = [_answer(chances, threshold, has_background) for threshold in thresholds]
        rows.append([intersections_unions(confusion(answer, truth, len(data.classes))) for answer in answers])
    return np.array(rows)


def _answer(chances: NDArray[np.float32], threshold: float, has_background: bool) -> NDArray[np.uint8]:
    """The best class where its probability reaches the threshold, be the background's higher or not."""
    best, chance = chances[..., 1:].argmax(2), chances[..., 1:].max(2)
    if not has_background:
        return best.astype(np.uint8)
    return np.where(chance < threshold, 0, best + 1).astype(np.uint8)


def choose(encoder: DenseEncoder, data: SegmentationSet, windows: Sequence[int]) -> tuple[Choice, float]:
    """The size of windows and threshold with the best mean IoU."""
    found = []
    for window_px in windows:
        parts = segmented(encoder, data, window_px)
        for at in range(parts.shape[1]):
            made = score(parts[:, at], tuple(words[0] for words in data.classes), rounds=1)
            found.append((made.miou, Choice(window_px, THRESHOLDS[at])))
    best = max(found, key=lambda pair: pair[0])
    return best[1], best[0]


def tested(encoder: DenseEncoder, data: SegmentationSet, choice: Choice) -> dict[str, Any]:
    parts = segmented(encoder, data, choice.window_px)
    at = THRESHOLDS.index(choice.threshold) if parts.shape[1] > 1 else 0
    made = score(parts[:, at], tuple(words[0] for words in data.classes))
    classes = dict(zip(made.names, np.round(made.iou, 2).tolist(), strict=True))
    return {"value": made.miou, "interval": made.interval, "classes": classes, "choice": asdict(choice)}


def held_out(data: Path) -> SegmentationSet:
    """Images of VHR-10 train that training did not see."""
    regions, _, rows = small.vhr10_parts(data)
    names = {Path(regions.record(i).image).name for i in rows[:CHOICE_IMAGES]}
    whole = open_segmentation("vhr10", data / "vhr10", "train")
    return replace(whole, scenes=tuple(scene for scene in whole.scenes if scene.image.name in names))


def scores_of(encoder: DenseEncoder, data: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Every measurement by name; nothing is computed until it is called."""

    def segmentation(name: str, valid: Callable[[], SegmentationSet]) -> dict[str, Any]:
        choice, value = choose(encoder, valid(), WINDOWS[name])
        return tested(encoder, open_segmentation(name, data / folders[name], "test"), choice) | {"chosen_at": value}

    def plain(name: str, split: str | None) -> dict[str, Any]:
        samples = read_samples(data / name / "captions.jsonl", split)
        images = encode_samples(encoder, samples)
        if name == "ucm":
            number = zero_shot(encoder, samples, "ucm", "en", images)
        else:
            number = next(n for n in caption_retrieval(encoder, samples, images) if n.metric == "mR")
        return {"value": number.value, "interval": number.interval, "protocol": number.protocol}

    folders = {"dubai": "dubai", "vhr10": "vhr10", "oam": "scenes/oam"}
    return {
        "UC Merced top-1": lambda: plain("ucm", None),
        "RSICD valid mR": lambda: plain("rsicd", "valid"),
        "Dubai test mIoU": lambda: segmentation("dubai", lambda: open_segmentation("dubai", data / "dubai", "valid")),
        "VHR-10 test mIoU": lambda: segmentation("vhr10", lambda: held_out(data)),
        "Kampala mIoU": lambda: segmentation("oam", lambda: open_segmentation("oam", data / "scenes/oam", "valid")),
        "VHR-10 pointing": lambda: pointing(encoder, data),
    }


def pointing(encoder: DenseEncoder, data: Path) -> dict[str, Any]:
    """Share of (image, class) pairs whose best place lies inside an instance of the class."""
    from measures.pointing import pointing_accuracy

    made = pointing_accuracy(encoder, open_regions(RegionSource("vhr10", "coco", split="test"), data))
    return {"value": made.accuracy, "interval": made.interval, "in_outline": made.in_outline, "pairs": made.pairs}


def score_all(args: argparse.Namespace) -> None:
    """Every measurement of every model that is not kept yet."""
    models = {"start": args.model}
    for seed in args.seeds:
        models |= {f"{name}-{seed}": folder_of(args.work, name, seed) / "model" for name in args.runs}
    (args.work / "scores").mkdir(exist_ok=True)
    for name, folder in models.items():
        if not (folder / "card.toml").is_file():
            print(f"{name}: not trained yet")
            continue
        file = args.work / "scores" / f"{name}.json"
        kept = json.loads(file.read_text()) if file.is_file() else {}
        encoder = dense(load_encoder(str(folder), runtime="torch", threads=args.threads, device="cpu"))
        for metric, measure in scores_of(encoder, args.data).items():
            if metric in kept or (args.only and metric not in args.only):
                continue
            began = perf_counter()
            kept[metric] = measure() | {"seconds": 0}
            kept[metric]["seconds"] = round(perf_counter() - began)
            file.write_text(json.dumps(kept, indent=1))
            print(f"{name}: {metric} {kept[metric]['value']:.2f} ({kept[metric]['seconds']} s)", flush=True)


def on_the_tile(args: argparse.Namespace) -> None:
    """mIoU on Dubai's validation tile, in percent, for each run and size of windows."""
    valid = open_segmentation("dubai", args.data / "dubai", "valid")
    for name in args.runs:
        folder = folder_of(args.work, name, args.seeds[0]) / "model"
        encoder = dense(load_encoder(str(folder), runtime="torch", threads=args.threads, device="cpu"))
        for window_px in args.windows:
            parts = segmented(encoder, valid, window_px)[:, 0]
            made = score(parts, tuple(words[0] for words in valid.classes), rounds=1)
            print(f"{name}: windows of {window_px} px {made.miou:.1f}", flush=True)


# --- reporting ----------------------------------------------------------------------------------


def report(args: argparse.Namespace) -> None:
    """A Markdown table: mean over seeds, and the 95 % bootstrap interval of the first seed; then the choices."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted((args.work / "scores").glob("*.json"))}
    metrics = list(dict.fromkeys(metric for table in found.values() for metric in table))
    print("| run |" + "".join(f" {metric} |" for metric in metrics))
    print("|---|" + "---|" * len(metrics))
    for name in ["start", *RUNS]:
        tables = [t for key, t in found.items() if key == name or key.rpartition("-")[0] == name]
        if tables:
            print(f"| {name} |" + "".join(f" {_cell([t[m] for t in tables if m in t])} |" for m in metrics))
    for key, table in found.items():
        for metric, entry in table.items():
            if "choice" in entry:
                print(f"\n{key}, {metric}: {entry['choice']}, {entry['classes']}")


def _cell(entries: list[dict[str, Any]]) -> str:
    if not entries:
        return ""
    values = [entry["value"] for entry in entries]
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    interval = entries[0].get("interval")
    return f"{np.mean(values):.1f}{spread}" + (f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "tile", "score", "report"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="folder of the model that all runs begin with")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(USUAL))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", help="metrics to score")
    parser.add_argument("--windows", type=int, nargs="+", default=list(WINDOWS["dubai"]), help="px of the scene")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    {"train": train, "tile": on_the_tile, "score": score_all, "report": report}[args.what](args)


if __name__ == "__main__":
    main()
