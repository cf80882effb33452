"""The last stage of recipe `pair`: the backbone stays, its maps are computed once, and the heads go on alone.

A head costs a thousandth of the backbone, so on stored maps it sees in minutes what would take the whole model days.
Views, sentences and losses are those of the stage before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from geoglot.data.decode import Prepare
from geoglot.data.loader import Loaded
from geoglot.data.pairs import PairSet
from geoglot.errors import UsageError
from geoglot.training.distributed import World
from geoglot.training.loop import to_batch
from geoglot.training.objective import Batch
from geoglot.training.recipes.pair.objective import CHUNK, Pair
from geoglot.training.recipes.pair.sentences import SentenceTable
from geoglot.training.schedules import rate_at
from geoglot.training.validation import recall_of
from geoglot.training.views import random_views_and_regions


@dataclass(frozen=True, slots=True)
class HeadTuning:
    """The `[heads_alone]` table.

    Attributes:
        views: Images whose maps are stored; 0 leaves the stage out.
        steps, batch, learning_rate, weight_decay: AdamW with a cosine.
        texts: Sentences an image that are drawn; each step uses half of them.
        captions: Of these at most, captions.
        side_px: Of the views.
        regions: Images with regions in each step.
        evaluate_every: Steps between validations, the best of which counts.
    """

    views: int = 0
    steps: int = 2000
    batch: int = 256
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    texts: int = 8
    captions: int = 5
    side_px: int = 128
    regions: int = 32
    evaluate_every: int = 250

    def __post_init__(self) -> None:
        if self.views and self.views < self.batch:
            raise UsageError(f"views = {self.views} are fewer than a batch of {self.batch}")


@dataclass(frozen=True, slots=True)
class StoredMaps:
    """What the heads learn from.

    Attributes:
        middle, last: Means of the maps, [N, 112] and [N, 1280].
        batch: Texts and extras of all views; its images are empty.
        rows: int64 [R], views of which it is known what lies where.
        middle_maps, last_maps: Theirs, fp16 [R, 112, h, w] and [R, 1280, h / 2, w / 2].
        regions: uint8 [R, m, m], as seen in the view.
    """

    middle: Tensor
    last: Tensor
    batch: Batch
    rows: Tensor
    middle_maps: Tensor
    last_maps: Tensor
    regions: Tensor


@torch.no_grad()
def store_maps(model: Pair, loaded: Iterator[Loaded], views: int, side_px: int) -> StoredMaps:
    """Look at random views until there are enough."""
    means: list[tuple[Tensor, Tensor]] = []
    maps: list[tuple[Tensor, Tensor, Tensor]] = []
    batches, rows, count = list[Batch](), list[Tensor](), 0
    while count < views:
        batch = to_batch(next(loaded))
        seen, regions = random_views_and_regions(
            batch.images, batch.extras["regions"], side_px, model.ranges, torch.default_generator
        )
        middle, last = model.maps(seen)
        known = torch.nonzero((regions.flatten(1) > 0).any(1))[:, 0]
        means.append((middle.mean((2, 3)), last.mean((2, 3))))
        maps.append((middle[known].half(), last[known].half(), regions[known]))
        rows.append(known + count)
        batches.append(Batch(batch.images[:, :0, :0], batch.texts, batch.image_ids, batch.extras))
        count += len(batch)
    middle_maps, last_maps, grids = (torch.cat([one[at] for one in maps]) for at in range(3))
    return StoredMaps(
        torch.cat([one[0] for one in means]),
        torch.cat([one[1] for one in means]),
        _joined(batches),
        torch.cat(rows),
        middle_maps,
        last_maps,
        grids,
    )


def _joined(batches: list[Batch]) -> Batch:
    extras = {name: torch.cat([one.extras[name] for one in batches]) for name in batches[0].extras}
    images, texts, ids = (torch.cat([getattr(one, n) for one in batches]) for n in ("images", "texts", "image_ids"))
    return Batch(images, texts, ids, extras)


def tune_heads(
    model: Pair, stored: StoredMaps, tuning: HeadTuning, world: World, evaluate: Callable[[], float] | None
) -> list[tuple[int, float]]:
    """Train both heads and the temperature; the model keeps the weights of the best validation, or the last ones.

    Returns:
        (step, metric) of each validation, the state before the first step included.
    """
    heads = [model.joined.image_head, model.joined.text_head]
    parameters = [p for head in heads for p in head.parameters()] + [model.joined.logit_scale]
    optimizer = torch.optim.AdamW(parameters, lr=tuning.learning_rate, weight_decay=tuning.weight_decay)
    found = list[tuple[int, float]]()
    best = _state(model)
    model.train()
    for step in range(tuning.steps + 1):
        if evaluate and (step % tuning.evaluate_every == 0 or step == tuning.steps):
            model.eval()
            found.append((step, evaluate()))
            model.train()
            if found[-1][1] == max(value for _, value in found):
                best = _state(model)
        if step == tuning.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = tuning.learning_rate * rate_at(step, tuning.steps, 0, "cosine", 0.0)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(_terms(model, stored, tuning, world).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.after_step(step)
    if evaluate:
        model.joined.load_state_dict(best)
    return found


def stored_recall(model: Pair, held_out: PairSet, table: SentenceTable, side_px: int) -> Callable[[], float]:
    """Mean recall on held-out pairs as a function of the heads alone: the pictures' maps are computed once."""
    prepare, chance = Prepare(side_px), np.random.default_rng(0)
    pairs = [held_out.read(at) for at in range(len(held_out))]
    middle, last = list[Tensor](), list[Tensor]()
    for start in range(0, len(pairs), CHUNK):
        images = np.stack([prepare(pair, chance).image for pair in pairs[start : start + CHUNK]])
        with torch.no_grad():
            maps = model.maps(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0)
        middle.append(maps[0].mean((2, 3)))
        last.append(maps[1].mean((2, 3)))
    ids = torch.from_numpy(table.ids([text for pair in pairs for text in pair.captions]))
    owners = torch.tensor([at for at, pair in enumerate(pairs) for _ in pair.captions])
    fits = owners == torch.arange(len(pairs))[:, None]
    pooled = torch.cat(middle), torch.cat(last)

    @torch.no_grad()
    def recall() -> float:
        images = F.normalize(model.joined.image_head.pooled(*pooled), dim=1)
        return recall_of(images @ model.text_rows(ids).T, fits)

    return recall


def _state(model: Pair) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.joined.state_dict().items()}


def _terms(model: Pair, stored: StoredMaps, tuning: HeadTuning, world: World) -> dict[str, Tensor]:
    """The losses of the stage before on stored maps; places learn from regions alone."""
    rows = torch.randperm(len(stored.middle))[: tuning.batch]
    columns = torch.randperm(stored.batch.texts.shape[1])[: max(1, tuning.texts // 2)]
    whole = stored.batch
    extras = {name: value[rows] for name, value in whole.extras.items()}
    extras["names"] = extras["names"][:, columns]
    batch = Batch(whole.images[rows], whole.texts[rows][:, columns], whole.image_ids[rows], extras)
    head, scale = model.joined.image_head, model.joined.logit_scale.exp()
    outputs = {
        "images": F.normalize(head.pooled(stored.middle[rows], stored.last[rows]), dim=1),
        "texts": model.text_rows(batch.texts.flatten(0, 1)),
        "scale": scale,
    }
    terms = model.whole_image_terms(outputs, batch, world)
    chosen = torch.randperm(len(stored.rows))[: tuning.regions]
    if len(chosen) and model.weights.regions:
        places = head.places(stored.middle_maps[chosen].float(), stored.last_maps[chosen].float())
        part = {"places": F.normalize(places, dim=3).flatten(1, 2), "regions": stored.regions[chosen], "scale": scale}
        sources = {"source": whole.extras["source"][stored.rows[chosen]]}
        empty = Batch(whole.images[:0], whole.texts[:0], whole.image_ids[:0], sources)
        terms["regions"] = model.weights.regions * model.region_term(part, empty)
    return terms
