"""A validation metric cheap enough to compute while training: retrieval both ways on a few thousand held-out pairs."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoglot.data.decode import Prepare
from geoglot.data.loader import Tokenize
from geoglot.data.pairs import PairSet
from geoglot.errors import SampleError
from geoglot.training.objective import Contrastive

log = logging.getLogger("geoglot.validation")

BLOCK = 256


@torch.no_grad()
def mean_recall(data: PairSet, model: Contrastive, tokenize: Tokenize) -> float:
    """Mean of R@1, R@5 and R@10, both ways, in percent. For published protocols use `geoglot eval`.

    Every caption is a query, and an image's own captions are its right answers. Keeps the N x M matrix of cosines.
    """
    device = next(model.parameters()).device
    images, texts, owners = list[NDArray[np.uint8]](), list[str](), list[int]()
    prepare, rng = Prepare(model.side_px), np.random.default_rng(0)
    for record in range(len(data)):
        try:
            pair = data.read(record)
            ready = prepare(pair, rng)
        except SampleError as error:
            log.warning("left out of the validation: %s", error)
            continue
        owners += [len(images)] * len(pair.captions)
        texts += pair.captions
        images.append(ready.image)
    pixels = (torch.from_numpy(np.stack(images[i : i + BLOCK])) for i in range(0, len(images), BLOCK))
    tokens = (torch.from_numpy(tokenize(texts[i : i + BLOCK])) for i in range(0, len(texts), BLOCK))
    left = torch.cat([model.image_rows(batch.to(device)) for batch in pixels])
    right = torch.cat([model.text_rows(ids.to(device)) for ids in tokens])
    fits = torch.tensor(owners, device=device) == torch.arange(len(left), device=device)[:, None]
    return recall_of(left @ right.T, fits)


def recall_of(scores: Tensor, fits: Tensor) -> float:
    """Mean recall in percent from scores and right answers, both [N, M]."""
    ways = [_recall(s, f, k) for k in (1, 5, 10) for s, f in ((scores, fits), (scores.T, fits.T))]
    return float(torch.stack(ways).mean() * 100)


def _recall(scores: Tensor, fits: Tensor, k: int) -> Tensor:
    """Share of rows with a right answer among the first k columns."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return fits.gather(1, best).any(1).float().mean()
