"""Recipe `purify`: clean a large pool of doubtful captions with a model trained on a small pool of good ones.

    geoglot train purify --config configs/purify_l14.toml --data DATA --out runs/purify

CLIP-RS's purification as its model card tells it (hub hy1111/CLIP-RS; RS-SQA, arXiv 2502.13990): (1) train CLIP_Sem on
the good pool; (2) score every coarse pair by image-text similarity; (3) reject the lowest; (4) give the rejected images
new captions; (5) train the final model on all that is good. Threshold, captioner and hyper-parameters are not
published: they are settings here. Each stage leaves its result in `out` and is not done twice; `counts.json` says what
became of every pair.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from geoglot.data.decode import Prepare
from geoglot.data.pairs import PairSet
from geoglot.data.sources import DataSource
from geoglot.data.subset import ChosenPairs
from geoglot.errors import UnknownNameError, UsageError
from geoglot.files import replacing, write_atomically
from geoglot.models.peft.settings import Tuning
from geoglot.training.distributed import open_world
from geoglot.training.finetune import Finetune, Mix, keep, open_mix
from geoglot.training.journal import OnProgress
from geoglot.training.loop_config import Loop
from geoglot.training.objective import Contrastive, LossName
from geoglot.training.recipes.purify.scores import ROWS, Captioner, Judge, NearestCaptions, keep_best
from geoglot.training.smoke import draw_world, smoke_loop

log = logging.getLogger("geoglot.purify")

Refine = Literal["drop", "nearest"]
BLOCK = 4096
"""Pairs scored between two files: seconds on a GPU, minutes on a CPU, are all that a kill can cost."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the recipe.

    Attributes:
        model: Name or folder of the model that both trainings start from.
        good: Pairs whose captions are trusted.
        coarse: Pairs whose captions are doubtful.
        loop: The final training, on what is good of both.
        sem: The training of CLIP_Sem, on the good pool alone.
        loss: "infonce" or "multi_positive".
        area: Least and most share of the image in a random crop.
        keep: Share of the coarse pairs that keep their captions.
        refine: What becomes of the others: "drop" them, or give them the captions of the "nearest" good image. Any
            other captioner is given to `run`.
        validation: Held-out pairs for the metric of both trainings.
    """

    recipe: ClassVar[str] = "purify"
    model: str
    good: tuple[DataSource, ...]
    coarse: tuple[DataSource, ...]
    loop: Loop
    sem: Loop
    loss: LossName = "infonce"
    area: tuple[float, float] = (0.9, 1.0)
    keep: float = 0.7
    refine: Refine = "nearest"
    validation: DataSource | None = None

    def __post_init__(self) -> None:
        if not self.good or not self.coarse:
            raise UsageError("purify needs [[good]] and [[coarse]] sources")
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep = {self.keep} is not a share above 0")
        if self.refine not in get_args(Refine):
            raise UnknownNameError("refine", self.refine, get_args(Refine))
        if (self.loop.evaluate_every or self.sem.evaluate_every) and self.validation is None:
            raise UsageError("evaluate_every needs a [validation] source")

    @property
    def data(self) -> tuple[DataSource, ...]:
        """Both pools."""
        return self.good + self.coarse


def run(
    config: Config,
    data: Path,
    out: Path,
    on_progress: OnProgress | None = None,
    *,
    captioner: Captioner | None = None,
) -> Path:
    """All five stages, going on where `out` stopped.

    Args:
        config: See Config.
        data: What its paths are relative to.
        out: The run's folder.
        on_progress: Called while training.
        captioner: Writes new captions for rejected images, in place of `refine`.

    Returns:
        The folder of the final model.
    """
    with open_world(config.loop.device) as world:
        good, coarse = (open_mix(pool, data) for pool in (config.good, config.coarse))
        folders = [out / f"coarse-{at}" for at in range(len(coarse.sets))]
        job = Finetune(config, data, out / "sem", mix=good, loop=config.sem, world=world, on_progress=on_progress)
        sem = _train(config, job)
        if world.leads:
            judge = Judge(sem, job.start.tokenizer.ids)
            if captioner is None and config.refine == "nearest":
                captioner = NearestCaptions(judge, good.sets)
            counts = [_purify(*one, judge, captioner, config.keep) for one in zip(folders, coarse.sets, strict=True)]
            _write(out / "counts.json", {"good": sum(map(len, good.sets)), "coarse": counts})
        if world.size > 1:
            dist.barrier()
        clean = [_chosen(*one) for one in zip(folders, coarse.sets, strict=True)]
        mix = Mix([*good.sets, *clean], [*good.weights, *coarse.weights])
        job = Finetune(config, data, out / "final", mix=mix, world=world, on_progress=on_progress)
        model = _train(config, job)
        return keep(job.start, model, Tuning(), out) if world.leads else out / "model"


def _train(config: Config, job: Finetune) -> Contrastive:
    """Stages 1 and 5: a model trained from the common start, with its best weights; a run that is over is only read."""
    start = job.start
    model = Contrastive(start.towers, config.loss, mean=start.mean, std=start.std, side_px=start.image_px)
    job.train(model, Prepare(start.image_px, config.area))
    return model


def _purify(
    folder: Path, pool: PairSet, judge: Judge, captioner: Captioner | None, share: float
) -> dict[str, str | int | float]:
    """Stages 2 to 4 for one coarse source; writes which records stay, and returns counts."""
    folder.mkdir(parents=True, exist_ok=True)
    scores = _scores(folder, pool, judge)
    readable = np.flatnonzero(~np.isnan(scores))
    kept = keep_best(scores[readable], share)
    least = float(scores[readable[kept]].min())
    rejected = readable[~kept]
    new = _refine(folder / "refined.jsonl", pool, rejected, judge, captioner, least) if captioner else {}
    chosen = np.sort(np.concatenate([readable[kept], np.array(list(new), np.int64)]))
    with replacing(folder / "chosen.npy") as part:
        np.save(part, chosen)
    counts: dict[str, str | int | float] = {"name": pool.name, "pairs": len(pool)}
    counts |= {"unreadable": len(pool) - len(readable), "kept": int(kept.sum()), "lowest_kept": round(least, 4)}
    counts |= {"rejected": len(rejected), "refined": len(new), "dropped": len(rejected) - len(new)}
    log.info("%s", ", ".join(f"{key} {value}" for key, value in counts.items()))
    return counts


def _scores(folder: Path, pool: PairSet, judge: Judge) -> NDArray[np.float32]:
    """Stage 2: the score of every pair [N], NaN where it cannot be read; one file a block."""
    parts = []
    for first in range(0, len(pool), BLOCK):
        file = folder / f"scores-{first:012d}.npy"
        if not file.is_file():
            block = np.full(min(BLOCK, len(pool) - first), np.nan, np.float32)
            for at in range(0, len(block), ROWS):
                rows, images, captions = judge.read(pool, range(first + at, first + min(at + ROWS, len(block))))
                if rows:
                    block[np.array(rows) - first] = judge.scores(images, captions)
            with replacing(file) as part:
                np.save(part, block)
        parts.append(np.load(file))
    return np.concatenate(parts)


def _refine(
    file: Path, pool: PairSet, rejected: NDArray[np.int64], judge: Judge, captioner: Captioner, least: float
) -> dict[int, tuple[str, ...]]:
    """Stage 4: new captions by record, where CLIP_Sem finds them to fit no worse than the worst pair that was kept.

    The file grows block by block; what stands there is not captioned again.
    """
    done = _refined(file)
    todo = [int(record) for record in rejected if int(record) not in done]
    for at in range(0, len(todo), ROWS):
        rows, images, old = judge.read(pool, todo[at : at + ROWS])
        new: dict[int, tuple[str, ...]] = dict.fromkeys(todo[at : at + ROWS], ())
        said = captioner.captions(images, old) if rows else []
        some = [place for place, captions in enumerate(said) if captions]
        fits = judge.scores(images[some], [said[place] for place in some]) if some else ()
        new |= {rows[place]: said[place] for place, fit_ in zip(some, fits, strict=True) if fit_ >= least}
        with file.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(pair, ensure_ascii=False) + "\n" for pair in new.items())
        done |= new
    return {record: captions for record, captions in done.items() if captions}


def _refined(file: Path) -> dict[int, tuple[str, ...]]:
    """The lines of the file, empty captions included. A last line that a kill cut short is cut off."""
    if not file.is_file():
        return {}
    whole = file.read_text("utf-8")
    kept = whole[: whole.rfind("\n") + 1]
    if kept != whole:
        file.write_text(kept, "utf-8")
    return {record: tuple(captions) for record, captions in map(json.loads, kept.splitlines())}


def _chosen(folder: Path, pool: PairSet) -> ChosenPairs:
    """The part of a coarse source that stage 5 trains on."""
    new = {record: captions for record, captions in _refined(folder / "refined.jsonl").items() if captions}
    return ChosenPairs(pool, np.load(folder / "chosen.npy"), new)


def _write(file: Path, table: dict[str, Any]) -> None:
    write_atomically(file, (json.dumps(table, indent=2) + "\n").encode())


def smoke(config: Config, out: Path) -> Config:
    """The same recipe in a few steps, on drawn chips and a tiny model with random weights, both below `out`."""
    world = draw_world(out / "world")
    good, coarse = (DataSource(str(world / "captions.jsonl"), split=split) for split in ("valid", "train"))
    loop, sem = smoke_loop(config.loop), smoke_loop(config.sem)
    model = str(world / "model")
    return replace(config, model=model, good=(good,), coarse=(coarse,), validation=good, loop=loop, sem=sem)
