from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.errors import UsageError
from geoglot.models.zoo.compare import agreement, spearman


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=12))
def test_rank_correlation_against_a_slow_twin(pairs: list[tuple[int, int]]) -> None:
    def ranks(values: list[int]) -> list[float]:
        return [sum(o < v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values]

    x, y = [a for a, _ in pairs], [b for _, b in pairs]
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(np.array(x), np.array(y)) == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1])
    else:
        assert spearman(np.array(x), np.array(y)) == float(len(set(x)) == len(set(y)))


def test_agreement() -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[0.9, 0.3, 0.1], [0.1, 0.2, 0.8]], np.float32)
    whole = agreement((images, texts), (images, texts))
    assert (whole.order, whole.first) == (pytest.approx(1), 1)
    assert whole.image_cosine == (1, 1)
    turned = agreement((images, texts), (images[[1, 0, 2]], texts))
    assert turned.first == 0.5
    assert turned.image_cosine == (pytest.approx(1 / 3), 0)
    wide = agreement((images, texts), (np.eye(3, 5, dtype=np.float32), np.pad(texts, ((0, 0), (0, 2)))))
    assert wide.image_cosine is None
    assert wide.order == pytest.approx(1)
    for few in ((images[:1], texts), (images, texts[:0])):
        with pytest.raises(UsageError, match="comparing needs"):
            agreement(few, few)
    with pytest.raises(UsageError):
        agreement((images, texts), (images[:2], texts))
