"""Pools of training chips held in memory: pixels, token rows of every text that fits, and a class number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.models.tokenizers.concepts import PAD, ConceptTokenizer


@dataclass(frozen=True, slots=True)
class Pool:
    """Chips of one source.

    Attributes:
        name: For the log.
        pixels: uint8 [N, S, S, 3].
        captions: Token rows, int64 [total, T].
        starts: int64 [N + 1]; captions of chip i are rows starts[i]:starts[i + 1].
        labels: int64 [N], index into the recipe's class list; -1 where unknown.
        label_texts: Class index -> token rows [*, T] that name the class and nothing else.
    """

    name: str
    pixels: NDArray[np.uint8]
    captions: NDArray[np.int64]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    label_texts: dict[int, NDArray[np.int64]]

    def draw(
        self, count: int, label_share: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Pick chips without repetition, and one text for each.

        Returns:
            Chip indices [count], token rows [count, T], and the class each text merely names [count] (-1: a caption).
        """
        chips = rng.choice(len(self.pixels), count, replace=False)
        rows = np.zeros((count, self.captions.shape[1]), np.int64)
        named = np.full(count, -1, np.int64)
        for at, chip in enumerate(chips):
            start, stop = self.starts[chip], self.starts[chip + 1]
            label = int(self.labels[chip])
            if label in self.label_texts and (start == stop or rng.random() < label_share):
                names = self.label_texts[label]
                rows[at], named[at] = names[rng.integers(len(names))], label
            else:
                rows[at] = self.captions[rng.integers(start, stop)]
        return chips, rows, named


def make_pool(
    name: str,
    pixels: NDArray[np.uint8],
    captions: Sequence[Sequence[str]],
    labels: Sequence[int],
    label_names: dict[int, Sequence[str]],
    tokenizer: ConceptTokenizer,
) -> Pool:
    """Tokenise a source once. Texts of which nothing is known are left out; chips left without any text are dropped."""
    rows: list[tuple[int, ...]] = []
    starts, keep = [0], []
    texts = {label: _rows(names, tokenizer) for label, names in label_names.items()}
    for index, sentences in enumerate(captions):
        known = [tokens for s in sentences if (tokens := tokenizer.read(s, "en").tokens)]
        if not known and labels[index] not in texts:
            continue
        keep.append(index)
        rows += known
        starts.append(len(rows))
    padded = _pad(rows, tokenizer.context)
    return Pool(name, pixels[keep], padded, np.array(starts), np.array(labels, np.int64)[keep], texts)


def token_uses(pools: Iterable[Pool], vocabulary: int) -> NDArray[np.int64]:
    """How often training can meet each token, [vocabulary]: once a caption, and once a chip for class names."""
    uses = np.zeros(vocabulary, np.int64)
    for pool in pools:
        np.add.at(uses, pool.captions.ravel(), 1)
        for label, rows in pool.label_texts.items():
            np.add.at(uses, rows.ravel(), int((pool.labels == label).sum()))
    return uses


def common_words(pool: Pool, share: float, vocabulary: int) -> NDArray[np.int64]:
    """Tokens that the captions of at least this share of the classes use: they tell no class from another."""
    classes = sorted(set(pool.labels[pool.labels >= 0].tolist()))
    met = np.zeros(vocabulary, np.int64)
    for label in classes:
        own = np.flatnonzero(pool.labels == label)
        met[np.unique(np.concatenate([pool.captions[pool.starts[i] : pool.starts[i + 1]].ravel() for i in own]))] += 1
    met[PAD] = 0
    found: NDArray[np.int64] = np.flatnonzero(met >= share * len(classes))
    return found


def phrase(
    names: NDArray[np.int64], common: NDArray[np.int64], context: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """One to three names of a class [*, T], none to four words that go with any class, in any order -> [T]."""
    chosen = names[rng.permutation(len(names))[: rng.integers(1, 4)]].ravel()
    words = rng.choice(common, rng.integers(0, 5)) if len(common) else common
    tokens = rng.permutation(np.concatenate([chosen[chosen != PAD], words]))[:context]
    row = np.zeros(context, np.int64)
    row[: len(tokens)] = tokens
    return row


def _rows(texts: Sequence[str], tokenizer: ConceptTokenizer) -> NDArray[np.int64]:
    return tokenizer(list(texts))


def _pad(rows: Sequence[tuple[int, ...]], context: int) -> NDArray[np.int64]:
    out = np.zeros((len(rows), context), np.int64)
    for line, tokens in zip(out, rows, strict=True):
        line[: len(tokens)] = tokens[:context]
    return out


def vary_tokens(rows: NDArray[np.int64], concepts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Make English token rows look like readings of other languages.

    Other languages yield concept tokens only, in their own order: so half of the rows lose their plain words (if a
    concept is left), a third are shuffled, and every token is dropped now and then (never the last one).

    Args:
        rows: [B, T], padded with 0; not changed.
        concepts: Ids 1..concepts are concepts.
        rng: Source of chance.
    """
    out = np.zeros_like(rows)
    for line, row in zip(out, rows, strict=True):
        tokens = row[row != PAD]
        if rng.random() < 0.5 and (tokens <= concepts).any():
            tokens = tokens[tokens <= concepts]
        kept = tokens[rng.random(len(tokens)) >= 0.1]
        tokens = kept if len(kept) else tokens
        if rng.random() < 0.33:
            tokens = rng.permutation(tokens)
        line[: len(tokens)] = tokens
    return out
