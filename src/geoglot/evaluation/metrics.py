"""Metrics over score matrices, in plain NumPy. Shapes: N images, M texts, K classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]


def recall_at(scores: Scores, relevant: NDArray[np.bool_], k: int) -> float:
    """Share of rows with at least one relevant column among the k best; ties go against us.

    A column counts as among the k best only if fewer than k irrelevant or other columns score at least as high.

    Args:
        scores: [rows, columns].
        relevant: bool, same shape; a row without any relevant column counts as a miss.
        k: Cut-off, >= 1.
    """
    best = np.where(relevant, scores, -np.inf).max(1, keepdims=True)
    above = ((scores >= best) & ~relevant).sum(1)
    return float(((above < k) & relevant.any(1)).mean())


def retrieval(text_image: Scores, owner: NDArray[np.int64]) -> dict[str, float]:
    """The six recalls and their mean, protocol `ret/rs5m`: every caption is a query, only its own image counts.

    Args:
        text_image: [M, N] cosines.
        owner: [M], the image each text belongs to.

    Returns:
        Percent: t2i_R@1/5/10, i2t_R@1/5/10, mR (their mean; Yuan et al. 2022, arXiv 2204.09868).
    """
    relevant = owner[:, None] == np.arange(text_image.shape[1])[None, :]
    out = {f"t2i_R@{k}": 100 * recall_at(text_image, relevant, k) for k in (1, 5, 10)}
    out |= {f"i2t_R@{k}": 100 * recall_at(text_image.T, relevant.T, k) for k in (1, 5, 10)}
    return out | {"mR": float(np.mean(list(out.values())))}


def retrieval_equivalent(text_image: Scores, owner: NDArray[np.int64], captions: list[str]) -> dict[str, float]:
    """As `retrieval`, but an image is right for every query whose wording it carries (case and full stop aside)."""
    keys = [" ".join(caption.lower().replace(".", " ").split()) for caption in captions]
    number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    carries = np.zeros((len(number), text_image.shape[1]), bool)
    for key, image in zip(keys, owner, strict=True):
        carries[number[key], image] = True
    relevant = carries[[number[key] for key in keys]]
    out = {f"t2i_R@{k}": 100 * recall_at(text_image, relevant, k) for k in (1, 5, 10)}
    out |= {f"i2t_R@{k}": 100 * recall_at(text_image.T, relevant.T, k) for k in (1, 5, 10)}
    return out | {"mR": float(np.mean(list(out.values())))}


def top1(image_class: Scores, labels: NDArray[np.int64]) -> float:
    """Percent of images [N, K] whose best class is theirs."""
    return 100 * float((image_class.argmax(1) == labels).mean())


def precision_at(scores: NDArray[np.float32], relevant: NDArray[np.bool_], k: int) -> float:
    """Percent of the k best of one query [N] that are relevant [N]; fewer than k columns count as they are."""
    best = np.argsort(-scores, kind="stable")[:k]
    return 100 * float(relevant[best].mean())


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], count: int, *, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a statistic over resampled indices (Efron 1979).

    Args:
        statistic: Takes indices [count] with repetition, gives a number.
        count: How many items there are.
        rounds: Resamplings.
        seed: Of the resampling.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, count, count)) for _ in range(rounds)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
