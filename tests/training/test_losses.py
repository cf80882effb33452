from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from geoglot.training.losses import (  # noqa: E402
    cosine_schedule,
    label_positives,
    maybe_positives,
    multi_positive_nce,
    same_text,
)


def _unit(rows: int, dim: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(rows)), dim=1)


def test_identity_positives_are_clip() -> None:
    images, texts, scale = _unit(7, 5), _unit(7, 5).roll(1, 0), torch.tensor(9.0)
    logits = scale * images @ texts.T
    target = torch.arange(7)
    cross = torch.nn.functional.cross_entropy
    expected = (cross(logits, target) + cross(logits.T, target)) / 2
    found = multi_positive_nce(images, texts, scale, torch.eye(7, dtype=torch.bool))
    assert torch.allclose(found, expected, atol=1e-6)


def test_several_positives_against_a_loop() -> None:
    images, texts, scale = _unit(5, 4), _unit(6, 4)[:5], torch.tensor(3.0)
    positives = torch.eye(5, dtype=torch.bool)
    positives[0, 3] = positives[3, 0] = positives[2, 4] = True

    def one_way(scores: list[list[float]], fits: list[list[bool]]) -> float:
        total = 0.0
        for row, right in zip(scores, fits, strict=True):
            mass = math.log(sum(math.exp(s) for s in row))
            total += sum(mass - s for s, ok in zip(row, right, strict=True) if ok) / sum(right)
        return total / len(scores)

    scores = (scale * images @ texts.T).tolist()
    columns = [list(c) for c in zip(*scores, strict=True)]
    expected = (one_way(scores, positives.tolist()) + one_way(columns, positives.T.tolist())) / 2
    assert multi_positive_nce(images, texts, scale, positives).item() == pytest.approx(expected, rel=1e-5)


def test_positives() -> None:
    tokens = torch.tensor([[1, 2, 0], [1, 2, 0], [2, 1, 0]])
    assert same_text(tokens).tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    kin = torch.eye(6, dtype=torch.bool)
    kin[4, 5] = kin[5, 4] = True
    fits = label_positives(torch.tensor([4, -1, 5]), torch.tensor([4, 3, -1]), kin)
    assert fits.tolist() == [[True, False, True], [False, False, False], [False, False, False]]
    labels, sources = torch.tensor([4, 4, 5, -1]), torch.tensor([0, 0, 1, 1])
    assert maybe_positives(labels, sources, kin).tolist() == [
        [False, False, True, False],
        [False, False, True, False],
        [True, True, False, False],
        [False] * 4,
    ]


def test_unsure_pairs_count_neither_way() -> None:
    images, texts, scale = _unit(4, 6), _unit(4, 6).roll(1, 1), torch.tensor(5.0)
    positives, unsure = torch.eye(4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    unsure[0, 2] = True
    logits = scale * images @ texts.T
    rows = [torch.logsumexp(logits[i][[j for j in range(4) if not unsure[i, j]]], 0) - logits[i, i] for i in range(4)]
    columns = [
        torch.logsumexp(logits[:, j][[i for i in range(4) if not unsure[i, j]]], 0) - logits[j, j] for j in range(4)
    ]
    expected = (torch.stack(rows).mean() + torch.stack(columns).mean()) / 2
    assert torch.allclose(multi_positive_nce(images, texts, scale, positives, unsure), expected, atol=1e-5)


def test_schedule() -> None:
    assert cosine_schedule(0, 100, 10) == pytest.approx(0.1)
    assert cosine_schedule(10, 100, 10) == pytest.approx(1.0)
    assert cosine_schedule(55, 100, 10) == pytest.approx(0.5)
    assert cosine_schedule(100, 100, 10) == pytest.approx(0.0, abs=1e-6)
