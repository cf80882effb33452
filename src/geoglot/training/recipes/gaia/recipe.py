"""Recipe `gaia`: tune a dual encoder on GAIA's long captions without losing what it knew.

    geoglot train gaia --config configs/gaia_b32.toml --data DATA --out runs/gaia

GAIA (arXiv 2502.09598) released neither training code nor hyper-parameters: they are our choice (docs/recipes/gaia.md).
One of the five captions a step, without the prefix that all of them share; pictures mirrored only where the caption
stays true; whole sentences drawn where a caption is longer than the context; afterwards the weights between before and
after (WiSE-FT), where both validation metrics are good.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
from torch import Tensor

from geoglot.data.decode import Prepare, Prepared
from geoglot.data.pairs import Pair
from geoglot.data.sources import DataSource, open_source
from geoglot.errors import UnknownNameError, UsageError
from geoglot.models.peft.attach import merge
from geoglot.models.peft.files import save_parts
from geoglot.models.peft.settings import Tuning
from geoglot.models.tokenizers.protocol import Tokenizer
from geoglot.models.tokenizers.sentences import sample_sentences
from geoglot.models.zoo.registry import find_card
from geoglot.training.distributed import open_world
from geoglot.training.finetune import Finetune
from geoglot.training.journal import OnProgress
from geoglot.training.loop_config import Loop
from geoglot.training.model_folder import PARTS, Start, load_start, write_model
from geoglot.training.objective import Contrastive, LossName
from geoglot.training.recipes.gaia.interpolation import ALPHAS, Point, blend, choose, sweep
from geoglot.training.recipes.gaia.left_right import mirrored, says_direction
from geoglot.training.smoke import draw_world, smoke_loop
from geoglot.training.validation import mean_recall

PREFIX = re.compile(r"^\s*the image showcases\s*:?\s*", re.IGNORECASE)
"""Every GAIA caption starts so (gaia.md, section 1.3): it wastes tokens and makes all captions alike."""

Mirror = Literal["off", "skip", "swap"]
LongText = Literal["cut", "sentences"]


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the recipe.

    Attributes:
        model: Name or folder of the model to start from; one with 248 tokens of context reads most captions whole.
        data: GAIA's pairs; paths are relative to --data.
        loop: How to train.
        loss: "infonce" or "multi_positive".
        area: Least and most share of the image in a random crop. Crops are not checked against "in the corner".
        strip_prefix: Leave "The image showcases:" out.
        mirror: Half of the pictures left to right: "off"; "skip" those whose caption names a direction; "swap" left and
            right in the caption, and skip where that would be false (compass words).
        long_text: Captions beyond the context: "cut" the end, or draw whole "sentences" anew each time.
        gained: Validation pairs of what is tuned for; also the metric of the loop's validations.
        kept: Validation pairs of what must not be lost.
        alphas: Where between before and after to look, when both validations are given.
        alpha: Share of the tuned weights otherwise.
        tuning: All weights, or small parts that can be merged.
    """

    recipe: ClassVar[str] = "gaia"
    model: str
    data: tuple[DataSource, ...]
    loop: Loop
    loss: LossName = "infonce"
    area: tuple[float, float] = (0.9, 1.0)
    strip_prefix: bool = True
    mirror: Mirror = "swap"
    long_text: LongText = "sentences"
    gained: DataSource | None = None
    kept: DataSource | None = None
    alphas: tuple[float, ...] = ALPHAS
    alpha: float = 1.0
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("there is no [[data]] in the config")
        for what, value, known in (("mirror", self.mirror, get_args(Mirror)), ("long_text", self.long_text, _LONG)):
            if value not in known:
                raise UnknownNameError(what, value, known)
        if self.loop.evaluate_every and self.gained is None:
            raise UsageError("evaluate_every needs a [gained] source")
        if self.tuning.method not in ("full", "lora", "bitfit"):
            raise UsageError(
                f"weights between before and after need parts that merge into the model; {self.tuning.method} does not",
                hint='Use method = "full", "lora" or "bitfit", or the recipe `contrastive`.',
            )
        if not all(0 <= alpha <= 1 for alpha in (*self.alphas, self.alpha)):
            raise UsageError(f"alphas {self.alphas} and alpha {self.alpha} must lie between 0 and 1")

    @property
    def validation(self) -> DataSource | None:
        """What the loop validates on."""
        return self.gained


_LONG = get_args(LongText)


@dataclass(frozen=True, slots=True)
class CaptionAware:
    """A pair to a picture and one caption that is true of it.

    Attributes:
        crop: Caption and crop.
        tokenizer: Tells which captions are too long; None: they are cut.
        strip_prefix, mirror: See Config.
    """

    crop: Prepare
    tokenizer: Tokenizer | None
    strip_prefix: bool
    mirror: Mirror

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Prepared:
        """Raises SampleError. All chance comes from `rng`."""
        ready = self.crop(pair, rng)
        texts = [PREFIX.sub("", text) or text for text in ready.texts] if self.strip_prefix else list(ready.texts)
        told = self._mirrored(texts) if rng.random() < 0.5 else None
        image = ready.image if told is None else np.ascontiguousarray(ready.image[:, ::-1])
        texts = texts if told is None else told
        if self.tokenizer:
            texts = sample_sentences(texts, self.tokenizer, int(rng.integers(1 << 31)))
        return Prepared(image, tuple(texts))

    def _mirrored(self, texts: list[str]) -> list[str] | None:
        """The captions of the mirrored picture; None where it must not be mirrored."""
        if self.mirror == "off" or (self.mirror == "skip" and any(map(says_direction, texts))):
            return None
        told = [mirrored(text) for text in texts]
        return None if any(text is None for text in told) else [text for text in told if text is not None]


def run(config: Config, data: Path, out: Path, on_progress: OnProgress | None = None) -> Path:
    """Tune, then look for the best weights between before and after; goes on from what `out` holds.

    Returns:
        The folder of the chosen model. `alphas.json` in `out` has the sweep.
    """
    with open_world(config.loop.device) as world:
        start = load_start(find_card(config.model))
        before = {name: value.clone() for name, value in start.towers.state_dict().items()}
        job = Finetune(config, data, out, start=start, tuning=config.tuning, world=world, on_progress=on_progress)
        model = Contrastive(start.towers, config.loss, mean=start.mean, std=start.std, side_px=start.image_px)
        crop = Prepare(start.image_px, config.area)
        tokenizer = start.tokenizer if config.long_text == "sentences" else None
        job.train(model, CaptionAware(crop, tokenizer, config.strip_prefix, config.mirror))
        if world.leads:
            _interpolate(config, data, out, start, model, before)
        return out / "model"


def _interpolate(
    config: Config, data: Path, out: Path, start: Start, model: Contrastive, before: dict[str, Tensor]
) -> None:
    """Write the model between before and after, and how it was chosen."""
    if config.tuning.method != "full":
        save_parts(start.towers, config.tuning, out / PARTS, base=start.card.fingerprint)
    merge(start.towers)
    after = {name: value.cpu().clone() for name, value in start.towers.state_dict().items()}
    points = list[Point]()
    if config.gained and config.kept:
        tests = [open_source(source, data) for source in (config.kept, config.gained)]
        model.eval()

        def measure() -> tuple[float, float]:
            kept, gained = (mean_recall(pairs, model, start.tokenizer.ids) for pairs in tests)
            return kept, gained

        points = sweep(start.towers, before, after, measure, config.alphas)
    alpha = choose(points).alpha if points else config.alpha
    start.towers.load_state_dict(blend(before, after, alpha))
    table = {"alpha": alpha, "points": [asdict(point) for point in points]}
    (out / "alphas.json").write_text(json.dumps(table, indent=2) + "\n")
    write_model(start, model.state_dict(), out / "model", out.name)


def smoke(config: Config, out: Path) -> Config:
    """The same recipe in a few steps, on drawn chips and a tiny model with random weights, both below `out`."""
    world = draw_world(out / "world")
    pairs, held_out = (DataSource(str(world / "captions.jsonl"), split=split) for split in ("train", "valid"))
    loop = smoke_loop(config.loop)
    alphas = (0.0, 0.5, 1.0)
    model = str(world / "model")
    return replace(config, model=model, data=(pairs,), loop=loop, gained=held_out, kept=held_out, alphas=alphas)
