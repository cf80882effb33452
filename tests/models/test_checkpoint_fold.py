"""Long-CLIP's position tables against tables worked out by hand."""

from __future__ import annotations

import pytest
import torch

from geoglot.errors import ModelFileError, UsageError
from geoglot.models.checkpoints.fold import fold_positions, stretch_positions


def test_stretching_by_hand() -> None:
    """A table whose row n is [n * n, -n]: between n and n + 1 the first column rises by 2 n + 1."""
    table = torch.tensor([[n * n, -n] for n in range(77)], dtype=torch.float32)
    long = stretch_positions(table)
    assert long.shape == (248, 2)
    by_hand = {
        0: (0, 0),
        19: (361, -19),
        20: (400, -20),  # the last kept row is 19; row 20 starts the stretch at position 20
        21: (410.25, -20.25),  # 400 + 41 / 4
        22: (420.5, -20.5),
        23: (430.75, -20.75),
        24: (441, -21),
        243: (5738.25, -75.75),  # 5625 + 151 * 3 / 4
        244: (5776, -76),  # the last row, at 20 + 4 * 56
        245: (5813.75, -76.25),  # beyond: on along the line through rows 75 and 76, which rises by 151
        247: (5889.25, -76.75),
    }
    for row, expected in by_hand.items():
        assert long[row].tolist() == pytest.approx(expected), row


def test_stretching_against_a_loop() -> None:
    table = torch.randn(77, 5, generator=torch.Generator().manual_seed(1))
    rows = [table[n] for n in range(20)]
    for n in range(20, 77):
        step = table[n + 1] - table[n] if n < 76 else table[76] - table[75]
        rows += [table[n] + step * quarter / 4 for quarter in range(4)]
    torch.testing.assert_close(stretch_positions(table), torch.stack(rows))


def test_stretching_keeps_precision_and_refuses_other_tables() -> None:
    assert stretch_positions(torch.zeros(77, 2, dtype=torch.float16)).dtype == torch.float16
    with pytest.raises(UsageError, match=r"\(248, 2\)"):
        stretch_positions(torch.zeros(248, 2))


def _two_tables() -> dict[str, torch.Tensor]:
    mask = (torch.arange(248) < 20).float()[:, None]
    return {
        "positional_embedding": torch.full((248, 3), 1.0),
        "positional_embedding_res": torch.full((248, 3), 2.0),
        "mask1": mask,
        "mask2": 1 - mask,
        "logit_scale": torch.tensor(1.0),
    }


def test_folding_by_hand() -> None:
    folded = fold_positions(_two_tables())
    assert set(folded) == {"positional_embedding", "logit_scale"}
    assert folded["positional_embedding"][:, 0].tolist() == [1.0] * 20 + [2.0] * 228
    without_masks = {name: t for name, t in _two_tables().items() if not name.startswith("mask")}
    assert torch.equal(fold_positions(without_masks)["positional_embedding"], folded["positional_embedding"])


def test_one_table_stays_as_it_is() -> None:
    for rows in (77, 248):
        table = torch.randn(rows, 3)
        assert fold_positions({"positional_embedding": table})["positional_embedding"] is table


@pytest.mark.parametrize(
    "change",
    [
        {"positional_embedding": torch.zeros(77, 3)},  # a short table beside a long one
        {"positional_embedding_res": torch.zeros(248, 4)},
        {"positional_embedding": torch.zeros(100, 3), "positional_embedding_res": torch.zeros(100, 3)},
        {"mask1": torch.ones(248, 1)},
        {"mask2": torch.zeros(77, 1)},
    ],
)
def test_tables_that_do_not_fit_are_refused(change: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ModelFileError):
        fold_positions(_two_tables() | change)


def test_a_missing_first_table_is_refused() -> None:
    tensors = _two_tables()
    del tensors["positional_embedding"]
    with pytest.raises(ModelFileError, match="None"):
        fold_positions(tensors)
