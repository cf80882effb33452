"""Recipe `mini`: train the bundled dual encoder from scratch on RSICD, EuroSAT, VHR-10 and Dubai train and the sandbox.

    python -m geoglot.training.recipes.mini --config configs/mini_1.toml --data ../shared/data --out runs/mini
    python -m geoglot.training.recipes.mini --config configs/mini_1.toml --data ../shared/data --out runs/smoke --smoke

Loss = multi-positive InfoNCE between chips and token rows + class cross-entropy through a linear head that is thrown
away. Chips grow during training (small ones are cheap and teach the coarse things first). The shipped weights are an
exponential moving average. Stop it at any time and start it again: it goes on from the last checkpoint. A config may
name the config to train first (`after`); its run lies in the folder `before` of the run folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.config import load_config
from geoglot.data.glossary.reading import words_of
from geoglot.data.mask_crops import mask_crops
from geoglot.data.object_crops import object_crops
from geoglot.data.samples import Sample, load_pixels, read_samples
from geoglot.data.segmentation import open_segmentation
from geoglot.errors import UsageError
from geoglot.models.tokenizers.concepts import ConceptTokenizer
from geoglot.models.towers.convnet_training import DualTower, TowerShape
from geoglot.training.journal import OnProgress
from geoglot.training.labels import LabelNames
from geoglot.training.losses import cosine_schedule, label_positives, maybe_positives, multi_positive_nce, same_text
from geoglot.training.pools import Pool, common_words, make_pool, phrase, token_uses, vary_tokens
from geoglot.training.views import ViewRanges, random_views

log = logging.getLogger("geoglot.mini")

CHUNK = 64  # chips a pass of the image tower: 197 against 162 chips/s for 128 at once on two cores (caches)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that decides the weights, but for the data.

    Attributes:
        seed: Of every random choice.
        steps: Optimiser steps.
        rsicd, eurosat, sandbox, vhr10, dubai: Chips of each source in a batch.
        share_names: Classes of several sources that share a name are right for each other; False, for the ablation,
            lets each source keep its classes to itself, as version 0 did.
        after: Config of the run whose weights and token ids this one starts from; empty: from scratch.
        phases: (share of the steps done, side in pixels) in rising order; the last share is 1.
        label_share: How often a text names the class instead of being a caption.
        common: Class names are said in phrases, among words that captions of at least this share of RSICD's classes
            use and that name no class; 0: a name is said bare.
        learning_rate, weight_decay, warmup: AdamW with a cosine.
        head_weight: Of the class cross-entropy.
        ema: Decay of the moving average.
        sandbox_per_kind: Drawn chips of each kind.
        sandbox_from: First step that uses the sandbox; before it, RSICD fills its place in the batch.
        min_word_count: Uses in training below which a word gets no token, and a concept counts as never learned.
        checkpoint_every: Steps.
        label_names: File with other ways to name the classes.
    """

    seed: int = 0
    steps: int = 3000
    rsicd: int = 80
    eurosat: int = 24
    sandbox: int = 24
    vhr10: int = 0
    dubai: int = 0
    share_names: bool = True
    after: str = ""
    phases: tuple[tuple[float, int], ...] = ((0.4, 64), (1.0, 96))
    label_share: float = 0.3
    common: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 100
    head_weight: float = 0.5
    ema: float = 0.998
    sandbox_per_kind: int = 80
    sandbox_from: int = 0
    min_word_count: int = 5
    checkpoint_every: int = 100
    label_names: str = "configs/mini_labels.toml"

    def __post_init__(self) -> None:
        if not self.phases or self.phases[-1][0] != 1.0:
            raise UsageError(f"phases {self.phases} must end with a share of 1.0")
        if min(self.steps, self.rsicd + self.eurosat + self.sandbox + self.vhr10 + self.dubai) < 1:
            raise UsageError("steps and the batch must be positive")

    def side_px(self, step: int) -> int:
        """Side of the views at a step."""
        return next(int(side) for share, side in self.phases if step < share * self.steps or share == 1.0)


class Student(nn.Module):
    """The towers with the throw-away class head."""

    def __init__(self, shape: TowerShape, classes: int) -> None:
        super().__init__()
        self.towers = DualTower(shape)
        self.head = nn.Linear(shape.widths[-1], classes)

    def forward(self, views: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = torch.cat([self.towers.image.features(part).mean((2, 3)) for part in torch.split(views, CHUNK)])
        images = F.normalize(self.towers.image.project(pooled), dim=1)
        longest = int((tokens > 0).sum(1).max())
        texts = F.normalize(self.towers.text(tokens[:, :longest]), dim=1)
        return images, texts, self.head(F.dropout(pooled, 0.2, self.training))


def build_tokenizer(samples: list[Sample], min_count: int) -> ConceptTokenizer:
    """The glossary plus the English words that the captions use often."""
    counts = Counter(word for s in samples for c in s.captions for word in words_of(c))
    return ConceptTokenizer.from_glossary(w for w, n in counts.most_common() if n >= min_count)


def build_pools(config: Config, data: Path, cache: Path) -> tuple[dict[str, Pool], ConceptTokenizer, LabelNames]:
    """Read and tokenise all sources: pools by name, the tokenizer, the classes (real ones first)."""
    other_names = tomllib.loads(Path(config.label_names).read_text("utf-8"))
    rsicd = read_samples(data / "rsicd" / "captions.jsonl", "train")
    eurosat = read_samples(data / "eurosat" / "labels.jsonl", "train")
    frozen = cache / "tokenizer.json"  # a resumed run keeps its token ids, whatever became of the glossary
    if not frozen.is_file():
        build_tokenizer(rsicd, config.min_word_count).save(frozen)
    tokenizer = ConceptTokenizer.load(frozen)
    names = LabelNames(other_names)

    def pool(source: str, pixels: NDArray[np.uint8], captions: list[tuple[str, ...]], labels: list[str | None]) -> Pool:
        numbers = [names.number(source, label) for label in labels]
        texts = {n: names.of(n) for n in set(numbers) if n >= 0}
        return make_pool(source, pixels, captions, numbers, texts, tokenizer)

    pools = {
        "rsicd": pool("rsicd", load_pixels(rsicd, 160), [s.captions for s in rsicd], [s.label for s in rsicd]),
        "eurosat": pool("eurosat", load_pixels(eurosat, 64), [()] * len(eurosat), [s.label for s in eurosat]),
    }
    if config.vhr10:
        crops, labels = object_crops(data / "vhr10", config.seed)
        pools["vhr10"] = pool("vhr10", crops, [()] * len(crops), list(labels))
    if config.dubai:
        crops, labels = mask_crops(open_segmentation("dubai", data / "dubai", "train"), config.seed)
        pools["dubai"] = pool("dubai", crops, [()] * len(crops), list(labels))
    if config.sandbox:
        drawn, said, kinds = _drawn(config, cache)
        pools["sandbox"] = pool("sandbox", drawn, said, list(kinds))
    return pools, tokenizer, names


def shares(config: Config, step: int) -> dict[str, int]:
    """Chips of each pool in the batch of a step."""
    others = {"vhr10": config.vhr10, "dubai": config.dubai}
    if step < config.sandbox_from or not config.sandbox:
        return {"rsicd": config.rsicd + config.sandbox, "eurosat": config.eurosat, **others}
    return {"rsicd": config.rsicd, "eurosat": config.eurosat, "sandbox": config.sandbox, **others}


def _drawn(config: Config, cache: Path) -> tuple[NDArray[np.uint8], list[tuple[str, ...]], list[str]]:
    """The sandbox's chips, drawn once a run folder."""
    from geoglot.data.drawn import KINDS, draw_sample

    name = f"sandbox-{config.seed}-{config.sandbox_per_kind}.npz"
    folder = cache
    while not (folder / name).is_file() and (folder / "before").is_dir():
        folder /= "before"
    file = folder / name if (folder / name).is_file() else cache / name
    if not file.is_file():
        samples = [
            (kind, draw_sample(kind, seed=config.seed * 1_000_003 + index, size_px=128))
            for kind in KINDS
            for index in range(config.sandbox_per_kind)
        ]
        texts = json.dumps([(kind, s.captions["en"]) for kind, s in samples])
        np.savez(file, pixels=np.stack([s.rgb for _, s in samples]), texts=np.array(texts))
    with np.load(file) as stored:
        said = json.loads(str(stored["texts"]))
        return stored["pixels"], [tuple(captions) for _, captions in said], [kind for kind, _ in said]


@dataclass(frozen=True, slots=True)
class Batch:
    """views [B, 3, S, S]; tokens [B, T]; text_labels [B] (-1: a caption); labels [B] (-1: unknown); sources [B]."""

    views: Tensor
    tokens: Tensor
    text_labels: Tensor
    labels: Tensor
    sources: Tensor


def batches(config: Config, pools: dict[str, Pool], tokenizer: ConceptTokenizer, start: int) -> Iterator[Batch]:
    """Endless batches; batch k depends on the seed and k alone, so a resumed run sees what an unbroken one would.

    The sources are shuffled, so that each chunk of a batch, and with it each batch norm, sees all of them.
    """
    ranges = ViewRanges()
    common = _said_with_any(config, pools, tokenizer) if config.common else None
    for step in range(start, config.steps):
        rng = np.random.default_rng((config.seed, step))
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        views, columns = [], []
        for source, (name, count) in enumerate((name, n) for name, n in shares(config, step).items() if n):
            pool = pools[name]
            chips, rows, named = pool.draw(count, config.label_share, rng)
            if common is not None:
                for at in np.flatnonzero(named >= 0):
                    rows[at] = phrase(pool.label_texts[int(named[at])], common, rows.shape[1], rng)
            views.append(random_views(torch.from_numpy(pool.pixels[chips]), config.side_px(step), ranges, generator))
            said = vary_tokens(rows, tokenizer.concepts, rng)
            columns.append((said, named, pool.labels[chips], np.full(count, source)))
        order = torch.from_numpy(rng.permutation(sum(len(v) for v in views)))
        joined = (torch.from_numpy(np.concatenate(parts))[order] for parts in zip(*columns, strict=True))
        yield Batch(torch.cat(views)[order].contiguous(memory_format=torch.channels_last), *joined)


def _said_with_any(config: Config, pools: dict[str, Pool], tokenizer: ConceptTokenizer) -> NDArray[np.int64]:
    """Common words, but for those that name a class of their own."""
    names = {int(row[0]) for pool in pools.values() for rows in pool.label_texts.values() for row in rows if not row[1]}
    common = common_words(pools["rsicd"], config.common, len(tokenizer.names))
    return np.array([token for token in common if token not in names], np.int64)


def loss_of(student: Student, batch: Batch, kin: Tensor, config: Config) -> tuple[Tensor, dict[str, float]]:
    """The recipe's objective on one batch. `kin` bool [K, K]: classes, of whatever source, that share a name."""
    images, texts, classes = student(batch.views, batch.tokens)
    fits = torch.eye(len(images), dtype=torch.bool) | same_text(batch.tokens)
    fits |= label_positives(batch.text_labels, batch.labels, kin)
    unsure = maybe_positives(batch.labels, batch.sources, kin) & ~fits
    contrast = multi_positive_nce(images, texts, student.towers.scale(), fits, unsure)
    real = batch.labels.masked_fill(batch.labels >= classes.shape[1], -1)  # drawn kinds have no place in the head
    head = F.cross_entropy(classes, real, ignore_index=-1, label_smoothing=0.1)
    return contrast + config.head_weight * head, {"contrast": contrast.item(), "head": head.item()}


def run(config: Config, data: Path, out: Path, on_progress: OnProgress | None = None) -> Path:
    """Train, resuming if `out` holds a checkpoint; returns the file of the final weights. Tells no progress."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    before = _before(config, data, out)
    pools, tokenizer, names = build_pools(config, data, out)
    classes = names.classes
    kin = torch.from_numpy(names.kin()) if config.share_names else torch.eye(len(classes), dtype=torch.bool)
    shape = TowerShape(vocabulary=len(tokenizer.names), context=tokenizer.context)
    real = sum(not name.startswith("sandbox:") for name in classes)
    student = Student(shape, real).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if before:
        student.towers.load_state_dict(torch.load(before, weights_only=True)["weights"])
    average = Student(shape, real)
    average.load_state_dict(student.state_dict())
    decay = [p for p in student.parameters() if p.ndim > 1]
    plain = [p for p in student.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
    )
    start = _resume(out, student, average, optimizer, config)
    facts = {"config": asdict(config), "classes": classes, **_facts(pools, len(tokenizer.names), config)}
    (out / "run.json").write_text(json.dumps(facts, indent=2))
    began, seen = perf_counter(), 0
    for step, batch in enumerate(batches(config, pools, tokenizer, start), start=start):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * cosine_schedule(step, config.steps, config.warmup)
        torch.manual_seed(config.seed * 1_000_003 + step)  # dropout, too, depends on the seed and the step alone
        loss, parts = loss_of(student, batch, kin, config)
        if not torch.isfinite(loss):
            raise UsageError(f"the loss is {loss.item()} at step {step}", hint="Lower learning_rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        _average(average, student, min(config.ema, (step + 1) / (step + 10)))
        seen += len(batch.tokens)
        if (step + 1) % 20 == 0 or step + 1 == config.steps:
            _log(out, step + 1, parts, student, seen / (perf_counter() - began))
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _save(out, step + 1, student, average, optimizer, config)
    final = out / "final.pt"
    torch.save({"shape": asdict(shape), "weights": average.towers.state_dict()}, final)
    return final


def _before(config: Config, data: Path, out: Path) -> Path | None:
    """Weights of the run that this one starts from; it is trained first if it is not there."""
    if not config.after:
        return None
    folder = out / "before"
    if not (folder / "final.pt").is_file():
        run(load_config(Config, Path(config.after)), data, folder)
    if not (out / "tokenizer.json").is_file():
        shutil.copyfile(folder / "tokenizer.json", out / "tokenizer.json")
    return folder / "final.pt"


def _average(average: nn.Module, student: nn.Module, decay: float) -> None:
    with torch.no_grad():
        mine, theirs = average.state_dict(), student.state_dict()
        for key, value in mine.items():
            if value.is_floating_point():
                value.lerp_(theirs[key].to(value.dtype), 1.0 - decay)
            else:
                value.copy_(theirs[key])


def _facts(pools: dict[str, Pool], vocabulary: int, config: Config) -> dict[str, Any]:
    sizes = {name: {"chips": len(pool.pixels), "texts": len(pool.captions)} for name, pool in pools.items()}
    uses = token_uses(pools.values(), vocabulary)
    unlearned = [int(token) for token in np.flatnonzero(uses < config.min_word_count) if token]
    return {"pools": sizes, "unlearned": unlearned, "torch": torch.__version__, "threads": torch.get_num_threads()}


def _log(out: Path, step: int, parts: dict[str, float], student: Student, rate: float) -> None:
    row = {"step": step, **parts, "scale": student.towers.scale().item(), "pairs_per_s": round(rate, 1)}
    with (out / "log.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    log.info("step %(step)d  contrast %(contrast).3f  head %(head).3f  %(pairs_per_s).0f pairs/s", row)


def _save(
    out: Path, step: int, student: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, config: Config
) -> None:
    state = {"step": step, "student": student.state_dict(), "average": average.state_dict()}
    state |= {"optimizer": optimizer.state_dict(), "seed": config.seed}
    torch.save(state, out / "last.tmp")
    (out / "last.tmp").replace(out / "last.pt")  # a kill while saving leaves the earlier checkpoint whole


def _resume(out: Path, student: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, config: Config) -> int:
    file = out / "last.pt"
    if not file.is_file():
        return 0
    state = torch.load(file, weights_only=True)
    if state["seed"] != config.seed:
        raise UsageError(f"{file} was trained with seed {state['seed']}", hint="Choose another --out.")
    student.load_state_dict(state["student"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def smoke(config: Config, out: Path) -> Config:
    """The same recipe with tiny batches, few steps and few drawings: seconds, once the data is read."""
    batch = replace(config, steps=4, rsicd=6, eurosat=4, sandbox=4, warmup=1, phases=((1.0, 32),), after="")
    return replace(batch, sandbox_per_kind=1, sandbox_from=0, checkpoint_every=2)


def main() -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/mini.toml"))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds rsicd/ and eurosat/")
    parser.add_argument("--out", type=Path, required=True, help="run folder; an unfinished run there is continued")
    parser.add_argument("--smoke", action="store_true", help="a few steps, to see that everything works")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(Config, args.config)
    run(smoke(config, args.out) if args.smoke else config, args.data, args.out)


if __name__ == "__main__":
    main()
