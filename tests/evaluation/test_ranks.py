"""The blocked count against full-matrix loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.evaluation import ranks
from geoglot.evaluation.ranks import Pairs, both_ranks


def slow_rank(scores: np.ndarray, relevant: np.ndarray, *, against: bool) -> list[int]:
    """Sort every row; of equal scores the wrong (or the right) answer comes first; count what stands before a hit."""
    found = []
    for row, right in zip(scores, relevant, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], right[j] if against else not right[j]))
        hits = [place for place, j in enumerate(order) if right[j]]
        found.append(hits[0] if hits else len(row))
    return found


def _case(seed: int, texts: int, images: int, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors on a coarse grid, so that products are exact in float32 and ties are common; relevance by chance."""
    rng = np.random.default_rng(seed)
    a = rng.integers(-levels, levels + 1, (texts, 4)).astype(np.float32) / 8
    b = rng.integers(-levels, levels + 1, (images, 4)).astype(np.float32) / 8
    return a, b, rng.random((texts, images)) < rng.choice([0.02, 0.2, 0.6])


def _pairs(relevant: np.ndarray) -> Pairs:
    text, image = np.nonzero(relevant)
    shuffled = np.random.default_rng(0).permutation(len(text))
    return Pairs(text[shuffled], image[shuffled])


def _compare(texts: np.ndarray, images: np.ndarray, relevant: np.ndarray) -> None:
    by_text, by_image = both_ranks(texts, images, _pairs(relevant))
    scores = texts @ images.T
    assert by_text.worst.tolist() == slow_rank(scores, relevant, against=True)
    assert by_text.best.tolist() == slow_rank(scores, relevant, against=False)
    assert by_image.worst.tolist() == slow_rank(scores.T, relevant.T, against=True)
    assert by_image.best.tolist() == slow_rank(scores.T, relevant.T, against=False)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(0, 3), st.sampled_from([4, 8]))
def test_small_tiles_agree_with_sorting(seed: int, texts: int, images: int, levels: int, tile: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranks, "TILE", tile)
        _compare(*_case(seed, texts, images, levels))


def test_full_tiles_agree_with_the_full_matrix() -> None:
    """More than one tile both ways, edges that are no multiple of four, counts beyond a byte."""
    texts, images, relevant = _case(1, 1023, 1301, 2)
    both = both_ranks(texts, images, _pairs(relevant))
    scores = texts @ images.T
    for ranks_of, matrix, right in ((both[0], scores, relevant), (both[1], scores.T, relevant.T)):
        best = np.where(right, matrix, -np.inf).max(1, keepdims=True)
        none = ~right.any(1)
        worst = np.where(none, matrix.shape[1], ((matrix >= best) & ~right).sum(1))
        kind = np.where(none, matrix.shape[1], ((matrix > best) & ~right).sum(1))
        assert worst.max() > 255
        assert ranks_of.worst.tolist() == worst.tolist()
        assert ranks_of.best.tolist() == kind.tolist()


def test_everything_alike_is_a_miss_not_a_hit() -> None:
    same = np.ones((600, 1), np.float32)
    by_text, by_image = both_ranks(same, same, Pairs(np.arange(600), np.arange(600)))
    assert set(by_text.worst) == set(by_image.worst) == {599}
    assert set(by_text.best) == set(by_image.best) == {0}


def test_ties_within_rounding_are_ties() -> None:
    texts = np.array([[1.0]], np.float32)
    images = np.array([[0.5], [0.5 - 4e-7], [0.5 - 4e-6]], np.float32)
    by_text, _ = both_ranks(texts, images, Pairs(np.array([0]), np.array([0])))
    assert (by_text.worst[0], by_text.best[0]) == (1, 0)


def test_recall_lies_between_the_bounds_of_any_tie_breaking() -> None:
    """What a top-k of the reference code gives, whatever it does with ties, lies between best and worst."""
    texts, images, relevant = _case(3, 60, 40, 1)
    scores = texts @ images.T
    by_text, _ = both_ranks(texts, images, _pairs(relevant))
    for k in (1, 5, 10):
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        theirs = np.take_along_axis(relevant, top, 1).any(1)
        assert (by_text.worst < k).mean() <= theirs.mean() <= (by_text.best < k).mean()
        assert (by_text.worst < k)[by_text.worst == by_text.best].tolist() == theirs[
            by_text.worst == by_text.best
        ].tolist()


def test_without_ties_it_is_the_top_k_of_the_reference() -> None:
    rng = np.random.default_rng(5)
    texts, images = rng.standard_normal((50, 16), np.float32), rng.standard_normal((30, 16), np.float32)
    relevant = rng.random((50, 30)) < 0.1
    by_text, _ = both_ranks(texts, images, _pairs(relevant))
    order = np.argsort(-(texts @ images.T), axis=1)
    for k in (1, 5, 10):
        theirs = np.take_along_axis(relevant, order[:, :k], 1).any(1)
        assert theirs.tolist() == (by_text.worst < k).tolist()
