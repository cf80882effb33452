"""Recipe `farslip`: patches that agree with words, not only whole images. FarSLIP's two stages (arXiv 2511.14901).

    geoglot train farslip --config configs/farslip_1_b32.toml --data DATA --out runs/farslip1-b32
    geoglot train farslip --config configs/farslip_2_b32.toml --data DATA --out runs/farslip2-b32

Loss = global_weight x contrast of images and captions
     + patch_weight  x (1 - agreement of an image's patches inside a crop with the crop as an image of its own)
     + region_weight x alignment of regions with the texts of their categories, several right answers.
Stage 1 is the first two, stage 2 the first and the last, starting from stage 1 (`init_from`); with both weights at 0 it
is plain contrastive tuning. The whole image and all its parts go through the image tower in one pass, whose last block
serves embeddings and patches alike. What differs from the released code: docs/recipes/farslip.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.data.pairs import PairSet
from geoglot.data.regions import RegionSource, open_regions
from geoglot.data.sources import DataSource
from geoglot.errors import ModelNotFoundError, UnknownNameError, UsageError
from geoglot.models.card import CARD_FILE, Card, read_card
from geoglot.models.towers.clip import DualModel
from geoglot.models.towers.convnet import batch_norms
from geoglot.models.towers.dense import Dense, LastBlock
from geoglot.models.zoo.registry import find_card
from geoglot.training.distributed import World, open_world
from geoglot.training.finetune import Finetune, Mix, open_mix
from geoglot.training.journal import OnProgress
from geoglot.training.loop_config import Loop
from geoglot.training.model_folder import Start, load_start, with_long_text
from geoglot.training.objective import Batch, Contrastive, LossName, Outputs
from geoglot.training.recipes.farslip.colour import jittered
from geoglot.training.recipes.farslip.region_losses import Align, Distill, faded, patch_agreement, region_alignment
from geoglot.training.recipes.farslip.region_pairs import EMPTY, Captions, Parts, RegionPairs
from geoglot.training.recipes.farslip.roi_align import roi_mean
from geoglot.training.recipes.farslip.teacher import Teacher
from geoglot.training.smoke import draw_regions, draw_world, smoke_loop

log = logging.getLogger("geoglot.farslip")

TeacherKind = Literal["active", "ema", "frozen"]
Positives = Literal["category", "own"]
LOWEST_RATE = 1e-8
"""Below this Adam moves a weight of CLIP's usual size, 0.02, by less than a hundredth in 20,000 steps."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the recipe. One of `model` and `init_from` is given.

    Attributes:
        loop: How to train.
        model: Name or folder of the model to start from.
        init_from: Run folder of the stage before (or any model folder), to start from what it left.
        data: Image-text pairs without regions; paths are relative to --data.
        regions: Images with regions; the same.
        region_share: Share of the batch that comes from `regions`, when both are given.
        validation: Held-out pairs for the metric, mean recall; none: no validation.
        loss: Of the contrast: "infonce", or "multi_positive" where captions repeat.
        global_weight, patch_weight, region_weight: Of the three terms.
        contrast_gradient: Share of the contrast's gradient that reaches the towers; the temperature has all of it. The
            released code gathers embeddings without gradient, so that on n GPUs it is 1 / n: 0.25 on the authors' four.
        side_px: Side at which images and their parts are seen; 0: the model's own.
        crops: Random crops of an image for the patch term.
        crop_area: Least and most share of the image in a crop.
        distill: Target of the patches: "roi2pooled", "roi2cls" or "combined".
        teacher: What encodes the crops: "active" the network itself, "ema" a moving average of it, "frozen" the start.
        teacher_decay: Of the moving average.
        detach_target: Stop the gradient at the target; False as in the released code.
        teacher_after_step: Move the average after the optimiser step; False, one step late, as in the released code.
        last_block: How the last block attends for patches; none: as the model does by itself, "segearth" for CLIP.
        keep_residual: Patches keep the last block's residual and feed-forward layer, as the released "maskclip" does.
        align: The vector of a region that is compared with its text: "cls" its image embedding, "pooled" the mean of
            its patches, "roi" the patches of the whole image inside its box.
        positives: "category": all regions of a category are right for each other; "own": only its own text.
        most_regions: Regions of an image.
        region_px: Least and most side, in pixels of the image, of the square that a region's box must compare with.
        region_text: What is said of a region by its category.
        drop_captioned: Leave regions with a text of their own out of the loss, as in the released code.
        captions: Of an image with several: "any", drawn anew each time, or the "first" that is not empty, as released.
        jitter: Change colours at random, each image and region on its own.
        long_text: Stretch a text tower of 77 tokens to 248 before training (Long-CLIP).
    """

    recipe: ClassVar[str] = "farslip"
    loop: Loop
    model: str = ""
    init_from: str = ""
    data: tuple[DataSource, ...] = ()
    regions: tuple[RegionSource, ...] = ()
    region_share: float = 0.5
    validation: DataSource | None = None
    loss: LossName = "infonce"
    global_weight: float = 1.0
    patch_weight: float = 0.0
    region_weight: float = 0.0
    contrast_gradient: float = 1.0
    side_px: int = 0
    crops: int = 4
    crop_area: tuple[float, float] = (0.3, 0.7)
    distill: Distill = "roi2pooled"
    teacher: TeacherKind = "active"
    teacher_decay: float = 0.99
    detach_target: bool = True
    teacher_after_step: bool = True
    last_block: LastBlock | None = None
    keep_residual: bool = False
    align: Align = "cls"
    positives: Positives = "category"
    most_regions: int = 4
    region_px: tuple[float, float] = (64.0, 1024.0)
    region_text: str = "a satellite image of {category}"
    drop_captioned: bool = False
    captions: Captions = "any"
    jitter: bool = False
    long_text: bool = False

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.init_from):
            raise UsageError(f"model = {self.model!r} and init_from = {self.init_from!r}: give one of them")
        if not (self.data or self.regions):
            raise UsageError("there is no [[data]] and no [[regions]] in the config")
        _check_names(self)
        weights = (self.global_weight, self.patch_weight, self.region_weight)
        if min(weights) < 0 or not any(weights):
            raise UsageError(f"weights of the loss are {weights}; none may be negative, and one must be positive")
        if not 0 < self.contrast_gradient <= 1:
            raise UsageError(f"contrast_gradient = {self.contrast_gradient} is no share above 0, up to 1")
        if self.region_weight and not self.regions:
            raise UsageError("region_weight needs [[regions]]")
        if "{category}" not in self.region_text:
            raise UsageError(f"region_text {self.region_text!r} has no {{category}}")
        if not 0 < self.region_share < 1 or not 0 <= self.teacher_decay < 1:
            raise UsageError(f"region_share {self.region_share} and teacher_decay {self.teacher_decay} must be shares")
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1 or not 0 <= self.region_px[0] < self.region_px[1]:
            raise UsageError(f"crop_area {self.crop_area} and region_px {self.region_px} must rise")
        if min(self.crops, self.most_regions) < 1 or self.side_px < 0:
            counts = f"crops = {self.crops}, most_regions = {self.most_regions} and side_px = {self.side_px}"
            raise UsageError(f"{counts} must be positive")
        if self.loop.evaluate_every and self.validation is None:
            raise UsageError("evaluate_every needs a [validation] source")


def _check_names(config: Config) -> None:
    known = {"distill": Distill, "teacher": TeacherKind, "align": Align, "last_block": LastBlock}
    known |= {"captions": Captions, "positives": Positives}
    for what, names in known.items():
        value = getattr(config, what)
        if value is not None and value not in get_args(names):
            raise UnknownNameError(what.replace("_", " "), value, get_args(names))
    if config.loss not in ("infonce", "multi_positive"):
        raise UnknownNameError("loss", config.loss, ("infonce", "multi_positive"))


class FarSlip(Contrastive):
    """Contrast of whole images, agreement of patches, alignment of regions; what has weight 0 is not computed.

    Batch normalisation keeps the statistics that it came with: a batch of crops has others than a batch of images.

    Args:
        towers: The trained model.
        config: Which losses, how.
        side_px, mean, std: See Contrastive.
    """

    def __init__(self, towers: DualModel, config: Config, **pixels: Any) -> None:
        super().__init__(towers, config.loss, **pixels)
        self.config = config
        decays = {"ema": config.teacher_decay, "frozen": 1.0}
        wanted = config.patch_weight > 0 and config.teacher in decays
        self.teacher = Teacher(towers, decays[config.teacher]) if wanted else None
        self._dense = config.patch_weight > 0 or (config.region_weight > 0 and config.align != "cls")
        if not (config.global_weight or config.region_weight):
            for name, parameter in towers.named_parameters():
                parameter.requires_grad_(parameter.requires_grad and name.startswith("visual."))  # no loss reads texts

    def train(self, mode: bool = True) -> FarSlip:
        """See above: batch normalisation never trains."""
        super().train(mode)
        for norm in batch_norms(self):
            norm.eval()
        return self

    def pixels(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float().div_(255.0)
        x = jittered(x) if self.training and self.config.jitter else x
        return (x - cast(Tensor, self.mean)) / cast(Tensor, self.std)

    def forward(self, batch: Batch) -> Outputs:
        config, extras = self.config, batch.extras
        there = extras["region_labels"].flatten() != EMPTY if config.region_weight else None
        parts = {"images": batch.images}
        if config.patch_weight:
            parts["crops"] = extras["crops"].flatten(0, 1)
        if "regions" in extras:
            parts["regions"] = extras["regions"].flatten(0, 1)[there]
        found = self._see(parts)
        texts = self._distinct_text_rows(batch.texts)  # [B, 1 + M, D]
        outputs = {
            "images": F.normalize(found["images"].pooled.float(), dim=1),
            "texts": texts[:, 0],
            "scale": self.model.logit_scale.view(()).exp(),
        }
        if config.patch_weight:
            places = _places(extras["crop_boxes"])
            outputs["agreement"] = patch_agreement(
                found["images"].patches, found["crops"], *places, config.distill, detach=config.detach_target
            )
        if there is not None:
            outputs["regions"] = F.normalize(self._region_rows(found, extras, there).float(), dim=1)
            outputs["region_texts"] = texts[:, 1:].flatten(0, 1)[there]
        return outputs

    def _region_rows(self, found: dict[str, Dense], extras: Mapping[str, Tensor], there: Tensor) -> Tensor:
        """The vector of each region that is compared with its text, [k, D]; empty slots are left out."""
        if self.config.align == "cls":
            return found["regions"].pooled
        if self.config.align == "pooled":
            return found["regions"].patches.mean((1, 2))
        boxes, owners = _places(extras["region_boxes"])
        return roi_mean(found["images"].patches, boxes[there], owners[there])

    def _see(self, parts: dict[str, Tensor]) -> dict[str, Dense]:
        """Everything that needs a gradient in one pass of the image tower, the rest in another without one.

        Crops are the rest where a teacher encodes them, or where the gradient stops at them anyway.
        """
        views = {name: self.pixels(images) for name, images in parts.items()}
        apart = {"crops"} & views.keys() if self.teacher or self.config.detach_target else set()
        mine = [name for name in views if name not in apart]
        whole = self._encode(self.towers, torch.cat([views[name] for name in mine]))
        found = dict(zip(mine, _split(whole, [len(views[name]) for name in mine]), strict=True))
        for name in apart:
            with torch.no_grad():
                found[name] = self._encode(self.teacher.model if self.teacher else self.towers, views[name])
        return found

    def _encode(self, towers: nn.Module, x: Tensor) -> Dense:
        """Patches cost little more than embeddings; where no loss looks at them, they cost nothing."""
        model = cast(DualModel, towers)
        if self._dense:
            return model.dense(x, self.config.last_block, keep_residual=self.config.keep_residual)
        return Dense(model.encode_image(x), x.new_zeros(len(x), 0, 0, 0), None)

    def _distinct_text_rows(self, ids: Tensor) -> Tensor:
        """Unit rows [B, K, D] of token rows [B, K, T]; equal ones, and categories repeat, are encoded once."""
        distinct, where = torch.unique(ids.flatten(0, 1), dim=0, return_inverse=True)
        return self.text_rows(distinct)[where].reshape(*ids.shape[:2], -1)

    def loss(self, outputs: Outputs, batch: Batch, world: World) -> dict[str, Tensor]:
        config, terms = self.config, dict[str, Tensor]()
        if config.global_weight:
            captions = replace(batch, texts=batch.texts[:, :1])
            faint = {name: faded(outputs[name], config.contrast_gradient) for name in ("images", "texts")}
            terms["contrast"] = config.global_weight * super().loss(outputs | faint, captions, world)["contrast"]
        if config.patch_weight:
            terms["patches"] = config.patch_weight * (1 - outputs["agreement"].mean())
        if config.region_weight:
            labels = batch.extras["region_labels"].flatten()
            labels = labels[labels != EMPTY]
            if config.positives == "own":
                labels = torch.arange(len(labels), device=labels.device) + (world.rank << 32)
            rows = outputs["regions"], outputs["region_texts"]
            terms["regions"] = config.region_weight * region_alignment(*rows, labels, outputs["scale"], world)
        return terms

    def chance(self, rows: int) -> float | None:
        guessed = super().chance(rows)
        return self.config.global_weight * guessed if guessed and self.config.global_weight else None

    def before_step(self, step: int) -> None:
        if self.teacher and self.config.teacher == "ema" and not self.config.teacher_after_step:
            self.teacher.follow(self.towers)

    def after_step(self, step: int) -> None:
        super().after_step(step)
        if self.teacher and self.config.teacher == "ema" and self.config.teacher_after_step:
            self.teacher.follow(self.towers)


def _places(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """[B, n, 4] to boxes [B * n, 4] and the image of each."""
    images, each = boxes.shape[:2]
    return boxes.flatten(0, 1), torch.arange(images, device=boxes.device).repeat_interleave(each)


def _split(found: Dense, counts: list[int]) -> list[Dense]:
    pairs = zip(torch.split(found.pooled, counts), torch.split(found.patches, counts), strict=True)
    return [Dense(pooled, patches, None) for pooled, patches in pairs]


def parts_of(config: Config, side_px: int) -> Parts:
    """The views that the feed cuts out of each record: those that a loss looks at."""
    return Parts(
        side_px,
        config.crops if config.patch_weight else 0,
        config.crop_area,
        config.most_regions if config.region_weight else 0,
        config.align != "roi",
        config.region_px,
        config.region_text,
        config.drop_captioned,
        config.captions,
    )


def start_of(config: Config) -> Start:
    """The model that training starts from.

    Raises:
        ModelNotFoundError: `init_from` holds no model.
        ModelFileError: It has no PyTorch weights, or no text tower that can be stretched.
    """
    start = load_start(_left_by(Path(config.init_from)) if config.init_from else find_card(config.model))
    return with_long_text(start) if config.long_text else start


def _left_by(run: Path) -> Card:
    for folder in (run / "model", run):
        if (folder / CARD_FILE).is_file():
            return read_card(folder)
    hint = "Run the stage before first; init_from is its --out."
    raise ModelNotFoundError(f"init_from = {str(run)!r} holds no model", hint=hint)


def run(config: Config, data: Path, out: Path, on_progress: OnProgress | None = None) -> Path:
    """Train, going on from what `out` holds.

    Returns:
        The folder of the tuned model.
    """
    if config.loop.learning_rate < LOWEST_RATE:
        log.warning(
            "learning_rate = %g hardly moves a weight; FarSLIP's README prints it for stage 2, and nothing tells "
            "whether it is a slip",
            config.loop.learning_rate,
        )
    with open_world(config.loop.device) as world:
        return tune_on(config, start_of(config), mix_of(config, data), data, out, world, on_progress)


def tune_on(
    config: Config,
    start: Start,
    mix: Mix,
    data: Path,
    out: Path,
    world: World,
    on_progress: OnProgress | None = None,
) -> Path:
    """`run` on sets that are open already. Returns the folder of the tuned model."""
    job = Finetune(config, data, out, start=start, mix=mix, world=world, on_progress=on_progress)
    side_px = config.side_px or start.image_px
    model = FarSlip(start.towers, config, side_px=side_px, mean=start.mean, std=start.std)
    return job.run(model, parts_of(config, side_px))


def mix_of(config: Config, data: Path) -> Mix:
    """The data and the shares of each set: by its records, within the two shares of pairs and of regions."""
    pairs = open_mix(config.data, data)
    regions: list[PairSet] = [RegionPairs(open_regions(source, data)) for source in config.regions]
    if not (pairs.sets and regions):
        return Mix([*pairs.sets, *regions], [*pairs.weights, *[0.0] * len(regions)])
    sides = ((pairs.sets, 1 - config.region_share), (regions, config.region_share))
    shares = [share * len(one) / sum(map(len, side)) for side, share in sides for one in side]
    return Mix([*pairs.sets, *regions], shares)


def smoke(config: Config, out: Path) -> Config:
    """The same recipe in a few steps, on drawn chips and a tiny model with random weights, both below `out`."""
    world = draw_world(out / "world")
    pairs, held_out = (DataSource(str(world / "captions.jsonl"), split=split) for split in ("train", "valid"))
    return replace(
        config,
        model=str(world / "model"),
        init_from="",
        data=(pairs,) if config.data else (),
        regions=(draw_regions(world),) if config.regions else (),
        validation=held_out if config.validation else None,
        region_px=(4.0, 1024.0),
        loop=smoke_loop(config.loop),
        long_text=False,
    )
