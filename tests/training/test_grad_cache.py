from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tiny_towers import alone, grads, objective, random_batch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from geoglot.errors import UsageError  # noqa: E402
from geoglot.training.grad_cache import backward, refuse_batch_norm  # noqa: E402
from geoglot.training.objective import Batch, Contrastive, LossName, text_ids  # noqa: E402
from geoglot.training.weights import checkpoint_blocks  # noqa: E402

LOSSES: tuple[LossName, ...] = ("infonce", "multi_positive", "sigmoid")


def close(left: dict[str, Tensor], right: dict[str, Tensor], atol: float = 1e-6) -> bool:
    return left.keys() == right.keys() and all(torch.allclose(left[k], right[k], atol=atol, rtol=1e-4) for k in left)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("chunk", [1, 4, 5, 13])
def test_chunks_give_the_gradient_of_the_whole_batch(kind: LossName, chunk: int) -> None:
    captions = 1 if kind == "infonce" else 2
    batch = random_batch(13, captions)
    whole, parts = objective(kind), objective(kind)
    first, out = backward(whole, batch, alone())
    second, again = backward(parts, batch, alone(), chunk=chunk)
    assert first["contrast"] == pytest.approx(second["contrast"].item(), abs=1e-6)
    assert torch.allclose(out["images"], again["images"], atol=1e-6)
    assert close(grads(whole), grads(parts))
    assert "towers.logit_scale" in grads(parts)


@pytest.mark.parametrize("kind", LOSSES)
def test_one_step_of_the_optimiser_moves_the_weights_alike(kind: LossName) -> None:
    batch, weights = random_batch(12), []
    for chunk in (0, 5):
        model = objective(kind)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            backward(model, batch, alone(), chunk=chunk)
            optimizer.step()
        weights.append(dict(model.named_parameters()))
    assert all(torch.allclose(weights[0][k], weights[1][k], atol=1e-5) for k in weights[0])
    assert not torch.allclose(weights[0]["towers.text.0.weight"], objective(kind).towers.text[0].weight, atol=1e-3)


def big_step(model: Contrastive, batch: Batch, chunk: int) -> None:
    """The slow twin: the same forward passes, all graphs kept."""
    parts = [model(batch.part(slice(at, at + chunk))) for at in range(0, len(batch), chunk)]
    outputs = {k: parts[0][k] if parts[0][k].ndim == 0 else torch.cat([p[k] for p in parts]) for k in parts[0]}
    sum(model.loss(outputs, batch, alone()).values()).backward()


def test_dropout_is_the_same_in_both_passes() -> None:
    batch, chunk = random_batch(12), 5
    found, expected, other = (objective("infonce", dropout=0.4) for _ in range(3))
    torch.manual_seed(5)
    backward(found, batch, alone(), chunk=chunk)
    after = torch.rand(3)
    torch.manual_seed(5)
    big_step(expected, batch, chunk)
    assert torch.equal(after, torch.rand(3)), "what comes next must not depend on how the step was done"
    torch.manual_seed(6)
    big_step(other, batch, chunk)
    assert close(grads(found), grads(expected))
    assert not close(grads(found), grads(other)), "dropout must matter, or this test shows nothing"


def test_augmentation_inside_the_towers_is_the_same_in_both_passes() -> None:
    class Noisy(Contrastive):
        def pixels(self, images: Tensor) -> Tensor:
            x = super().pixels(images)
            return x + torch.randn_like(x)

    batch = random_batch(9)
    found, expected = (Noisy(objective("infonce").towers, "infonce") for _ in range(2))
    torch.manual_seed(5)
    backward(found, batch, alone(), chunk=4)
    torch.manual_seed(5)
    big_step(expected, batch, 4)
    assert close(grads(found), grads(expected))


def test_accumulated_batches_are_the_mean_of_their_gradients() -> None:
    batches = [random_batch(6, seed=s) for s in (1, 2, 3)]
    together = objective("infonce")
    for batch in batches:
        backward(together, batch, alone(), chunk=4, scale=lambda loss: loss / 3)
    singles = []
    for batch in batches:
        model = objective("infonce")
        backward(model, batch, alone())
        singles.append(grads(model))
    mean = {k: torch.stack([g[k] for g in singles]).mean(0) for k in singles[0]}
    assert close(grads(together), mean)


def test_more_losses_plug_in() -> None:
    class Pulled(Contrastive):
        """Also pulls every image towards the mean text: a loss on rows of the whole batch."""

        def loss(self, outputs, batch, world):  # type: ignore[no-untyped-def]
            pull = (outputs["images"] - outputs["texts"].mean(0)).square().sum(1).mean()
            return super().loss(outputs, batch, world) | {"pull": 0.3 * pull}

    batch = random_batch(10)
    whole, parts = (Pulled(objective("infonce").towers) for _ in range(2))
    without = objective("infonce")
    terms, _ = backward(whole, batch, alone())
    backward(parts, batch, alone(), chunk=3)
    backward(without, batch, alone(), chunk=3)
    assert set(terms) == {"contrast", "pull"}
    assert close(grads(whole), grads(parts))
    assert not close(grads(whole), grads(without))


def test_a_frozen_tower_needs_no_gradient() -> None:
    batch, model, whole = random_batch(8), objective("infonce"), objective("infonce")
    for one in (model, whole):
        one.towers.text.requires_grad_(False)
        one.towers.words.requires_grad_(False)
    backward(model, batch, alone(), chunk=3)
    backward(whole, batch, alone())
    assert close(grads(model), grads(whole))
    assert not any(name.startswith("towers.text") for name in grads(model))


def test_batch_norm_is_refused_with_chunks() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    refuse_batch_norm(model, 0)
    with pytest.raises(UsageError, match="normalises by batch"):
        refuse_batch_norm(model, 4)


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Dropout(0.3)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def test_recomputed_activations_change_nothing_but_memory() -> None:
    x, kept = torch.randn(5, 6), []
    for recompute in (False, True):
        model = Stack()
        if recompute:
            assert checkpoint_blocks(model) == 3
        saved = 0

        def note(t: Tensor) -> Tensor:
            nonlocal saved
            saved += t.numel()
            return t

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            out = model(x)
        out.sum().backward()
        kept.append((saved, grads(model)))
    assert close(kept[0][1], kept[1][1])
    assert kept[1][0] < kept[0][0] / 2
    with pytest.raises(UsageError, match="no blocks"):
        checkpoint_blocks(nn.Linear(2, 2))


def test_equal_texts_have_equal_numbers() -> None:
    ids = torch.tensor([[1, 2, 0], [1, 2, 0], [2, 1, 0], [1, 2, 3], [0, 1, 2]])
    numbers = text_ids(ids).tolist()
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 4
    many = torch.randint(0, 49408, (20000, 12), generator=torch.Generator().manual_seed(0))
    assert len(set(text_ids(many).tolist())) == len({tuple(row) for row in many.tolist()})
