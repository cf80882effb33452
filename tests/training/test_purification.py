from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from measures.shuffling import shuffle_captions  # noqa: E402
from measures.words import WordTokenizer  # noqa: E402

from geoglot.errors import UsageError  # noqa: E402
from geoglot.training.recipes.purify.scores import keep_best, pair_scores  # noqa: E402


def test_pair_scores_are_mean_cosines() -> None:
    images = np.eye(3, dtype=np.float32)
    texts = [np.array([[1, 0, 0], [0, 1, 0]]), np.array([[0, 0.6, 0.8]]), np.array([[0, 1, 0]])]
    assert pair_scores(images, [t.astype(np.float32) for t in texts]) == pytest.approx([0.5, 0.6, 0.0])


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.floats(0.01, 1))
def test_keep_best_keeps_the_best_share(values: list[int], share: float) -> None:
    scores = np.array(values, np.float32)
    kept = keep_best(scores, share)
    count = min(len(values), int(np.ceil(share * len(values) - 1e-9)))
    slow = sorted(range(len(values)), key=lambda at: (-values[at], at))[:count]
    assert sorted(np.flatnonzero(kept)) == sorted(slow)


def test_keep_best_refuses_nonsense() -> None:
    with pytest.raises(UsageError, match="share"):
        keep_best(np.zeros(3, np.float32), 0.0)
    with pytest.raises(UsageError, match="not finite"):
        keep_best(np.array([1.0, np.nan], np.float32), 0.5)
    assert keep_best(np.arange(10, dtype=np.float32), 0.7).sum() == 7  # 0.7 * 10 is a little more than 7 in floats


@settings(deadline=None)
@given(st.integers(0, 40), st.floats(0, 1), st.integers(0, 5))
def test_shuffled_captions_belong_to_other_images(count: int, share: float, seed: int) -> None:
    captions = [(f"caption {at}",) for at in range(count)]
    out, wrong = shuffle_captions(captions, share, seed)
    assert sorted(out) == sorted(captions)
    assert [a != b for a, b in zip(out, captions, strict=True)] == list(wrong)
    assert wrong.sum() in (round(share * count), 0)


def test_word_tokenizer_by_hand() -> None:
    words = WordTokenizer.of(["A lake, a road.", "a Road"], context=6)
    assert words.words == ("a", "road", "lake")
    assert words.vocabulary == 7
    rows = words.rows(["a lake", "a pier by the long road", "lake road"])
    assert rows.ids.tolist() == [[1, 3, 5, 6, 0, 0], [1, 3, 2, 2, 2, 6], [1, 5, 4, 6, 0, 0]]
    assert rows.lengths.tolist() == [4, 8, 4]
    assert words.truncated(["a lake", "a pier by the long road"]).tolist() == [False, True]
    assert WordTokenizer.of(["b b a"], context=4, least=2).words == ("b",)
