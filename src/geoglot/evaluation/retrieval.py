"""Image-text retrieval: which captions belong to which images, by which protocol, and the recalls.

| protocol | text queries | right answers |
|---|---|---|
| `ret/rs5m` | every caption row, repeats too | the image the row stands under |
| `ret/equivalent` | every caption row | every image that carries the wording, case and full stops aside |
| `ret/skyscript-dedup` | every different caption | every image that carries it |

`ret/skyscript-dedup` puts `a satellite image. ` before every caption, but not before SkyScript's own.

A query is a hit at k when any right answer is among its k best; ties as ranks.py says. `mR` is the mean of the six
recalls at 1, 5 and 10 (Yuan et al. 2022, arXiv 2204.09868); `i2t_mean` and `t2i_mean` are means of three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.data.samples import Sample
from geoglot.evaluation.embeddings import encode_known, encode_samples, unknown
from geoglot.evaluation.metrics import bootstraps
from geoglot.evaluation.ranks import Pairs, both_ranks
from geoglot.evaluation.report import Number
from geoglot.models.encoder import DualEncoder, Vectors

SKYSCRIPT_PREFIX = "a satellite image. "
KS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Task:
    """One protocol on one set: the texts asked and what is right."""

    protocol: str
    texts: tuple[str, ...]
    pairs: Pairs
    cutoffs: tuple[int, ...] = KS


def wording(caption: str) -> str:
    """The key of a caption in `ret/equivalent`: its words, case and full stops aside."""
    return " ".join(caption.lower().replace(".", " ").split())


def rows_task(samples: Sequence[Sample]) -> Task:
    """`ret/rs5m`."""
    owner = [index for index, sample in enumerate(samples) for _ in sample.captions]
    texts = tuple(caption for sample in samples for caption in sample.captions)
    return Task("ret/rs5m", texts, Pairs(np.arange(len(texts)), np.array(owner, np.int64)))


def equivalent_task(samples: Sequence[Sample]) -> Task:
    """`ret/equivalent`."""
    texts = rows_task(samples).texts
    carriers = _carriers((wording(caption), index) for index, s in enumerate(samples) for caption in s.captions)
    right = [(row, image) for row, text in enumerate(texts) for image in carriers[wording(text)]]
    return Task("ret/equivalent", texts, _pairs(right))


def dedup_task(samples: Sequence[Sample], *, prefix: bool = True) -> Task:
    """`ret/skyscript-dedup`; images are one sample each already."""
    lead = SKYSCRIPT_PREFIX if prefix else ""
    carriers = _carriers((lead + caption, index) for index, s in enumerate(samples) for caption in s.captions)
    right = [(row, image) for row, images in enumerate(carriers.values()) for image in images]
    return Task("ret/skyscript-dedup", tuple(carriers), _pairs(right), (*KS, 100))


def _carriers(said: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """Text -> the images that carry it, each once."""
    found: dict[str, dict[int, None]] = {}
    for text, image in said:
        found.setdefault(text, {})[image] = None
    return {text: list(images) for text, images in found.items()}


def _pairs(right: list[tuple[int, int]]) -> Pairs:
    table = np.array(right, np.int64).reshape(-1, 2)
    return Pairs(table[:, 0], table[:, 1])


def retrieve(texts: Vectors, images: Vectors, task: Task, *, seed: int = 0) -> list[Number]:
    """All recalls of a task, both directions, with 95 % intervals.

    The bootstrap draws images, each with the texts whose first right answer it is; what is searched stays whole.

    Args:
        texts: Vectors [M, D] of task.texts; zero where the model knows no word.
        images: [N, D].
        task: What is right.
        seed: Of the bootstrap.
    """
    by_text, by_image = both_ranks(texts, images, task.pairs)
    owner = _first_image(task.pairs, len(texts))
    names = [f"{way}_R@{k}" for way in ("i2t", "t2i") for k in task.cutoffs]
    parts = {f"{way}_mean": tuple(f"{way}_R@{k}" for k in KS) for way in ("i2t", "t2i")}
    parts["mR"] = (*parts["i2t_mean"], *parts["t2i_mean"])
    names += parts

    def hits(which: str) -> _Hits:
        return _Hits(getattr(by_image, which), getattr(by_text, which), owner, task.cutoffs)

    worst, everything = hits("worst"), np.arange(len(images))
    values, kindest = worst.recalls(everything), hits("best").recalls(everything)
    spans = bootstraps(worst.recalls, len(images), seed=seed)
    lost = int(np.count_nonzero(unknown(texts)))
    notes = (f"the model knows no word of {lost:,} of {len(texts):,} texts",) if lost else ()
    return [
        Number(
            task.protocol, name, float(v), span, len(images), texts=len(texts), seed=seed, tied=float(kind),
            notes=notes, parts=parts.get(name, ()),
        )
        for name, v, span, kind in zip(names, values, spans, kindest, strict=True)
    ]  # fmt: skip


def _first_image(pairs: Pairs, texts: int) -> NDArray[np.int64]:
    first = np.full(texts, np.iinfo(np.int64).max)
    np.minimum.at(first, pairs.text, pairs.image)
    return first


class _Hits:
    """Hits per image and cut-off, so that drawing images is adding rows."""

    def __init__(
        self, images: NDArray[np.int64], texts: NDArray[np.int64], owner: NDArray[np.int64], cutoffs: Sequence[int]
    ) -> None:
        limits = np.array(cutoffs)
        self._image = images[:, None] < limits  # [N, k]
        self._text = np.zeros((len(images), len(limits)))
        np.add.at(self._text, owner, texts[:, None] < limits)
        self._texts = np.bincount(owner, minlength=len(images))

    def recalls(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Percent: image to text at each cut-off, text to image, their means at 1, 5, 10, and the mean of six."""
        i2t = 100 * self._image[rows].mean(0)
        t2i = 100 * self._text[rows].sum(0) / max(1, self._texts[rows].sum())
        means = i2t[: len(KS)].mean(), t2i[: len(KS)].mean()
        return np.array([*i2t, *t2i, *means, (means[0] + means[1]) / 2])


def caption_retrieval(encoder: DualEncoder, samples: Sequence[Sample], images: Vectors | None = None) -> list[Number]:
    """Protocols `ret/rs5m` and `ret/equivalent` over all captions of the samples."""
    images = encode_samples(encoder, samples) if images is None else images
    texts = encode_known(encoder, rows_task(samples).texts)
    return [n for task in (rows_task(samples), equivalent_task(samples)) for n in retrieve(texts, images, task)]
