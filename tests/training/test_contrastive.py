from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from tiny_towers import alone, objective, random_batch, rows_of  # noqa: E402

from geoglot.errors import UsageError  # noqa: E402
from geoglot.training.contrastive import Rows, fits, info_nce, multi_positive, sigmoid  # noqa: E402
from geoglot.training.losses import multi_positive_nce  # noqa: E402
from geoglot.training.objective import Contrastive  # noqa: E402


def rows(count: int, captions: int, seed: int = 0) -> Rows:
    chance = torch.Generator().manual_seed(seed)
    images, texts = (torch.randn(n, 6, generator=chance) for n in (count, count * captions))
    unit = torch.nn.functional.normalize
    said = torch.randint(0, 5, (count * captions,), generator=chance)
    return Rows(unit(images, dim=1), unit(texts, dim=1), torch.randperm(100, generator=chance)[:count], said)


def test_info_nce_against_the_plain_loss() -> None:
    mine = rows(9, 1)
    expected = multi_positive_nce(mine.images, mine.texts, torch.tensor(7.0), torch.eye(9, dtype=torch.bool))
    assert info_nce(mine, torch.tensor(7.0), alone()).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("captions", [1, 3])
def test_multi_positive_against_loops(captions: int) -> None:
    mine, scale = rows(6, captions), 5.0
    score = (scale * mine.images @ mine.texts.T).tolist()
    said, count = mine.text_ids.tolist(), 6

    def right(image: int, text: int) -> bool:
        own = range(image * captions, (image + 1) * captions)
        return text in own or said[text] in [said[t] for t in own]

    def surprise(values: list[float], good: list[bool]) -> float:
        mass = math.log(sum(math.exp(v) for v in values))
        return sum(mass - v for v, ok in zip(values, good, strict=True) if ok) / sum(good)

    texts = range(count * captions)
    to_text = [surprise(score[i], [right(i, t) for t in texts]) for i in range(count)]
    to_image = [surprise([score[i][t] for i in range(count)], [right(i, t) for i in range(count)]) for t in texts]
    expected = (sum(to_text) / count + sum(to_image) / (count * captions)) / 2
    assert multi_positive(mine, torch.tensor(scale), alone()).item() == pytest.approx(expected, rel=1e-5)
    assert [[right(i, t) for t in texts] for i in range(count)] == fits(mine, mine).tolist()


@pytest.mark.parametrize("captions", [1, 2])
def test_sigmoid_against_a_loop(captions: int) -> None:
    mine, scale, bias = rows(5, captions), 4.0, -2.0
    total = 0.0
    for i in range(5):
        for t in range(5 * captions):
            z = 1.0 if t // captions == i else -1.0
            logit = scale * float(mine.images[i] @ mine.texts[t]) + bias
            total -= math.log(1 / (1 + math.exp(-z * logit)))
    found = sigmoid(mine, torch.tensor(scale), torch.tensor(bias), alone())
    assert found.item() == pytest.approx(total / 5, rel=1e-5)


def test_guessing_gives_what_chance_says() -> None:
    for kind, captions in (("infonce", 1), ("multi_positive", 3)):
        model = objective(kind)
        model.towers.logit_scale.data.fill_(-30.0)  # every cosine counts for nothing
        batch = random_batch(8, captions)
        batch.texts[:] = torch.arange(8 * captions * 2).view(batch.texts.shape) % 40
        found = model.loss(model(batch), batch, alone())["contrast"]
        assert found.item() == pytest.approx(model.chance(8), abs=1e-4)
    assert objective("sigmoid").chance(8) is None


def test_what_does_not_fit_is_refused() -> None:
    model, batch = objective("infonce"), random_batch(4, 2)
    outputs = model(batch)
    with pytest.raises(UsageError, match="one caption"):
        model.loss(outputs, batch, alone())
    towers = objective("infonce").towers
    towers.logit_bias = None
    with pytest.raises(UsageError, match="logit_bias"):
        Contrastive(towers, "sigmoid")


def test_the_scale_stays_in_bounds() -> None:
    model = objective("infonce")
    model.towers.logit_scale.data.fill_(9.0)
    model.after_step(0)
    assert model.towers.logit_scale.exp().item() == pytest.approx(100.0, rel=1e-4)


def test_towers_may_leave_out_padding() -> None:
    class Short(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logit_scale = torch.nn.Parameter(torch.zeros(()))
            self.seen = 0

        def encode_image(self, x):  # type: ignore[no-untyped-def]
            return x.mean((2, 3))

        def encode_text(self, ids):  # type: ignore[no-untyped-def]
            self.seen = ids.shape[1]
            return ids.float()[:, :3] + 1

        def needed(self, ids):  # type: ignore[no-untyped-def]
            return ids[:, :4]

    model, batch = Contrastive(Short()), random_batch(3)
    rows_of(model, type(batch)(batch.images, torch.ones(3, 1, 77, dtype=torch.int64), batch.image_ids))
    assert model.towers.seen == 4
