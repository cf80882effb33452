"""Cleaning a pool of image-text pairs with a model that saw a better pool: score, filter by quantile, refine.

Implements: CLIP-RS's purification as its model card tells it (collect two pools; train CLIP_Sem on the good one; reject
coarse pairs of low image-text similarity; replace their captions). The card names neither threshold nor captioner; the
quantile and the `Captioner` seam are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from geoglot.data.decode import Prepare
from geoglot.data.loader import Tokenize
from geoglot.data.pairs import PairSet
from geoglot.errors import SampleError, UsageError
from geoglot.training.objective import Contrastive

log = logging.getLogger("geoglot.purify")

Captions = Sequence[tuple[str, ...]]
Images = NDArray[np.uint8]
Vectors = NDArray[np.float32]

ROWS = 256
"""Images or texts in one pass of a tower."""


class Captioner(Protocol):
    """Writes new captions for images whose own were rejected."""

    def captions(self, images: Images, old: Captions) -> list[tuple[str, ...]]:
        """One tuple an image; an empty one says that nothing good can be said, and the pair stays out.

        Args:
            images: uint8 [N, S, S, 3].
            old: The rejected captions.
        """
        ...


class Judge:
    """CLIP_Sem at work: embeds pairs and says how well their two sides agree.

    Args:
        model: Trained on the good pool; on any device.
        tokenize: Of its text tower.
    """

    def __init__(self, model: Contrastive, tokenize: Tokenize) -> None:
        self._model, self._tokenize = model.eval(), tokenize
        self._device = next(model.parameters()).device

    @torch.no_grad()
    def images(self, images: Images) -> Vectors:
        """uint8 [N, S, S, 3], N at least 1 -> unit vectors [N, D]."""
        parts = (torch.from_numpy(images[at : at + ROWS]).to(self._device) for at in range(0, len(images), ROWS))
        out: Vectors = torch.cat([self._model.image_rows(part) for part in parts]).cpu().numpy()
        return out

    @torch.no_grad()
    def texts(self, captions: Captions) -> list[Vectors]:
        """Unit vectors [K, D] of each image's captions; K at least 1, and may differ."""
        texts = [text for said in captions for text in said]
        parts = (torch.from_numpy(self._tokenize(texts[at : at + ROWS])) for at in range(0, len(texts), ROWS))
        rows = torch.cat([self._model.text_rows(part.to(self._device)) for part in parts]).cpu().numpy()
        return np.split(rows, np.cumsum([len(said) for said in captions])[:-1])

    def scores(self, images: Images, captions: Captions) -> Vectors:
        """How well captions fit their images, [N]; N at least 1."""
        return pair_scores(self.images(images), self.texts(captions))

    def read(self, pool: PairSet, records: Sequence[int]) -> tuple[list[int], Images, list[tuple[str, ...]]]:
        """The records that can be read, their images [N, S, S, 3] without augmentation, and their captions."""
        side = self._model.side_px
        prepare, rng = Prepare(side), np.random.default_rng(0)
        rows, images, captions = list[int](), list[Images](), list[tuple[str, ...]]()
        for record in records:
            try:
                pair = pool.read(record)
                images.append(prepare(pair, rng).image)
            except SampleError as error:
                log.warning("left out: %s", error)
                continue
            rows.append(record)
            captions.append(pair.captions)
        return rows, np.stack(images) if images else np.zeros((0, side, side, 3), np.uint8), captions


class NearestCaptions:
    """A captioner without a language model: an image gets the captions of the most similar image of the good pool.

    Args:
        judge: Embeds images.
        good: The pool; its images are embedded once, here.

    Raises:
        UsageError: No image of the pool can be read.
    """

    def __init__(self, judge: Judge, good: Sequence[PairSet]) -> None:
        self._judge = judge
        vectors, self._captions = list[Vectors](), list[tuple[str, ...]]()
        for pool in good:
            for first in range(0, len(pool), ROWS):
                rows, images, captions = judge.read(pool, range(first, min(first + ROWS, len(pool))))
                if rows:
                    vectors.append(judge.images(images))
                    self._captions += captions
        if not vectors:
            raise UsageError("no image of the good pool can be read")
        self._vectors = np.concatenate(vectors)

    def captions(self, images: Images, old: Captions) -> list[tuple[str, ...]]:
        """See Captioner."""
        nearest = (self._judge.images(images) @ self._vectors.T).argmax(1)
        return [self._captions[at] for at in nearest]


def pair_scores(images: Vectors, texts: Sequence[Vectors]) -> Vectors:
    """Similarity [N] of each image with its captions: the mean cosine over them.

    Args:
        images: [N, D], unit norm.
        texts: N arrays [K, D], unit norm; K may differ.
    """
    return np.array([float((said @ image).mean()) for image, said in zip(images, texts, strict=True)], np.float32)


def keep_best(scores: Vectors, share: float) -> NDArray[np.bool_]:
    """bool [N]: the `share` of the pairs with the highest scores, rounded up; of equal scores the earlier pair.

    Raises:
        UsageError: The share is outside (0, 1], or a score is not finite.
    """
    if not 0 < share <= 1:
        raise UsageError(f"keep = {share} is not a share above 0")
    if not np.isfinite(scores).all():
        raise UsageError("a pair has a score that is not finite", hint="The scoring model has diverged.")
    kept = np.zeros(len(scores), np.bool_)
    kept[np.argsort(-scores, kind="stable")[: int(np.ceil(share * len(scores) - 1e-9))]] = True
    return kept
