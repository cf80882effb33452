"""Recipe `pair`: join a pretrained image backbone and a frozen text encoder into a dual encoder, and tune it.

    geoglot train pair --config configs/pair_mini.toml --data DATA --out runs/mini-3

The first blocks of the backbone stay as they are, the rest moves at a share of the heads' rate. Beside captions, an
image is told by sentences about the concepts of the glossary that it shows: names, in ten languages, and what they look
like. Places of the last maps learn from boxes and masks in the same run.

Implements: multi-positive InfoNCE (Khosla et al. 2020, arXiv 2004.11362, Eq. 2) with descriptions of classes (CuPL,
arXiv 2209.03320); locked and tuned towers after LiT (arXiv 2111.07991); region-category alignment after FarSLIP.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from geoglot.data.loader import Feed, Workshop
from geoglot.data.batches import BatchPlan
from geoglot.data.sources import DataSource, open_source
from geoglot.errors import UsageError
from geoglot.models.parts import efficientnet_lite
from geoglot.models.parts.joined import JoinedShape, JoinedTower
from geoglot.training.journal import OnProgress
from geoglot.training.loop import Evaluate, train
from geoglot.training.objective import Objective
from geoglot.training.recipes.pair.chips import ChipSet, PrepareChip
from geoglot.training.recipes.pair.objective import Pair, Weights
from geoglot.training.recipes.pair.parts import sentence_encoder
from geoglot.training.recipes.pair.sentences import SentenceTable, Vocabulary, build_vocabulary
from geoglot.training.recipes.pair.sources import Layout, read_chips, read_labels
from geoglot.training.run_folder import facts_of
from geoglot.training.loop_config import Loop
from geoglot.training.validation import mean_recall
from geoglot.training.views import ViewRanges
from geoglot.training.distributed import open_world


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
        loop: How to train. `chunk` must be 0.
        image: Image backbone: "efficientnet-lite0".
        text: Text encoder: "use", frozen.
        frozen_blocks: Blocks of the backbone that stay as they are, the stem with them; -1: everything moves.
        heads: Sizes.
        labels: File of the classes' concepts.
        texts: Sentences an image.
        foreign: Share of concept sentences that are in other languages.
        sides: (share of the steps done, side of the views in px) in rising order; the last is the model's.
        scale: Least and most side of a view as a share of the chip's.
        weights: Of the terms of the loss.
        validation: Held-out pairs for the metric, mean recall.
    """

    data: tuple[ChipSource, ...]
    loop: Loop
    image: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    text: Literal["use"] = "use"
    frozen_blocks: int = 5
    heads: JoinedShape = field(default_factory=JoinedShape)
    labels: str = "configs/pair_labels.toml"
    texts: int = 4
    foreign: float = 0.2
    sides: tuple[tuple[float, int], ...] = ((1.0, 128),)
    scale: tuple[float, float] = (0.5, 1.0)
    weights: Weights = field(default_factory=Weights)
    validation: DataSource | None = None

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("there is no [[data]] in the config")
        if self.loop.chunk:
            raise UsageError("recipe pair knows no chunk", hint="Set chunk = 0.")
        if not self.sides or self.sides[-1][0] != 1.0:
            raise UsageError(f"sides {self.sides} must end with a share of 1.0")


def run(config: Config, data: Path, out: Path, on_progress: OnProgress | None = None) -> Path:
    """Train, going on from what `out` holds.

    Returns:
        The file of the final weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = build_vocabulary()
    labels = read_labels(Path(config.labels))
    sets = [
        replace_source(read_chips(source.layout, data / source.path, labels, vocabulary, source.count, out), at)
        for at, source in enumerate(config.data)
    ]
    held_out = open_source(config.validation, data) if config.validation else None
    said = [held_out.read(at).captions for at in range(len(held_out))] if held_out else []
    sentences = [s for w in vocabulary.wordings for s in w.sentences]
    sentences += [caption for one in sets for captions in one.captions for caption in captions]
    sentences += [caption for captions in said for caption in captions]
    table = SentenceTable(sentences, sentence_encoder(config.text).encode, out / "sentences.npz")
    with open_world(config.loop.device) as world:
        model = _model(config, table, vocabulary, sets)

        def metric(objective: Objective) -> float:
            assert isinstance(objective, Pair) and held_out is not None
            return mean_recall(held_out, objective, table.ids)

        evaluate: Evaluate | None = metric if held_out else None
        plan = BatchPlan(sets, [source.share for source in config.data], config.loop.batch, config.loop.seed)
        prepare = PrepareChip(vocabulary, rarity(sets, vocabulary), config.texts, config.foreign)
        workshop = Workshop(sets, prepare, table.ids, config.loop.seed)
        facts = facts_of("pair", config, sets, world)
        with Feed(
            workshop, plan, rank=world.rank, size=world.size, workers=config.loop.workers, ahead=config.loop.ahead
        ) as feed:
            report = train(
                model,
                feed,
                config.loop,
                out,
                facts,
                world,
                pretrained=("towers.image.*",),
                evaluate=evaluate,
                on_progress=on_progress,
            )
        return report.final


def replace_source(chips: ChipSet, source: int) -> ChipSet:
    """The same set, numbered."""
    chips.source = source
    return chips


def rarity(sets: list[ChipSet], vocabulary: Vocabulary) -> np.ndarray:
    """float64 [C]: 1 / sqrt(chips that show a concept)."""
    counts = np.ones(len(vocabulary.ids))
    for one in sets:
        for shows in one.shows:
            counts[list(shows)] += 1
    return 1 / np.sqrt(counts)


def _model(config: Config, table: SentenceTable, vocabulary: Vocabulary, sets: list[ChipSet]) -> Pair:
    torch.manual_seed(config.loop.seed)
    backbone = efficientnet_lite.load().fold()
    frozen = [backbone.stem, *backbone.blocks[: max(config.frozen_blocks, 0)]] if config.frozen_blocks >= 0 else []
    for part in frozen:
        part.requires_grad_(False)
    towers = JoinedTower(backbone, config.heads).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Pair(
        towers,
        table,
        vocabulary,
        [one.classes for one in sets],
        config.weights,
        ViewRanges(scale=config.scale),
        config.sides,
        config.loop.steps,
        efficientnet_lite.MEAN,
        efficientnet_lite.STD,
    )
