"""Directions of three papers' claims at small scale on real data: tuning methods, interpolation, purified captions.

    python benchmarks/small_tuning.py base --data ../shared/data --work runs/small
    python benchmarks/small_tuning.py peft --data ../shared/data --work runs/small
    python benchmarks/small_tuning.py interpolation --data ../shared/data --work runs/small
    python benchmarks/small_tuning.py purify --data ../shared/data --work runs/small

A 64 px vision transformer and a word-level text tower are trained from scratch on EuroSAT train (class names) and one
half of RSICD train: the base. Each experiment tunes the base on the other half: `peft` as GeoRSCLIP's Table I,
`interpolation` as WiSE-FT's curve, `purify` as CLIP-RS, with 30 % of that half's captions shuffled. Learning rates are
chosen on RSICD valid; RSICD test, EuroSAT test and UC Merced (held out) are reported. Every finished run is kept in
--work, so a killed command goes on where it was. Pixels, weights and results there are not part of the project.
"""

from __future__ import annotations

import argparse
import json
import platform
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from measures.shuffling import shuffle_captions
from measures.words import WordTokenizer
from numpy.typing import NDArray
from torch import Tensor, nn

from geoglot.data.samples import Sample, load_pixels, read_samples
from geoglot.evaluation.questions import questions
from geoglot.models.peft.attach import merge, tune
from geoglot.models.peft.settings import Tuning
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.towers.clip import Clip, build
from geoglot.training.distributed import World
from geoglot.training.loop_config import Loop
from geoglot.training.objective import Batch, Contrastive
from geoglot.training.recipes.gaia.interpolation import sweep
from geoglot.training.recipes.purify.scores import keep_best, pair_scores
from geoglot.training.schedules import rate_at
from geoglot.training.weights import count, make_optimizer

SIDE, CONTEXT, BATCH = 64, 24, 64
BASE_STEPS, TUNE_STEPS = 2000, 300
MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
PART_RATES = (3e-3, 1e-3)
RATES = {"full": (3e-4, 1e-4), **dict.fromkeys(("lora", "adapter", "prefix", "unipelt", "bitfit"), PART_RATES)}
SHUFFLED = 0.3
ALPHAS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pool:
    """Images with one or more captions each; `labels` for zero-shot sets."""

    pixels: Pixels
    captions: list[tuple[str, ...]]
    labels: list[str]

    def part(self, rows: NDArray[np.int64]) -> Pool:
        return Pool(self.pixels[rows], [self.captions[i] for i in rows], [self.labels[i] for i in rows])

    def __add__(self, other: Pool) -> Pool:
        pixels = np.concatenate([self.pixels, other.pixels])
        return Pool(pixels, self.captions + other.captions, self.labels + other.labels)


# --- data ---------------------------------------------------------------------------------------


def load_pools(data: Path, work: Path) -> dict[str, Pool]:
    """Every set at 64 px, decoded once."""
    names = tomllib.loads(Path("configs/mini_labels.toml").read_text())["eurosat"]
    pools = {}
    for name, file, split, most in (
        ("rsicd_train", "rsicd/captions.jsonl", "train", None),
        ("rsicd_valid", "rsicd/captions.jsonl", "valid", None),
        ("rsicd_test", "rsicd/captions.jsonl", "test", None),
        ("eurosat_train", "eurosat/labels.jsonl", "train", 4000),
        ("eurosat_valid", "eurosat/labels.jsonl", "train", 4500),
        ("eurosat_test", "eurosat/labels.jsonl", "test", 1500),
        ("ucm", "ucm/captions.jsonl", None, None),
    ):
        samples = read_samples(data / file, split)
        order = np.random.default_rng(0).permutation(len(samples))
        samples = [samples[i] for i in (order if most is None else order[:most])]
        samples = samples[4000:] if name == "eurosat_valid" else samples
        captions = [s.captions or tuple(f"a satellite image of {n}" for n in names[s.label]) for s in samples]
        pools[name] = Pool(_pixels(samples, work / f"{name}.npy"), captions, [str(s.label) for s in samples])
    half = len(pools["rsicd_train"].pixels) // 2
    whole = np.arange(len(pools["rsicd_train"].pixels))
    pools["first"] = pools["eurosat_train"] + pools["rsicd_train"].part(whole[:half])
    pools["second"] = pools["rsicd_train"].part(whole[half:])
    return pools


def _pixels(samples: Sequence[Sample], file: Path) -> Pixels:
    if not file.is_file():
        np.save(file, load_pixels(samples, SIDE))
    kept: Pixels = np.load(file)
    return kept


# --- model, training, measuring -----------------------------------------------------------------


def small_tower(vocabulary: int) -> Clip:
    vision = VisionShape("vit", SIDE, 16, 96, (3,), 4, 384, "cls")
    text = TextShape("clip", CONTEXT, vocabulary, 96, 2, 4, 384)
    model = build(Architecture(vision, text, 96, "gelu"))
    assert isinstance(model, Clip)
    return model


def fit(model: Clip, pool: Pool, words: WordTokenizer, rate: float, steps: int, seed: int) -> float:
    """Train what is free in the model; seconds."""
    began = perf_counter()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    loop = Loop(batch=BATCH, steps=steps, learning_rate=rate, weight_decay=0.05, warmup=steps // 10)
    objective = Contrastive(model, "multi_positive", mean=MEAN, std=STD).train()
    optimizer = make_optimizer(objective, loop)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * rate_at(step, steps, loop.warmup)
        rows = rng.choice(len(pool.pixels), BATCH, replace=False)
        texts = words.ids([pool.captions[i][rng.integers(len(pool.captions[i]))] for i in rows])
        images = _turned(pool.pixels[rows], rng)
        batch = Batch(torch.from_numpy(images), torch.from_numpy(texts)[:, None], torch.from_numpy(rows))
        loss = torch.stack(list(objective.loss(objective(batch), batch, World()).values())).sum()
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step(step)
        if step % 50 == 49:
            print(f"  step {step + 1}/{steps} loss {loss.item():.3f} {perf_counter() - began:.0f} s", flush=True)
    model.eval()
    return perf_counter() - began


def _turned(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Quarter turns and flips: seen from above there is no up, and RSICD hardly speaks of left and right."""
    pixels = pixels[:, :, ::-1] if rng.random() < 0.5 else pixels
    return np.ascontiguousarray(np.rot90(pixels, rng.integers(4), (1, 2)))


@torch.no_grad()
def encode_images(model: Clip, pixels: Pixels) -> NDArray[np.float32]:
    objective = Contrastive(model, "multi_positive", mean=MEAN, std=STD).eval()
    parts = [torch.from_numpy(pixels[i : i + 256]) for i in range(0, len(pixels), 256)]
    return _unit(torch.cat([model.encode_image(objective.pixels(part)) for part in parts]))


@torch.no_grad()
def encode_texts(model: Clip, words: WordTokenizer, texts: Sequence[str]) -> NDArray[np.float32]:
    parts = [torch.from_numpy(words.ids(texts[i : i + 512])) for i in range(0, len(texts), 512)]
    return _unit(torch.cat([model.encode_text(model.needed(part)) for part in parts]))


def _unit(rows: Tensor) -> NDArray[np.float32]:
    out: NDArray[np.float32] = nn.functional.normalize(rows, dim=1).numpy()
    return out


def retrieval_shares(model: Clip, words: WordTokenizer, pool: Pool) -> NDArray[np.float64]:
    """Protocol `ret/rs5m`: what each image [N] adds to the mean of the six recalls, percent; their mean is mR."""
    images = encode_images(model, pool.pixels)
    texts = encode_texts(model, words, [c for captions in pool.captions for c in captions])
    owner = np.repeat(np.arange(len(pool.captions)), [len(c) for c in pool.captions])
    scores = texts @ images.T  # [M, N]
    own = scores[np.arange(len(owner)), owner]
    before = (scores >= own[:, None]).sum(1) - 1  # others at least as good; ties count against us
    best = np.maximum.reduceat(own, np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]]))
    mine = owner[:, None] == np.arange(len(images))
    ahead = ((scores >= best) & ~mine).sum(0)
    shares = [np.bincount(owner, before < k) / np.bincount(owner) for k in (1, 5, 10)] + [ahead < k for k in (1, 5, 10)]
    out: NDArray[np.float64] = 100 * np.mean([np.asarray(s, np.float64) for s in shares], axis=0)
    return out


def zero_shot_hits(model: Clip, words: WordTokenizer, pool: Pool, group: str) -> NDArray[np.float64]:
    """Protocol `zsc/questions`, English: 100 for each image [N] whose class comes first, else 0."""
    asked = {label: texts["en"] for label, texts in questions()[group].items()}
    found = (encode_images(model, pool.pixels) @ encode_texts(model, words, list(asked.values())).T).argmax(1)
    names = list(asked)
    return np.array([100.0 * (names[at] == label) for at, label in zip(found, pool.labels, strict=True)])


def report(model: Clip, words: WordTokenizer, pools: dict[str, Pool]) -> dict[str, list[float]]:
    """Everything that is reported, image by image, so that intervals can be computed later."""
    return {
        "RSICD test mR": retrieval_shares(model, words, pools["rsicd_test"]).round(3).tolist(),
        "UC Merced": zero_shot_hits(model, words, pools["ucm"], "ucm").tolist(),
        "EuroSAT test": zero_shot_hits(model, words, pools["eurosat_test"], "eurosat").tolist(),
    }


REPORTED = ("RSICD test mR", "UC Merced", "EuroSAT test")


def interval(values: NDArray[np.float64], rounds: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over images."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(rounds)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def cell(runs: Sequence[Sequence[float]], against: Sequence[Sequence[float]] | None = None) -> str:
    """Mean over seeds and images (interval over images) [range over seeds]; or the difference to another row."""
    values = np.array(runs)
    if against is not None:
        difference = values.mean(0) - np.array(against).mean(0)
        low, high = interval(difference)
        return f"{difference.mean():+.1f} ({low:+.1f} to {high:+.1f})"
    low, high = interval(values.mean(0))
    seeds = f" [{values.mean(1).min():.1f} to {values.mean(1).max():.1f}]" if len(values) > 1 else ""
    return f"{values.mean():.1f} ({low:.1f} to {high:.1f}){seeds}"


# --- runs that are kept -------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Vectors of the base: of the coarse pool's images and captions, and of the good pool's images."""

    images: NDArray[np.float32]
    texts: list[NDArray[np.float32]]
    good: NDArray[np.float32]


@dataclass
class Lab:
    data: Path
    work: Path
    pools: dict[str, Pool]
    words: WordTokenizer
    seeds: range

    def base(self) -> Clip:
        model = small_tower(self.words.vocabulary)
        model.load_state_dict(torch.load(self.work / "base.pt", weights_only=True))
        return model.eval()

    @cached_property
    def seen_by_base(self) -> Seen:
        """What the base makes of the coarse pool and of the good one."""
        model, coarse = self.base(), self.pools["second"]
        rows = encode_texts(model, self.words, [c for captions in coarse.captions for c in captions])
        texts = np.split(rows, np.cumsum([len(c) for c in coarse.captions])[:-1])
        good = encode_images(model, self.pools["first"].pixels)
        return Seen(encode_images(model, coarse.pixels), texts, good)

    def kept(self, name: str, make: Callable[..., dict[str, object]], *args: object) -> dict[str, object]:
        """The result of `make(self, *args)`, from its file if it was done before."""
        file = self.work / f"{name}.json"
        if not file.is_file():
            print(f"{name} ...", flush=True)
            result = make(self, *args)
            half = file.with_suffix(".half")
            half.write_text(json.dumps(result))
            half.replace(file)
        kept: dict[str, object] = json.loads(file.read_text())
        return kept


def run_base(lab: Lab) -> None:
    if (lab.work / "base.pt").is_file():
        print("the base is there")
        return
    torch.manual_seed(0)
    model = small_tower(lab.words.vocabulary)
    seconds = fit(model, lab.pools["first"], lab.words, 1e-3, BASE_STEPS, 0)
    torch.save(model.state_dict(), lab.work / "base.pt")
    print(f"{count(model)['all']:,} parameters, {BASE_STEPS} steps in {seconds:.0f} s")


def tuned(lab: Lab, method: str, rate: float, seed: int) -> dict[str, object]:
    """One tuning run: validation first, then what is reported."""
    model = lab.base()
    torch.manual_seed(seed)
    if method != "none":
        tune(model, Tuning(method, preset="" if method == "full" else "adapterhub"))
        trained = count(model)["trained"]
        seconds = fit(model, lab.pools["second"], lab.words, rate, TUNE_STEPS, seed)
    else:
        trained, seconds = 0, 0.0
    valid = float(retrieval_shares(model, lab.words, lab.pools["rsicd_valid"]).mean())
    numbers = report(model, lab.words, lab.pools)
    if method in ("full", "lora"):
        merge(model)
        torch.save(model.state_dict(), lab.work / f"{method}-{rate:g}-{seed}.pt")
    return {"trained": trained, "seconds": seconds, "valid": valid, **numbers}


def run_peft(lab: Lab) -> None:
    rows = {"zero-shot (base)": [lab.kept("peft-none", tuned, "none", 0.0, 0)]}
    tried: dict[str, dict[float, dict[str, object]]] = {method: {} for method in RATES}
    for place in range(2):
        for method, both in RATES.items():
            rate = both[place]
            tried[method][rate] = lab.kept(f"peft-{method}-{rate:g}-0", tuned, method, rate, 0)
    rates = {method: _best(runs) for method, runs in tried.items()}
    for seed in lab.seeds:
        for method, rate in rates.items():
            done = lab.kept(f"peft-{method}-{rate:g}-{seed}", tuned, method, rate, seed)
            rows.setdefault(method, []).append(done)
    _print_table(rows, rates)


def _best(runs: dict[float, dict[str, object]]) -> float:
    """The rate that is best on RSICD valid."""
    return max(runs, key=lambda rate: runs[rate]["valid"])


def _print_table(rows: dict[str, list[dict[str, object]]], rates: dict[str, float]) -> None:
    print("\n| method | trained parameters | rate | RSICD valid mR | " + " | ".join(REPORTED) + " | s |")
    print("|---|---|---|---|---|---|---|---|")
    for method, runs in rows.items():
        cells = [cell([run[name] for run in runs]) for name in REPORTED]
        valid, seconds = (float(np.mean([run[key] for run in runs])) for key in ("valid", "seconds"))
        rate = f"{rates[method]:g}" if method in rates else ""
        print(f"| {method} | {runs[0]['trained']:,} | {rate} | {valid:.1f} | {' | '.join(cells)} | {seconds:.0f} |")
    print("\nDifference to the base, and of full tuning to each, over the same images:\n")
    print("| method | " + " | ".join(f"{name} - base" for name in REPORTED) + " | full - method, RSICD test mR |")
    print("|---|---|---|---|---|")
    base = rows["zero-shot (base)"]
    for method in rates:
        cells = [cell([r[n] for r in rows[method]], [r[n] for r in base]) for n in REPORTED]
        gap = cell([r[REPORTED[0]] for r in rows["full"]], [r[REPORTED[0]] for r in rows[method]])
        print(f"| {method} | {' | '.join(cells)} | {gap} |")


def run_interpolation(lab: Lab) -> None:
    tried = {r: lab.kept(f"peft-full-{r:g}-0", tuned, "full", r, 0) for r in RATES["full"]}
    rate = _best(tried)
    before = lab.base().state_dict()
    curves = []
    for seed in lab.seeds:
        lab.kept(f"peft-full-{rate:g}-{seed}", tuned, "full", rate, seed)
        after = torch.load(lab.work / f"full-{rate:g}-{seed}.pt", weights_only=True)
        curves.append(lab.kept(f"blend-{seed}", _curve, before, after))
    print("\n| alpha | RSICD valid mR | EuroSAT valid | " + " | ".join(REPORTED) + " |")
    print("|---|---|---|---|---|---|")
    for alpha in map(str, ALPHAS):
        valid = [float(np.mean([curve[alpha][key] for curve in curves])) for key in ("gained", "kept")]
        cells = [cell([curve[alpha][name] for curve in curves]) for name in REPORTED]
        print(f"| {alpha} | {valid[0]:.1f} | {valid[1]:.1f} | {' | '.join(cells)} |")
    print("\nAgainst the straight line between the ends, over the same images:\n")
    print("| alpha | " + " | ".join(REPORTED) + " |\n|---|---|---|---|")
    for alpha in ALPHAS[1:-1]:
        cells = []
        for name in REPORTED:
            ends = [np.array([curve[str(end)][name] for curve in curves]) for end in (0.0, 1.0)]
            cells.append(cell([c[str(alpha)][name] for c in curves], (1 - alpha) * ends[0] + alpha * ends[1]))
        print(f"| {alpha} | {' | '.join(cells)} |")


def _curve(lab: Lab, before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, object]:
    model, out = lab.base(), {}

    def measure() -> tuple[float, float]:
        kept = zero_shot_hits(model, lab.words, lab.pools["eurosat_valid"], "eurosat").mean()
        gained = retrieval_shares(model, lab.words, lab.pools["rsicd_valid"]).mean()
        out[len(out)] = report(model, lab.words, lab.pools)
        return float(kept), float(gained)

    points = sweep(model, before, after, measure, ALPHAS)
    return {str(p.alpha): {"kept": p.kept, "gained": p.gained, **out[at]} for at, p in enumerate(points)}


def run_purify(lab: Lab) -> None:
    rows: dict[str, list[dict[str, object]]] = {}
    for seed in lab.seeds:
        for arm in ("unpurified", "filtered", "filtered and refined", "never shuffled"):
            name = f"purify-{arm.replace(' ', '_')}-{seed}"
            rows.setdefault(arm, []).append(lab.kept(name, _purified, arm, seed))
    print("\n| coarse pool | pairs | " + " | ".join(REPORTED) + " |\n|---|---|---|---|---|")
    for arm, runs in rows.items():
        cells = [cell([run[name] for run in runs]) for name in REPORTED]
        print(f"| {arm} | {np.mean([run['pairs'] for run in runs]):.0f} | {' | '.join(cells)} |")
    print("\n| difference | " + " | ".join(REPORTED) + " |\n|---|---|---|---|")
    pairs = (("filtered", "unpurified"), ("filtered and refined", "unpurified"), ("never shuffled", "filtered"))
    for one, other in pairs:
        cells = [cell([r[n] for r in rows[one]], [r[n] for r in rows[other]]) for n in REPORTED]
        print(f"| {one} - {other} | {' | '.join(cells)} |")
    facts = rows["filtered"]
    for name in ("auc", "shuffled among dropped", "shuffled dropped"):
        print(f"{name}: " + ", ".join(f"{run[name]:.3f}" for run in facts))


def _purified(lab: Lab, arm: str, seed: int) -> dict[str, object]:
    """Score the coarse pool with the base (CLIP_Sem: it saw the good pool only), filter, refine, train anew."""
    coarse, seen = lab.pools["second"], lab.seen_by_base
    shuffled, wrong = shuffle_captions([(str(at),) for at in range(len(coarse.captions))], SHUFFLED, seed)
    source = [int(at) for (at,) in shuffled]
    dirty = [coarse.captions[at] for at in source]
    scores = pair_scores(seen.images, [seen.texts[at] for at in source])
    kept = keep_best(scores, 1 - SHUFFLED)
    facts = {
        "auc": float((scores[~wrong][:, None] > scores[wrong][None, :]).mean()),
        "shuffled among dropped": float(wrong[~kept].mean()),
        "shuffled dropped": float((~kept)[wrong].mean()),
    }
    pool = Pool(coarse.pixels, coarse.captions if arm == "never shuffled" else dirty, coarse.labels)
    if arm == "filtered":
        pool = pool.part(np.flatnonzero(kept))
    if arm == "filtered and refined":
        new = iter(_captions_of_the_nearest(lab, seen.images[~kept]))
        pool = Pool(pool.pixels, [c if ok else next(new) for c, ok in zip(dirty, kept, strict=True)], pool.labels)
    model = lab.base()
    seconds = fit(model, pool, lab.words, 3e-4, TUNE_STEPS, seed)
    return {**facts, "pairs": len(pool.pixels), "seconds": seconds, **report(model, lab.words, lab.pools)}


def _captions_of_the_nearest(lab: Lab, images: NDArray[np.float32]) -> list[tuple[str, ...]]:
    """As `NearestCaptions`: what is said of the most similar image of the good pool."""
    nearest = (images @ lab.seen_by_base.good.T).argmax(1)
    return [lab.pools["first"].captions[at] for at in nearest]


RUNS = {"base": run_base, "peft": run_peft, "interpolation": run_interpolation, "purify": run_purify}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(RUNS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    pools = load_pools(args.data, args.work)
    captions = [c for name in ("first", "second") for said in pools[name].captions for c in said]
    lab = Lab(args.data, args.work, pools, WordTokenizer.of(captions, CONTEXT, least=5), range(args.seeds))
    print(
        f"{platform.machine()}, Python {platform.python_version()}, PyTorch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {lab.words.vocabulary:,} words"
    )
    RUNS[args.what](lab)


if __name__ == "__main__":
    main()
