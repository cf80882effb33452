"""The frame of recipes that tune a dual encoder on pairs: batches go to the loop, the result to a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from geoglot.data.batches import BatchPlan
from geoglot.data.loader import Feed, Preparation, Workshop
from geoglot.data.pairs import PairSet
from geoglot.data.sources import DataSource, open_source
from geoglot.models.peft.attach import merge
from geoglot.models.peft.files import save_parts
from geoglot.models.peft.settings import Tuning
from geoglot.training.distributed import World
from geoglot.training.journal import OnProgress
from geoglot.training.loop import Evaluate, Report, train
from geoglot.training.loop_config import Loop
from geoglot.training.model_folder import PARTS, TOWERS, Start, write_model
from geoglot.training.objective import Contrastive, Objective
from geoglot.training.run_folder import facts_of
from geoglot.training.validation import mean_recall


def fit(
    recipe: str,
    config: object,
    loop: Loop,
    start: Start,
    model: Contrastive,
    sets: Sequence[PairSet],
    weights: Sequence[float],
    prepare: Preparation,
    out: Path,
    world: World,
    *,
    tuning: Tuning | None = None,
    evaluate: Evaluate | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Train `model`, whose towers are those of `start`, going on from what `out` holds.

    Args:
        recipe, config: For `run.json`.
        loop: How to train.
        start: Tokenizer, and what counts as pretrained.
        model: The objective.
        sets, weights: Pairs, and their shares of the mix.
        prepare: A pair to an image and texts.
        out: The run's folder.
        world: Who trains together.
        tuning: What moves; a rate that would destroy pretrained weights is refused where all do. None: all.
        evaluate: Validation metric.
        on_progress: See `train`.
    """
    plan = BatchPlan(sets, weights, loop.batch, loop.seed)
    workshop = Workshop(sets, prepare, start.tokenizer.ids, loop.seed)
    facts = facts_of(recipe, config, sets, world)
    with Feed(
        workshop,
        plan,
        rank=world.rank,
        size=world.size,
        workers=loop.workers,
        kind=loop.worker_kind,
        ahead=loop.ahead,
        corrupt_share=loop.corrupt_share,
    ) as feed:
        pretrained = (f"{TOWERS}*",) if tuning is None or tuning.method == "full" else ()
        return train(
            model, feed, loop, out, facts, world, pretrained=pretrained, evaluate=evaluate, on_progress=on_progress
        )


def recall_on(source: DataSource | None, data: Path, start: Start) -> Evaluate | None:
    """Mean recall on held-out pairs, as the loop's metric; None without a source."""
    if source is None:
        return None
    held_out = open_source(source, data)

    def metric(model: Objective) -> float:
        assert isinstance(model, Contrastive)
        return mean_recall(held_out, model, start.tokenizer.ids)

    return metric


def take_best(report: Report, model: Contrastive, out: Path) -> None:
    """Give the model the weights of the best validation, or the last ones where nothing was validated."""
    file = out / "best.pt" if report.best else report.final
    state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    model.load_state_dict(state["weights"])


def keep(start: Start, model: Contrastive, tuning: Tuning, out: Path) -> Path:
    """Write the model folder `out/model`; for small parts also `out/parts.safetensors`, the trained tensors alone.

    Parts that cannot be folded into the model's own weights lie beside them in the folder.
    """
    folder, merged = out / "model", True
    if tuning.method != "full":
        save_parts(model.towers, tuning, out / PARTS, base=start.card.fingerprint)
        merged = merge(model.towers)
    write_model(start, model.state_dict(), folder, out.name, None if merged else tuning)
    return folder
