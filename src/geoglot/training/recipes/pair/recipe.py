"""Recipe `pair`: join a pretrained image backbone and a frozen text encoder into a dual encoder, and tune it.

    geoglot train pair --config configs/pair_mini.toml --data DATA --out runs/mini-3

The first blocks of the backbone stay as they are, the rest moves at a share of the heads' rate. Beside captions, an
image is told by sentences about the concepts of the glossary that it shows: names, in ten languages, and what they look
like. Places of the last maps learn from boxes and masks in the same run.

Implements: multi-positive InfoNCE (Khosla et al. 2020, arXiv 2004.11362, Eq. 2) with descriptions of classes (CuPL,
arXiv 2209.03320); locked and tuned towers after LiT (arXiv 2111.07991); region-category alignment after FarSLIP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoglot.data.batches import BatchPlan
from geoglot.data.loader import Feed, Workshop
from geoglot.data.pairs import PairSet
from geoglot.data.sources import DataSource, open_source
from geoglot.errors import UsageError
from geoglot.models.parts import efficientnet_lite
from geoglot.models.parts.joined import JoinedShape, JoinedTower, save_joined
from geoglot.models.parts.use import read_use
from geoglot.training.distributed import World, open_world
from geoglot.training.journal import OnProgress
from geoglot.training.loop import Evaluate, train
from geoglot.training.loop_config import Loop
from geoglot.training.objective import Objective
from geoglot.training.recipes.pair.chips import ChipSet, PrepareChip
from geoglot.training.recipes.pair.heads import HeadTuning, store_maps, stored_recall, tune_heads
from geoglot.training.recipes.pair.objective import Pair, Weights
from geoglot.training.recipes.pair.sentences import SentenceTable, Vocabulary, build_vocabulary
from geoglot.training.recipes.pair.sources import Layout, read_chips, read_labels
from geoglot.training.run_folder import BEST, facts_of
from geoglot.training.smoke import smoke_loop
from geoglot.training.validation import mean_recall
from geoglot.training.views import ViewRanges

TOWERS = "towers.pt"
"""The trained towers in the run's folder, as the export reads them."""
SMOKE_CONCEPTS = ("harbor", "forest", "desert", "river", "farmland", "parking_lot")


@dataclass(frozen=True, slots=True)
class ChipSource:
    """One `[[data]]` table.

    Attributes:
        layout: How to read it: "rsicd", "eurosat", "vhr10", "dubai", "nymaps", "korea", "oam" or "drawn".
        share: Of each batch, relative to the others'.
        path: Folder, relative to --data; not for "drawn".
        count: Squares of a scene for masks, chips of a kind for "drawn".
    """

    layout: Layout
    share: float
    path: str = ""
    count: int = 0

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise UsageError(f"share = {self.share} of {self.layout!r} must be positive")


@dataclass(frozen=True, slots=True)
class Config:
    """What to join and train.

    Attributes:
        data: Sources.
        loop: How to train; `steps` must be given, and `chunk` be 0.
        frozen_blocks: Blocks of the backbone that stay as they are, the stem with them; -1: everything moves.
        heads: Sizes.
        labels: File of the classes' concepts.
        concepts: Concepts of the glossary that are taught; empty: all places and things.
        texts: Sentences an image.
        foreign: Share of concept sentences that are in other languages.
        sides: (share of the steps done, side of the views in px) in rising order; the last is that of validations.
        scale: Least and most side of a view as a share of the chip's.
        weights: Of the terms of the loss.
        heads_alone: The last stage, on stored maps.
        validation: Held-out pairs for the metric, mean recall.
    """

    data: tuple[ChipSource, ...]
    loop: Loop
    frozen_blocks: int = 5
    heads: JoinedShape = field(default_factory=JoinedShape)
    labels: str = "configs/pair_labels.toml"
    concepts: tuple[str, ...] = ()
    texts: int = 4
    foreign: float = 0.2
    sides: tuple[tuple[float, int], ...] = ((1.0, 128),)
    scale: tuple[float, float] = (0.5, 1.0)
    weights: Weights = field(default_factory=Weights)
    heads_alone: HeadTuning = field(default_factory=HeadTuning)
    validation: DataSource | None = None

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("there is no [[data]] in the config")
        if self.loop.chunk or not self.loop.steps:
            raise UsageError("recipe pair needs [loop] with steps, and without chunk")
        if not self.sides or self.sides[-1][0] != 1.0:
            raise UsageError(f"sides {self.sides} must end with a share of 1.0")
        if self.loop.evaluate_every and self.validation is None:
            raise UsageError("evaluate_every needs a [validation] source")


@dataclass(frozen=True, slots=True)
class Material:
    """What a run trains on.

    Attributes:
        sets: Chips of each source.
        vocabulary: Concepts and how they are said.
        table: All sentences, encoded.
        held_out: For the metric; None without validation.
    """

    sets: list[ChipSet]
    vocabulary: Vocabulary
    table: SentenceTable
    held_out: PairSet | None


def run(config: Config, data: Path, out: Path, on_progress: OnProgress | None = None) -> Path:
    """Train, going on from what `out` holds.

    Returns:
        The file of the joined towers, for `geoglot.models.export.joined`.
    """
    out.mkdir(parents=True, exist_ok=True)
    material = read_material(config, data, out)
    with open_world(config.loop.device) as world:
        model = join(config, material)
        report = _train(config, material, model, out, world, on_progress)
        if world.leads:
            state: dict[str, Any] = torch.load(
                out / BEST if report.best else report.final, weights_only=True, map_location="cpu"
            )
            model.load_state_dict(state["weights"])
            if config.heads_alone.views:
                _heads_alone(config, material, model, out, world)
            save_joined(model.joined, config.heads, out / TOWERS)
    return out / TOWERS


def read_material(config: Config, data: Path, out: Path) -> Material:
    """Read all sources and encode all sentences. Minutes; the sentences' vectors are kept in `out`."""
    vocabulary = build_vocabulary(config.concepts)
    labels = read_labels(Path(config.labels))
    sets = []
    for number, source in enumerate(config.data):
        chips = read_chips(source.layout, data / source.path, labels, vocabulary, source.count, out)
        chips.source = number
        sets.append(chips)
    held_out = open_source(config.validation, data) if config.validation else None
    said = [held_out.read(at).captions for at in range(len(held_out))] if held_out else []
    captions = [caption for one in (*(s.captions for s in sets), said) for group in one for caption in group]
    sentences = [sentence for wording in vocabulary.wordings for sentence in wording.sentences]
    table = SentenceTable([*sentences, *captions], read_use().encode, out / "sentences.npz")
    return Material(sets, vocabulary, table, held_out)


def _train(
    config: Config, material: Material, model: Pair, out: Path, world: World, on_progress: OnProgress | None
) -> Any:
    sets, loop = material.sets, config.loop
    plan = BatchPlan(sets, [source.share for source in config.data], loop.batch, loop.seed)
    prepare = PrepareChip(material.vocabulary, rarity(sets, material.vocabulary), config.texts, config.foreign)
    workshop = Workshop(sets, prepare, material.table.ids, loop.seed)
    facts = facts_of("pair", config, sets, world)
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
        return train(
            model,
            feed,
            loop,
            out,
            facts,
            world,
            pretrained=("towers.image.*",),
            evaluate=_metric(material),
            on_progress=on_progress,
        )


def _heads_alone(config: Config, material: Material, model: Pair, out: Path, world: World) -> None:
    """The last stage, on this process alone; begun anew when it is interrupted."""
    tuning, seed = config.heads_alone, config.loop.seed + 1
    torch.manual_seed(seed)
    sets = material.sets
    plan = BatchPlan(sets, [source.share for source in config.data], config.loop.batch, seed)
    weight = rarity(sets, material.vocabulary)
    prepare = PrepareChip(material.vocabulary, weight, tuning.texts, config.foreign, tuning.captions)
    workshop = Workshop(sets, prepare, material.table.ids, seed)
    with Feed(workshop, plan, workers=config.loop.workers, ahead=config.loop.ahead) as feed:
        stored = store_maps(model, iter(feed), tuning.views, tuning.side_px)
    recall = stored_recall(model, material.held_out, material.table, tuning.side_px) if material.held_out else None
    found = tune_heads(model, stored, tuning, world, recall)
    (out / "heads.json").write_text(json.dumps([{"step": step, "metric": value} for step, value in found]) + "\n")


def _metric(material: Material) -> Evaluate | None:
    """Mean recall on the held-out pairs."""
    held_out = material.held_out
    if held_out is None:
        return None

    def metric(model: Objective) -> float:
        assert isinstance(model, Pair)
        return mean_recall(held_out, model, material.table.ids)

    return metric


def rarity(sets: Sequence[ChipSet], vocabulary: Vocabulary) -> NDArray[np.float64]:
    """float64 [C]: 1 / sqrt(chips that show a concept)."""
    counts = np.ones(len(vocabulary.ids))
    for one in sets:
        for shows in one.shows:
            counts[list(shows)] += 1
    return 1 / np.sqrt(counts)


def join(config: Config, material: Material) -> Pair:
    """The towers with pretrained weights and new heads, ready for training."""
    torch.manual_seed(config.loop.seed)
    backbone = efficientnet_lite.load().fold()
    if config.frozen_blocks >= 0:
        for part in (backbone.stem, *backbone.blocks[: config.frozen_blocks]):
            part.requires_grad_(False)
    towers = JoinedTower(backbone, config.heads).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Pair(
        towers,
        material.table,
        material.vocabulary,
        [one.classes for one in material.sets],
        config.weights,
        ViewRanges(scale=config.scale),
        config.sides,
        config.loop.steps,
        efficientnet_lite.MEAN,
        efficientnet_lite.STD,
    )


def smoke(config: Config) -> Config:
    """The same recipe in a few steps on drawn chips of six concepts; needs the pretrained parts, and no data."""
    return replace(
        config,
        data=(ChipSource("drawn", 1.0, count=1),),
        loop=replace(smoke_loop(config.loop), evaluate_every=0, allow_high_learning_rate=False, learning_rate=1e-4),
        concepts=SMOKE_CONCEPTS,
        sides=((1.0, 64),),
        heads_alone=HeadTuning(views=16, steps=2, batch=8, side_px=64, regions=4),
        validation=None,
    )
