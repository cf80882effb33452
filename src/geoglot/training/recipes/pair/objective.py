"""What recipe `pair` trains: images against what is said of them, places against words, words across languages.

Terms of the loss
  contrast     images against texts; every text that is known to fit an image is right for it
  places_mean  the same for the mean of an image's places, so that places keep the vocabulary of captions
  classes      each image's class among those of its source, each said anew in every step
  regions      each place's class among those of its source
  languages    sentences about a concept in nine languages against English ones about it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from geoglot.models.parts.joined import JoinedTower
from geoglot.training.distributed import World, gather
from geoglot.training.objective import Batch, Contrastive, Outputs, text_ids
from geoglot.training.recipes.pair.sentences import SentenceTable, Vocabulary
from geoglot.training.views import ViewRanges, random_views_and_regions

CHUNK = 32
"""Images that go through the backbone at once: what a pass keeps then fits the caches of a CPU."""
LANGUAGE_SCALE = 20.0


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the terms of the loss; 0 leaves one out."""

    places_mean: float = 0.25
    classes: float = 0.5
    regions: float = 0.5
    languages: float = 0.3


class Banks:
    """Rows of the sentence table about each concept.

    Args:
        vocabulary: Concepts and what is said of them.
        table: Where the sentences stand.
    """

    def __init__(self, vocabulary: Vocabulary, table: SentenceTable) -> None:
        rows = [([*w.names, *w.framed, *w.looks], list(w.foreign)) for w in vocabulary.wordings]
        self.english = [torch.from_numpy(table.ids(english)[:, 0]) for english, _ in rows]
        self.foreign = [torch.from_numpy(table.ids(foreign)[:, 0]) for _, foreign in rows]

    def draw(self, concepts: Sequence[int], banks: Sequence[Tensor]) -> Tensor:
        """One row for each concept, int64 [N, 1], by PyTorch's own chance."""
        chosen = [banks[c][torch.randint(len(banks[c]), (1,))] for c in concepts]
        return torch.stack(chosen)


class Pair(Contrastive):
    """The objective.

    Args:
        towers: The joined dual encoder.
        table: Vectors of all sentences.
        vocabulary: Concepts.
        classes: Of each source, the concepts of its classes in the order of its regions.
        weights: Of the terms.
        ranges: Of the random views.
        sides: (share of the steps done, side of the views in px) in rising order.
        steps: Of the run.
        mean, std: Of pixels in [0, 1].
    """

    def __init__(
        self,
        towers: JoinedTower,
        table: SentenceTable,
        vocabulary: Vocabulary,
        classes: Sequence[tuple[int, ...]],
        weights: Weights,
        ranges: ViewRanges,
        sides: Sequence[tuple[float, int]],
        steps: int,
        mean: float,
        std: float,
    ) -> None:
        super().__init__(towers, "multi_positive", side_px=sides[-1][1], mean=(mean,) * 3, std=(std,) * 3)
        self.weights, self.ranges, self.sides, self.steps = weights, ranges, sides, steps
        self.banks, self.classes = Banks(vocabulary, table), classes
        self._vectors = torch.from_numpy(table.vectors)
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))

    @property
    def view_px(self) -> int:
        """Side of the views at this step."""
        done = int(cast(Tensor, self.steps_done)) / self.steps
        return next((side for share, side in self.sides if done < share), self.sides[-1][1])

    @property
    def joined(self) -> JoinedTower:
        """The towers, as what they are."""
        return cast(JoinedTower, self.towers)

    def text_rows(self, ids: Tensor) -> Tensor:
        """Rows of the sentence table [M, 1] -> unit rows [M, D]."""
        self._vectors = self._vectors.to(ids.device)
        return F.normalize(self.joined.encode_text(self._vectors[ids[:, 0]]).float(), dim=1)

    def maps(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels in [0, 1], [B, 3, S, S] -> the backbone's maps at strides 16 and 32."""
        x = (views - cast(Tensor, self.mean)) / cast(Tensor, self.std)
        x = x.contiguous(memory_format=torch.channels_last)
        maps = [self.joined.image(part) for part in torch.split(x, CHUNK)]
        middle, last = (torch.cat([one[at] for one in maps]) for at in (0, 1))
        return middle, last

    def forward(self, batch: Batch) -> Outputs:
        chance = torch.default_generator
        views, regions = random_views_and_regions(
            batch.images, batch.extras["regions"], self.view_px, self.ranges, chance
        )
        middle, last = self.maps(views)
        places = F.normalize(self.joined.image_head.places(middle, last).float(), dim=3)
        return {
            "images": F.normalize(self.joined.image_head(middle, last).float(), dim=1),
            "places": places.flatten(1, 2),
            "regions": regions,
            "texts": self.text_rows(batch.texts.flatten(0, 1)),
            "scale": self.joined.logit_scale.exp(),
        }

    def loss(self, outputs: Outputs, batch: Batch, world: World) -> dict[str, Tensor]:
        terms = self.whole_image_terms(outputs, batch, world)
        if self.weights.regions:
            terms["regions"] = self.weights.regions * self.region_term(outputs, batch)
        return terms

    def whole_image_terms(self, outputs: Outputs, batch: Batch, world: World) -> dict[str, Tensor]:
        """All terms but that of regions; that of the places' mean only where `outputs` has places."""
        scale, texts = outputs["scale"], gather(outputs["texts"], world)[0]
        right, unsure = self._fits(batch, world)
        terms = {"contrast": _spread(gather(outputs["images"], world)[0], texts, scale, right, unsure)}
        if self.weights.places_mean and "places" in outputs:
            means = gather(F.normalize(outputs["places"].mean(1), dim=1), world)[0]
            terms["places_mean"] = self.weights.places_mean * _spread(means, texts, scale, right, unsure)
        if self.weights.classes:
            terms["classes"] = self.weights.classes * self._classes(outputs, batch)
        if self.weights.languages:
            terms["languages"] = self.weights.languages * self._languages()
        return terms

    def _fits(self, batch: Batch, world: World) -> tuple[Tensor, Tensor]:
        """bool [B, B * K]: what is right, and what counts neither as right nor as wrong."""
        extras = {name: gather(batch.extras[name], world)[0] for name in ("shows", "names", "label", "source")}
        texts = gather(text_ids(batch.texts.flatten(0, 1)), world)[0]
        names = extras["names"].flatten()
        each = extras["names"].shape[1]
        owner = torch.arange(len(names), device=names.device) // each
        right = torch.arange(len(extras["label"]), device=names.device)[:, None] == owner
        for column in texts.view(-1, each).T:
            right = right | (column[:, None] == texts)
        right = right | (extras["shows"][:, names.clamp(min=0)] & (names >= 0))
        label, source = extras["label"], extras["source"]
        kin = (label[:, None] == label[owner]) & (label[:, None] >= 0)
        elsewhere = source[:, None] != source[owner]
        return right, kin & elsewhere & ~right

    def _classes(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Cross-entropy of each labelled image among the classes of its source, mean over images."""
        losses = []
        for source, concepts in enumerate(self.classes):
            rows = torch.nonzero((batch.extras["source"] == source) & (batch.extras["label"] >= 0))[:, 0]
            if len(rows) and len(concepts) > 1:
                bank = self.text_rows(self.banks.draw(concepts, self.banks.english))
                order = torch.tensor(concepts)
                target = (batch.extras["label"][rows][:, None] == order).float().argmax(1)
                logits = outputs["scale"] * outputs["images"][rows] @ bank.T
                losses.append(F.cross_entropy(logits, target, reduction="sum", label_smoothing=0.05) / len(batch))
        return torch.stack(losses).sum() if losses else outputs["images"].sum() * 0

    def region_term(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Cross-entropy of places that one class fills by half, mean over each class in each image, then over these."""
        side = round(outputs["places"].shape[1] ** 0.5)
        losses = []
        for source, concepts in enumerate(self.classes):
            rows = torch.nonzero((batch.extras["source"] == source) & (outputs["regions"].flatten(1) > 0).any(1))[:, 0]
            if not len(rows):
                continue
            shares = F.one_hot(outputs["regions"][rows].long(), len(concepts) + 1)[..., 1:].permute(0, 3, 1, 2)
            filled = F.adaptive_avg_pool2d(shares.float(), side).flatten(2)  # [R, K, P]
            filled = filled * (filled > 0.5)
            bank = self.text_rows(self.banks.draw(concepts, self.banks.english))
            logits = outputs["scale"] * outputs["places"][rows] @ bank.T  # [R, P, K]
            wrong = -F.log_softmax(logits, 2).transpose(1, 2)
            mass = filled.sum(2)
            there = mass > 0
            losses.append((wrong * filled).sum(2)[there] / mass[there])
        losses = [one for one in losses if len(one)]
        return torch.cat(losses).mean() if losses else outputs["places"].sum() * 0

    def _languages(self, count: int = 96) -> Tensor:
        """Foreign sentences against English ones, of as many concepts."""
        concepts = torch.randperm(len(self.banks.english))[:count].tolist()
        english = self.text_rows(self.banks.draw(concepts, self.banks.english)).detach()
        foreign = self.text_rows(self.banks.draw(concepts, self.banks.foreign))
        return F.cross_entropy(LANGUAGE_SCALE * foreign @ english.T, torch.arange(len(concepts), device=english.device))

    def after_step(self, step: int) -> None:
        super().after_step(step)
        cast(Tensor, self.steps_done).fill_(step + 1)


def _spread(images: Tensor, texts: Tensor, scale: Tensor, right: Tensor, unsure: Tensor) -> Tensor:
    """As `multi_positive_nce`, for K texts an image."""
    logits = (scale * images @ texts.T).masked_fill(unsure, -1e4)
    weight = right.to(logits.dtype)
    to_text = -(weight * F.log_softmax(logits, 1)).sum(1) / weight.sum(1)
    to_image = -(weight * F.log_softmax(logits, 0)).sum(0) / weight.sum(0)
    return (to_text.mean() + to_image.mean()) / 2
