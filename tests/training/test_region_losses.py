"""FarSLIP's losses against slow twins and hand-computed cases, the parts that the feed cuts, and the teacher."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from geoglot.data.pairs import Pair  # noqa: E402
from geoglot.data.regions import Region, RegionRecord  # noqa: E402
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape  # noqa: E402
from geoglot.models.towers.clip import Clip, build  # noqa: E402
from geoglot.models.towers.dense import Dense  # noqa: E402
from geoglot.training.contrastive import Rows, info_nce  # noqa: E402
from geoglot.training.distributed import World  # noqa: E402
from geoglot.training.recipes.farslip.colour import jittered  # noqa: E402
from geoglot.training.recipes.farslip.region_losses import patch_agreement, region_alignment  # noqa: E402
from geoglot.training.recipes.farslip.region_pairs import EMPTY, Parts, RegionPair, RegionPairs, label_of, listed  # noqa: E402
from geoglot.training.recipes.farslip.teacher import Teacher  # noqa: E402


def unit(rows: int, seed: int, dim: int = 6) -> Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def tiny_clip() -> Clip:
    torch.manual_seed(0)
    vision, text = VisionShape("vit", 32, 8, 24, (2,), 2, 48, "cls"), TextShape("clip", 8, 20, 24, 1, 2, 48)
    model = build(Architecture(vision, text, 16, "quick_gelu"))
    assert isinstance(model, Clip)
    return model


# --- region-category alignment ------------------------------------------------------------------


def slow_alignment(images: Tensor, texts: Tensor, labels: list[int], scale: float) -> float:
    """Region by region, answer by answer."""
    total = 0.0
    for left, right in ((images, texts), (texts, images)):
        for i, label in enumerate(labels):
            logits = [scale * float(left[i] @ right[j]) for j in range(len(labels))]
            norm = math.log(sum(math.exp(value) for value in logits))
            mine = [logits[j] - norm for j, other in enumerate(labels) if other == label]
            total -= sum(mine) / len(mine) / len(labels) / 2
    return total


def test_alignment_as_its_slow_twin() -> None:
    images, texts, labels = unit(7, 0), unit(7, 1), [3, 5, 3, 3, 8, 5, 9]
    found = region_alignment(images, texts, torch.tensor(labels), torch.tensor(10.0), World())
    assert found.item() == pytest.approx(slow_alignment(images, texts, labels, 10.0), abs=1e-4)


def test_alignment_of_different_categories_is_infonce() -> None:
    images, texts, labels = unit(5, 2), unit(5, 3), torch.arange(5)
    scale = torch.tensor(14.0)
    expected = info_nce(Rows(images, texts, labels, labels), scale, World())
    assert torch.allclose(region_alignment(images, texts, labels, scale, World()), expected, atol=1e-6)


def test_alignment_by_hand() -> None:
    """Two regions of one category with equal rows: each answer has the probability 1/2, so the loss is ln 2."""
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = region_alignment(rows, rows, torch.tensor([4, 4]), torch.tensor(5.0), World())
    assert found.item() == pytest.approx(math.log(2))


def test_alignment_of_nothing_is_zero_with_a_gradient() -> None:
    images, texts = torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 4, requires_grad=True)
    found = region_alignment(images, texts, torch.zeros(0, dtype=torch.int64), torch.tensor(5.0), World())
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == 0


# --- patch-to-patch -----------------------------------------------------------------------------


def test_a_crop_of_the_whole_image_agrees_with_it() -> None:
    model = tiny_clip()
    found = model.dense(torch.randn(3, 3, 32, 32), "segearth")
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(3, 4)
    cosines = patch_agreement(found.patches, found, whole, torch.arange(3), "roi2pooled")
    assert torch.allclose(1 - cosines, torch.zeros(3), atol=1e-6)


@pytest.mark.parametrize("distill", ["roi2pooled", "roi2cls", "combined"])
def test_agreement_by_hand(distill: str) -> None:
    """One box over the right half of a 2 x 2 map."""
    patches = torch.zeros(1, 2, 2, 2)
    patches[0, :, 1] = torch.tensor([0.0, 3.0])
    patches[0, :, 0] = torch.tensor([9.0, 0.0])
    crop = Dense(torch.tensor([[5.0, 0.0]]), torch.tensor([[[[1.0, 1.0]], [[-1.0, 3.0]]]]), None)
    box = torch.tensor([[0.5, 0.0, 1.0, 1.0]])
    found = patch_agreement(patches, crop, box, torch.tensor([0]), distill)  # type: ignore[arg-type]
    # Inside: bins of half a cell, samples at x = 0.75 and 1.25 (moved to 1), so (9 / 4, 3 * 3 / 4) and (0, 3).
    inside = np.array([9 / 4, 9 / 4 + 3]) / 2
    inside /= np.linalg.norm(inside)
    pooled, cls = inside @ np.array([0, 1.0]), inside @ np.array([1.0, 0])
    expected = {"roi2pooled": pooled, "roi2cls": cls, "combined": (pooled + cls) / 2}[distill]
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_the_gradient_stops_at_the_target_unless_told() -> None:
    patches, target = torch.randn(1, 3, 3, 4, requires_grad=True), torch.randn(1, 3, 3, 4, requires_grad=True)
    crop = Dense(target.mean((1, 2)), target, None)
    box, owner = torch.tensor([[0.1, 0.2, 0.7, 0.9]]), torch.tensor([0])
    for detach in (True, False):
        patches.grad = target.grad = None
        patch_agreement(patches, crop, box, owner, "roi2pooled", detach=detach).sum().backward()
        assert patches.grad is not None
        assert (target.grad is None) == detach


# --- teacher ------------------------------------------------------------------------------------


def test_the_teacher_follows_weights_and_statistics() -> None:
    student = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    teacher = Teacher(student, 0.9)
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    with torch.no_grad():
        for value in student.state_dict().values():
            value.add_(1)
    teacher.train()
    assert not teacher.model.training
    teacher.follow(student)
    for name, value in teacher.model.state_dict().items():
        step = 1.0 if name.endswith("num_batches_tracked") else 0.1
        assert torch.allclose(value.float(), before[name] + step, atol=1e-6), name
    assert not any(p.requires_grad for p in teacher.parameters())
    frozen = Teacher(student, 1.0)
    kept = [p.clone() for p in frozen.parameters()]
    with torch.no_grad():
        student[0].weight.add_(5)
    frozen.follow(student)
    assert all(torch.equal(a, b) for a, b in zip(kept, frozen.parameters(), strict=True))


# --- what the feed cuts -------------------------------------------------------------------------


def striped() -> RegionPair:
    """80 x 100 px: column x is red x, row y is green y."""
    pixels = np.zeros((80, 100, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(100), np.arange(80)[:, None]
    regions = (
        Region((0, 0, 20, 20), "ship"), Region((50, 10, 90, 50), "harbor"), Region((0, 0, 4, 4), "too small"),
        Region((10, 30, 60, 80), "ship", "three red ships"),
    )  # fmt: skip
    return RegionPair("striped", b"", ("a harbor",), pixels, regions)


def test_parts_are_what_their_boxes_say() -> None:
    ready = Parts(16, crops=3, regions=5, region_px=(10, 1000))(striped(), np.random.default_rng(0))
    assert ready.image.shape == (16, 16, 3)
    labels, boxes = ready.extras["region_labels"], ready.extras["region_boxes"]
    assert (labels != EMPTY).tolist() == [True, True, True, False, False]
    for images, places, count in (("crops", "crop_boxes", 3), ("regions", "region_boxes", 3)):
        for image, box in zip(ready.extras[images][:count], ready.extras[places][:count], strict=True):
            middle = (box[[0, 2]].mean() * 100 - 0.5, box[[1, 3]].mean() * 80 - 0.5)
            assert np.allclose(image[..., :2].mean((0, 1)), middle, atol=1.0)
    assert not ready.extras["regions"][3:].any()
    assert boxes[3:].sum() == 0
    said = dict(zip(labels.tolist(), ready.texts[1:], strict=False))
    ship, harbor, own = (label_of(striped().regions[i]) for i in (0, 1, 3))
    assert said[ship] == "a satellite image of ship"
    assert said[harbor] == "a satellite image of harbor"
    assert said[own] == "three red ships"
    assert ready.texts[0] == "a harbor"
    assert len(ready.texts) == 6


def test_crops_have_the_shares_that_were_asked() -> None:
    ready = Parts(8, crops=200)(striped(), np.random.default_rng(1))
    x0, y0, x1, y1 = ready.extras["crop_boxes"].T
    area = (x1 - x0) * (y1 - y0)
    assert 0.27 < area.min() < area.max() < 0.73  # whole pixels of a small image
    assert 0.48 < area.mean() < 0.52
    assert min(x0.min(), y0.min()) >= 0
    assert max(x1.max(), y1.max()) <= 1


def test_captioned_regions_stay_unless_told() -> None:
    captioned, plain = Region((0, 0, 9, 9), "ship", "a red ship"), Region((0, 0, 9, 9), "Ship")
    assert label_of(captioned) not in (EMPTY, label_of(plain))
    assert label_of(captioned, drop_captioned=True) == EMPTY
    assert label_of(plain) == label_of(Region((1, 1, 5, 5), "ship"))
    ready = Parts(8, regions=4, region_px=(10, 1000), drop_captioned=True)(striped(), np.random.default_rng(0))
    assert (ready.extras["region_labels"] != EMPTY).sum() == 2


class InMemory:
    name, skipped = "drawn", (("x.png", "broken"),)

    def __init__(self, *records: RegionRecord) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def record(self, i: int) -> RegionRecord:
        return self.records[i]

    def image(self, i: int) -> np.ndarray:  # type: ignore[type-arg]
        return np.full((8, 8, 3), i, np.uint8)

    def fingerprint(self) -> str:
        return "1"


def test_images_without_caption_say_their_categories() -> None:
    ships = tuple(Region((0, 0, 4, 4), name) for name in ("ship", "harbor", "ship"))
    records = [("a.png", (), ships), ("b.png", (), ()), ("c.png", ("said",), ())]
    pairs = RegionPairs(InMemory(*(RegionRecord(n, 8, 8, c, r, "drawn") for n, c, r in records)))
    assert len(pairs) == 2
    assert [name for name, _ in pairs.skipped] == ["x.png", "b.png"]
    assert pairs.read(0).captions == ("a satellite image of ship and harbor",)
    assert pairs.read(1).captions == ("said",)
    assert pairs.read(1).pixels[0, 0, 0] == 2
    assert len(set(pairs.image_ids.tolist())) == 2
    assert listed(ships[:1]) == "ship"


def test_plain_pairs_have_free_slots() -> None:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(striped().pixels).save(file, "PNG")
    pair = Pair("p", file.getvalue(), ("one", "two"))
    ready = Parts(8, crops=2, regions=3)(pair, np.random.default_rng(0))
    assert (ready.extras["region_labels"] == EMPTY).all()
    assert len(set(ready.texts)) == 1


# --- colour -------------------------------------------------------------------------------------


def test_jitter_changes_some_images_and_keeps_the_range() -> None:
    torch.manual_seed(0)
    x = torch.rand(200, 3, 4, 4)
    y = jittered(x, grey=0.0)
    same = (x - y).abs().amax((1, 2, 3)) == 0
    assert 0.1 < same.float().mean() < 0.3
    assert y.min() >= 0
    assert y.max() <= 1
    grey = jittered(x, grey=1.0)
    assert torch.allclose(grey[:, :1].expand_as(grey), grey)
    assert torch.allclose(jittered(x, (0, 0, 0, 0), grey=0.0), x, atol=1e-6)
