"""What recipes that tune a dual encoder do alike: from a config to batches, to the loop, to a model folder.

    with open_world(config.loop.device) as world:
        job = Finetune(config, data, out, world=world)
        folder = job.run(Contrastive(job.start.towers), Prepare(job.start.image_px))

A recipe that trains something else takes `open_mix`, `open_feed` and the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from geoglot.data.batches import BatchPlan
from geoglot.data.loader import Feed, Preparation, Tokenize, Workshop
from geoglot.data.pairs import PairSet
from geoglot.data.sources import DataSource, open_source
from geoglot.models.peft.attach import merge, tune
from geoglot.models.peft.files import save_parts
from geoglot.models.peft.settings import Tuning
from geoglot.models.zoo.registry import find_card
from geoglot.training.distributed import World
from geoglot.training.journal import OnProgress
from geoglot.training.loop import Evaluate, Report, train
from geoglot.training.loop_config import Loop
from geoglot.training.model_folder import PARTS, TOWERS, Start, load_start, write_model
from geoglot.training.objective import Contrastive, Objective
from geoglot.training.run_folder import BEST, facts_of
from geoglot.training.validation import mean_recall


@dataclass(frozen=True, slots=True)
class Mix:
    """What is trained on.

    Attributes:
        sets: Pairs with random access.
        weights: The share of each set in a batch, relative to the others'.
    """

    sets: Sequence[PairSet]
    weights: Sequence[float]


def open_mix(sources: Sequence[DataSource], data: Path) -> Mix:
    """The sets of a config's sources; paths are relative to `data`.

    Raises:
        SourceError, UnknownNameError: A source is not there or damaged.
    """
    return Mix([open_source(source, data) for source in sources], [source.weight for source in sources])


def open_feed(mix: Mix, prepare: Preparation, tokenize: Tokenize, loop: Loop, world: World) -> Feed:
    """Batches of this process, decoded ahead as `loop` says; a context manager."""
    return Feed(
        Workshop(mix.sets, prepare, tokenize, loop.seed),
        BatchPlan(mix.sets, mix.weights, loop.batch, loop.seed),
        rank=world.rank,
        size=world.size,
        workers=loop.workers,
        kind=loop.worker_kind,
        ahead=loop.ahead,
        corrupt_share=loop.corrupt_share,
    )


class FinetuneConfig(Protocol):
    """What the config of such a recipe has, whatever else it says.

    Attributes:
        recipe: Its name.
        model: Name or folder of the model to start from.
        data: Image-text pairs.
        loop: How to train.
        validation: Held-out pairs for the metric; None: no validation.
    """

    recipe: ClassVar[str]

    @property
    def model(self) -> str: ...
    @property
    def data(self) -> tuple[DataSource, ...]: ...
    @property
    def loop(self) -> Loop: ...
    @property
    def validation(self) -> DataSource | None: ...


class Finetune:
    """The tuning of one dual encoder.

    Args:
        config: Of the recipe.
        data: What its paths are relative to.
        out: The run's folder.
        start: The model to tune; None: the config's.
        mix: What to train on; None: the config's data.
        loop: How to train; None: as the config says.
        tuning: What moves: all weights, or small parts, which are put into the start's towers here.
        world: Who trains together.
        on_progress: See `train`.

    Attributes:
        start: The model to tune, its towers as they are trained.
        mix: What is trained on.

    Raises:
        ModelNotFoundError, ModelFileError: There is no such model, or it cannot be trained.
        SourceError, UnknownNameError: A source is not there or damaged.
        UsageError: Small parts have no place in the towers.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        data: Path,
        out: Path,
        *,
        start: Start | None = None,
        mix: Mix | None = None,
        loop: Loop | None = None,
        tuning: Tuning = Tuning(),  # noqa: B008  frozen
        world: World = World(),  # noqa: B008  frozen
        on_progress: OnProgress | None = None,
    ) -> None:
        self.start = load_start(find_card(config.model)) if start is None else start
        self.mix = open_mix(config.data, data) if mix is None else mix
        self._config, self._data, self._out = config, data, out
        self._loop, self._tuning, self._world, self._on_progress = loop or config.loop, tuning, world, on_progress
        tune(self.start.towers, tuning)

    def run(self, objective: Contrastive, prepare: Preparation) -> Path:
        """Train, and write the tuned model.

        Args:
            objective: Around the start's towers.
            prepare: A pair to an image and texts.

        Returns:
            The model folder, `out/model`; on a process that does not lead, `out`.

        Raises:
            UsageError, TrainingError, StorageError: See `geoglot.training.loop.train`.
        """
        self.train(objective, prepare)
        return keep(self.start, objective, self._tuning, self._out) if self._world.leads else self._out

    def train(self, objective: Contrastive, prepare: Preparation) -> None:
        """`run` without the model folder: on the leading process the objective then has the best weights.

        A run in `out` goes on where it stopped; one that is over is only read. Where all weights move, a learning rate
        that would destroy them is refused.
        """
        pretrained = (f"{TOWERS}*",) if self._tuning.method == "full" else ()
        facts = facts_of(self._config.recipe, self._config, self.mix.sets, self._world)
        evaluate = _recall_on(self._config.validation, self._data, self.start)
        with open_feed(self.mix, prepare, self.start.tokenizer.ids, self._loop, self._world) as feed:
            report = train(
                objective,
                feed,
                self._loop,
                self._out,
                facts,
                self._world,
                pretrained=pretrained,
                evaluate=evaluate,
                on_progress=self._on_progress,
            )
        if self._world.leads:
            take_best(report, objective, self._out)


def _recall_on(source: DataSource | None, data: Path, start: Start) -> Evaluate | None:
    """Mean recall on held-out pairs, as the loop's metric; None without a source."""
    if source is None:
        return None
    held_out = open_source(source, data)

    def metric(model: Objective) -> float:
        assert isinstance(model, Contrastive)
        return mean_recall(held_out, model, start.tokenizer.ids)

    return metric


def take_best(report: Report, objective: Objective, out: Path) -> None:
    """Give the objective the weights of the best validation, or the last ones where nothing was validated."""
    file = out / BEST if report.best else report.final
    state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    objective.load_state_dict(state["weights"])


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
