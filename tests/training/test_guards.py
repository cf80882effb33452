from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch.nn.functional import normalize  # noqa: E402

from geoglot.errors import CollapsedError, DivergedError, UsageError  # noqa: E402
from geoglot.training.guards import Watch, mean_cosine  # noqa: E402
from geoglot.training.loop_config import Loop  # noqa: E402
from geoglot.training.schedules import rate_at  # noqa: E402
from geoglot.training.weights import count, freeze, make_optimizer, refuse_destructive_rate  # noqa: E402


def watch(stuck_after: int = 0) -> Watch:
    return Watch(warmup=0, stuck_after=stuck_after)


def noisy(step: int) -> float:
    return 2.0 + 0.2 * math.sin(step * 1.7)


def test_a_healthy_run_passes() -> None:
    seen = watch(stuck_after=50)
    for step in range(300):
        seen.loss(step, noisy(step) * 0.995**step, noisy(step), math.log(64))
        seen.spread(step, 0.5, 0.6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_stops_at_once(value: float) -> None:
    with pytest.raises(DivergedError, match=r"step 1"):
        watch().loss(0, value, value, None)


def test_a_jump_that_stays_stops_and_a_single_spike_does_not() -> None:
    seen = watch()
    for step in range(50):
        seen.loss(step, noisy(step) if step != 30 else 9.0, 2.0, None)
    for step in range(50, 54):
        seen.loss(step, 9.0, 9.0, None)
    with pytest.raises(DivergedError, match="jumped from 2"):
        seen.loss(54, 9.0, 9.0, None)


def test_a_loss_that_never_beats_guessing_stops() -> None:
    seen, chance = watch(stuck_after=40), math.log(256)
    for step in range(39):
        seen.loss(step, chance, chance, chance)
    with pytest.raises(CollapsedError, match="guessing"):
        seen.loss(39, chance, chance, chance)
    better = watch(stuck_after=40)
    for step in range(100):
        better.loss(step, chance, 0.9 * chance if step == 20 else chance, chance)


def test_random_towers_get_time_to_tell_things_apart() -> None:
    seen = watch(stuck_after=50)
    for step in range(49):
        seen.spread(step, 0.999, 0.999)
    with pytest.raises(CollapsedError):
        seen.spread(49, 0.999, 0.999)


def test_alike_embeddings_stop() -> None:
    seen = watch()
    for step in range(4):
        seen.spread(step, 0.2, 0.999)
    seen.spread(4, 0.2, 0.5)
    for step in range(4):
        seen.spread(step, 0.2, 0.999)
    with pytest.raises(CollapsedError, match="all texts"):
        seen.spread(9, 0.2, 0.999)


def test_state_travels() -> None:
    seen, other = watch(), watch()
    for step in range(30):
        seen.loss(step, noisy(step), 1.0, 5.0)
    for step in range(4):
        seen.loss(30 + step, 9.0, 9.0, 5.0)
    other.restore(seen.state())
    with pytest.raises(DivergedError):
        other.loss(34, 9.0, 9.0, 5.0)


def test_mean_cosine_against_the_matrix() -> None:
    rows = normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    matrix = rows @ rows.T
    assert mean_cosine(rows).item() == pytest.approx(((matrix.sum() - 7) / 42).item(), abs=1e-6)


def test_schedules() -> None:
    assert [rate_at(s, 10, 4) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert rate_at(7, 10, 4) == pytest.approx(0.5)
    assert rate_at(10, 10, 4, floor=0.1) == pytest.approx(0.1)
    assert rate_at(7, 10, 4, "linear", floor=0.2) == pytest.approx(0.6)
    assert rate_at(9, 10, 4, "constant", floor=0.2) == 1.0
    assert rate_at(99, 10, 0) == pytest.approx(0.0)


def test_the_limit_follows_the_size_of_the_weights() -> None:
    model = torch.nn.Linear(400, 100)
    torch.nn.init.normal_(model.weight, std=0.02)
    for rate, ok in ((1e-5, True), (3e-5, True), (1e-4, False)):
        loop = Loop(batch=2, steps=1, learning_rate=rate)
        if ok:
            refuse_destructive_rate(model, ("*",), loop)
        else:
            with pytest.raises(UsageError, match="4e-05"):
                refuse_destructive_rate(model, ("*",), loop)
        refuse_destructive_rate(model, (), loop)
    model.weight.data.mul_(10)
    refuse_destructive_rate(model, ("*",), Loop(batch=2, steps=1, learning_rate=1e-4))


def test_only_matrices_decay_and_frozen_weights_are_counted() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    decayed, plain = make_optimizer(model, Loop(batch=2, steps=1, weight_decay=0.3)).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    freeze(model, ("0.*",))
    assert count(model) == {"all": 24, "trained": 8}
    with pytest.raises(UsageError, match="nothing to train"):
        freeze(model, ("*",))
