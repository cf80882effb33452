from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from geoglot.errors import UsageError  # noqa: E402
from geoglot.training.recipes.gaia.interpolation import Point, blend, choose, sweep  # noqa: E402


def weights(value: float) -> dict[str, torch.Tensor]:
    half = torch.full((3,), value, dtype=torch.bfloat16)
    return {"matrix": torch.full((2, 2), value), "half": half, "steps": torch.tensor(int(value))}


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_blend_by_hand(alpha: float) -> None:
    out = blend(weights(2.0), weights(6.0), alpha)
    expected = (1 - alpha) * 2 + alpha * 6
    assert torch.equal(out["matrix"], torch.full((2, 2), expected))
    assert out["half"].dtype == torch.bfloat16
    assert float(out["half"][0]) == expected
    assert int(out["steps"]) == 6


def test_ends_are_exact() -> None:
    torch.manual_seed(0)
    before, after = {"w": torch.randn(50)}, {"w": 1e4 * torch.randn(50)}
    assert torch.equal(blend(before, after, 0.0)["w"], before["w"])
    assert torch.equal(blend(before, after, 1.0)["w"], after["w"])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="outside 0 to 1"):
        blend(weights(1), weights(2), 1.5)
    with pytest.raises(UsageError, match="steps is on one side only") as caught:
        blend({"matrix": torch.zeros(2)}, {"matrix": torch.zeros(2), "steps": torch.zeros(1)}, 0.5)
    assert "Merge" in caught.value.hint
    with pytest.raises(UsageError, match="shape"):
        blend({"w": torch.zeros(2)}, {"w": torch.zeros(3)}, 0.5)


def test_sweep_measures_each_blend() -> None:
    model = nn.Linear(1, 1, bias=False)
    before, after = {"weight": torch.tensor([[0.0]])}, {"weight": torch.tensor([[4.0]])}

    def measure() -> tuple[float, float]:
        value = model.weight.item()
        return 10 - value, 6 + value**0.5

    points = sweep(model, before, after, measure, (0.0, 0.25, 1.0))
    assert points == [Point(0.0, 10.0, 6.0), Point(0.25, 9.0, 7.0), Point(1.0, 6.0, 8.0)]
    # by hand: shares of the best are 1 + 0.75, 0.9 + 0.875, 0.6 + 1
    assert choose(points).alpha == 0.25


def test_choose_takes_the_least_alpha_of_equals_and_refuses_nothing() -> None:
    assert choose([Point(0.3, 1.0, 1.0), Point(0.1, 1.0, 1.0)]).alpha == 0.1
    with pytest.raises(UsageError, match="no alpha"):
        choose([])
    with pytest.raises(UsageError, match="cannot weigh"):
        choose([Point(0.0, 0.0, 1.0)])
