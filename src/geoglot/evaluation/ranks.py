"""At which rank every query finds its first right answer, for millions of pairs, in bounded memory and without sorting.

Recall at k needs no order, only how many wrong answers stand before the best right one. So one blocked matrix product
serves both directions: a block of scores is compared with its rows' best right score (texts asking for images) and with
its columns' (images asking for texts), and the wrong ones are counted.

**Ties.** Scores closer than `TIE` count as equal; a wrong answer that ties with the best right one stands before it. So
no model gains from answering everything alike, and the result does not hang on an order that nobody defined. The
reference protocols take the top k of a sort (`ret/rs5m`: torch.topk, `ret/skyscript-dedup`: a sort), which leaves ties
to the library: without ties all three agree exactly, with ties theirs lies between our `worst` and `best` ranks. RSICD
repeats captions word by word over images, so ties do happen there, from image to text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Index = NDArray[np.int64]

TIE = 1e-6
"""Ten times what float32 rounding moves a product of unit vectors (about 1e-7 at 1,024 dimensions)."""

TILE = 4 * 255
"""Texts and images of one block of scores: 4 MiB, which stays in a core's cache while it is compared four times."""

_BYTE = 255  # column counts are summed in bytes


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which texts are right for which images: `text[p]` with `image[p]`, each [P], each pair once."""

    text: Index
    image: Index


@dataclass(frozen=True, slots=True)
class Ranks:
    """Wrong answers before the best right one, per query; 0 is a hit at 1. A query without a right answer has all.

    Attributes:
        worst: Ties against us; what is reported.
        best: Ties for us.
    """

    worst: Index
    best: Index


def both_ranks(texts: Vectors, images: Vectors, pairs: Pairs) -> tuple[Ranks, Ranks]:
    """Ranks of the texts' queries [M] and of the images' [N].

    Cost: one product of M x N x D, four comparisons of every score; about 16 MiB beside the vectors, and a few numbers
    a query.

    Args:
        texts: [M, D], unit rows (zero rows score 0).
        images: [N, D], unit rows.
        pairs: What is right.
    """
    score = _pair_scores(texts, images, pairs)
    best = _highest(score, pairs.text, len(texts)), _highest(score, pairs.image, len(images))
    counts = np.zeros((2, len(texts)), np.int64), np.zeros((2, len(images)), np.int64)
    right = _by_tile(pairs, len(images))
    for y in range(0, len(texts), TILE):
        rows = slice(y, min(y + TILE, len(texts)))
        for x in range(0, len(images), TILE):
            columns = slice(x, min(x + TILE, len(images)))
            scores = texts[rows] @ images[columns].T
            text, image = right.get((y, x), _NONE)
            scores[text - y, image - x] = -np.inf  # right answers are not wrong ones
            for kind, slack in enumerate((-TIE, TIE)):
                _count_rows(scores >= best[0][rows, None] + np.float32(slack), counts[0][kind, rows])
                _count_columns(scores >= best[1][columns] + np.float32(slack), counts[1][kind, columns])
    return _ranks(counts[0], best[0], len(images)), _ranks(counts[1], best[1], len(texts))


_NONE = np.zeros(0, np.int64), np.zeros(0, np.int64)


def _by_tile(pairs: Pairs, images: int) -> dict[tuple[int, int], tuple[Index, Index]]:
    """(first text, first image) of a tile -> its pairs."""
    wide = -(-images // TILE)
    tile = pairs.text // TILE * wide + pairs.image // TILE
    order = np.argsort(tile, kind="stable")
    found, starts = np.unique(tile[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(order) else []
    return {
        (int(number) // wide * TILE, int(number) % wide * TILE): (pairs.text[part], pairs.image[part])
        for number, part in zip(found, parts, strict=True)
    }


def _count_rows(above: NDArray[np.bool_], out: Index) -> None:
    """Four bytes at a time: TILE is 4 x 255, so that no byte of a sum of words overflows."""
    if above.shape[1] % 4:
        out += np.count_nonzero(above, axis=1)
    else:
        words = np.add.reduce(above.view(np.uint32), axis=1, dtype=np.uint32)
        out += words[:, None].view(np.uint8).sum(1, dtype=np.int64)


def _count_columns(above: NDArray[np.bool_], out: Index) -> None:
    """Adds bytes, many at a time; no more rows at once than a byte can count."""
    for at in range(0, len(above), _BYTE):
        out += np.add.reduce(above[at : at + _BYTE].view(np.uint8), axis=0, dtype=np.uint8)


def _pair_scores(texts: Vectors, images: Vectors, pairs: Pairs) -> Vectors:
    """Scores [P] of the right pairs, in blocks."""
    out = np.empty(len(pairs.text), np.float32)
    for at in range(0, len(out), 4096):
        part = slice(at, at + 4096)
        out[part] = np.einsum("pd,pd->p", texts[pairs.text[part]], images[pairs.image[part]])
    return out


def _highest(score: Vectors, owner: Index, count: int) -> Vectors:
    """The best score of each owner [count]; -inf where there is none."""
    best = np.full(count, -np.inf, np.float32)
    np.maximum.at(best, owner, score)
    return best


def _ranks(counts: Index, best: Vectors, others: int) -> Ranks:
    alone = np.isneginf(best)
    worst, kindest = (np.where(alone, others, row) for row in counts)
    return Ranks(worst, kindest)
