from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor  # noqa: E402

from geoglot.errors import UsageError  # noqa: E402
from geoglot.training.recipes.farslip.roi_align import roi_align, roi_mean  # noqa: E402

GOLDEN = Path(__file__).parent / "golden" / "roi_align.npz"


def slow(feature: Tensor, box: list[float], bins: tuple[int, int]) -> Tensor:
    """One box, sample by sample, as the definition says it."""
    height, width, dim = feature.shape
    x0, y0, x1, y1 = (value * size - 0.5 for value, size in zip(box, (width, height, width, height), strict=True))
    high, wide = (y1 - y0) / bins[0], (x1 - x0) / bins[1]
    rows, columns = math.ceil(high), math.ceil(wide)
    out = torch.zeros(*bins, dim, dtype=torch.float64)
    for i in range(bins[0]):
        for j in range(bins[1]):
            for a in range(rows):
                for b in range(columns):
                    y, x = y0 + (i + (a + 0.5) / rows) * high, x0 + (j + (b + 0.5) / columns) * wide
                    out[i, j] += bilinear(feature, y, x) / (rows * columns)
    return out


def bilinear(feature: Tensor, y: float, x: float) -> Tensor:
    height, width, dim = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(dim, dtype=torch.float64)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), max(height - 2, 0)), min(int(x), max(width - 2, 0))
    low, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = feature[top, left] * (1 - u) + feature[top, right] * u
    return upper * (1 - v) + (feature[low, left] * (1 - u) + feature[low, right] * u) * v


def test_as_torchvision() -> None:
    golden = np.load(GOLDEN)
    features = torch.from_numpy(golden["features"]).permute(0, 2, 3, 1)
    boxes, owners = torch.from_numpy(golden["boxes"]), torch.from_numpy(golden["owners"])
    names = [name for name in golden if name.startswith("bins_")]
    assert len(names) == 4
    for name in names:
        rows, columns = map(int, name.split("_")[1:])
        found = roi_align(features, boxes, owners, (rows, columns)).permute(0, 3, 1, 2)
        assert torch.allclose(found, torch.from_numpy(golden[name]), atol=1e-5), name


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    box=st.tuples(*[st.floats(-0.25, 1.25, width=32) for _ in range(4)]),
    bins=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_as_the_definition(size: tuple[int, int], box: tuple[float, ...], bins: tuple[int, int]) -> None:
    xs, ys = sorted((box[0], box[2])), sorted((box[1], box[3]))
    ordered = [xs[0], ys[0], xs[1], ys[1]]
    # A bin that is a whole number of cells high, but for rounding, may get a sample more or less.
    spans = [(ys[1] - ys[0]) * size[0] / bins[0], (xs[1] - xs[0]) * size[1] / bins[1]]
    if any(span > 0 and abs(span - round(span)) < 1e-5 for span in spans):
        return
    features = torch.randn(1, *size, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = roi_align(features, torch.tensor([ordered]), torch.tensor([0]), bins)[0]
    at = [(y - 0.5, x - 0.5) for y in (ys[0] * size[0], ys[1] * size[0]) for x in (xs[0] * size[1], xs[1] * size[1])]
    if any(abs(abs(value) - edge) < 1e-4 for pair in at for value, edge in zip(pair, size, strict=True)):
        return
    assert torch.allclose(found, slow(features[0], ordered, bins), atol=1e-4)


def test_the_whole_map_is_itself() -> None:
    features = torch.randn(2, 4, 6, 5)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4)
    owners = torch.tensor([1, 0])
    assert torch.equal(roi_align(features, whole, owners, (4, 6)), features[owners])
    assert torch.allclose(roi_mean(features, whole, owners), features[owners].mean((1, 2)), atol=1e-6)


def test_mean_is_the_mean_of_the_bins_and_has_its_gradient() -> None:
    features = torch.randn(3, 5, 4, 6, requires_grad=True)
    corners = torch.rand(12, 2, 2).sort(1).values
    boxes, owners = corners.flatten(1), torch.arange(12) % 3
    fast, plain = roi_mean(features, boxes, owners), roi_align(features, boxes, owners, (5, 4)).mean((1, 2))
    assert torch.allclose(fast, plain, atol=1e-5)
    weight = torch.randn_like(fast)
    grads = [torch.autograd.grad((one * weight).sum(), features)[0] for one in (fast, plain)]
    assert torch.allclose(*grads, atol=1e-5)


def test_no_boxes_and_empty_boxes() -> None:
    features = torch.randn(1, 3, 3, 2)
    assert roi_mean(features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).shape == (0, 2)
    assert not roi_mean(features, torch.zeros(1, 4), torch.tensor([0])).any()
    with pytest.raises(UsageError, match="boxes"):
        roi_align(features, torch.zeros(2, 4), torch.tensor([0]), (1, 1))
