"""The joint bilateral upsampler against a loop over pixels, and what it must be on a constant picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from geoglot.errors import ModelFileError, UsageError  # noqa: E402
from geoglot.models import upsample  # noqa: E402
from geoglot.models.upsample import (  # noqa: E402
    JointBilateral,
    TorchUpsampler,
    UpsamplerShape,
    load_upsampler,
    save_upsampler,
)


def made(seed: int = 0, **sizes: object) -> JointBilateral:
    torch.manual_seed(seed)
    model = JointBilateral(UpsamplerShape(**{"steps": 1, "radius": 2, "width": 4, "fix_up": False, **sizes})).eval()
    with torch.no_grad():
        model.sigma.fill_(0.7)
        model.log_temperature.fill_(0.4)
    return model


def by_hand(model: JointBilateral, source: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """One doubling, one pixel and one neighbour at a time; borders mirrored."""
    height, width = 2 * source.shape[2], 2 * source.shape[3]
    guidance = F.adaptive_avg_pool2d(pictures, (height, width))
    smooth = F.interpolate(source, (height, width), mode="bicubic", align_corners=False)
    projected, radius = model.project(guidance), model.shape.radius
    line = torch.linspace(-1, 1, 2 * radius + 1)
    mirror = lambda i, n: -i if i < 0 else (2 * (n - 1) - i if i >= n else i)  # noqa: E731
    out = torch.zeros_like(smooth)
    for b in range(len(source)):
        for y in range(height):
            for x in range(width):
                near = [
                    (mirror(y + dy, height), mirror(x + dx, width), dy, dx)
                    for dy in range(-radius, radius + 1)
                    for dx in range(-radius, radius + 1)
                ]
                dots = [projected[b, :, y, x] @ projected[b, :, v, u] for v, u, _, _ in near]
                alike = torch.softmax(model.log_temperature.exp() * torch.stack(dots), 0)
                space = torch.stack(
                    [
                        torch.exp(-(line[dy + radius] ** 2 + line[dx + radius] ** 2) / (2 * model.sigma**2))
                        for _, _, dy, dx in near
                    ]
                )
                kernel = alike * space / (alike * space).sum()
                if model.correct is not None:
                    both = torch.cat([kernel, guidance[b, :, y, x]])[None, :, None, None]
                    kernel = kernel + 0.1 * model.correct(both).flatten()
                for weight, (v, u, _, _) in zip(kernel, near, strict=True):
                    out[b, :, y, x] += weight * smooth[b, :, v, u]
    return out


@pytest.mark.parametrize("fix_up", [False, True])
def test_equals_a_loop_over_pixels(fix_up: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(fix_up=fix_up)
    source, pictures = torch.randn(2, 3, 4, 3), torch.rand(2, 3, 16, 12)
    monkeypatch.setattr(upsample, "ELEMENTS", 1)  # strips of one row
    with torch.no_grad():
        torch.testing.assert_close(model(source, pictures), by_hand(model, source, pictures), atol=1e-5, rtol=1e-5)


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(fix_up=True, steps=2)
    source, pictures = torch.randn(1, 2, 6, 6), torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        whole = model(source, pictures)
        monkeypatch.setattr(upsample, "ELEMENTS", 3000)
        torch.testing.assert_close(model(source, pictures), whole, atol=1e-6, rtol=1e-6)


def test_on_a_constant_picture_it_is_a_gaussian() -> None:
    model, radius = made(radius=3), 3
    source, pictures = torch.randn(1, 2, 8, 8), torch.full((1, 3, 16, 16), 0.4)
    smooth = F.interpolate(source, (16, 16), mode="bicubic", align_corners=False)
    line = torch.exp(-(torch.linspace(-1, 1, 2 * radius + 1) ** 2) / (2 * 0.7**2))
    gaussian = torch.outer(line, line) / line.sum() ** 2
    padded = F.pad(smooth, (radius,) * 4, mode="reflect").transpose(0, 1)
    wanted = F.conv2d(padded, gaussian[None, None]).transpose(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(model(source, pictures), wanted, atol=1e-5, rtol=1e-5)


def test_an_edge_of_the_picture_stays_an_edge() -> None:
    model = made(steps=2)
    with torch.no_grad():
        model.project[0].weight.fill_(1.0).mul_(4.0)
        model.log_temperature.fill_(4.0)
    picture = torch.zeros(1, 3, 32, 32)
    picture[..., 16:] = 1.0
    source = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(4, 4)[None, None]
    with torch.no_grad():
        fine = model(source.contiguous(), picture)[0, 0]
        plain = F.interpolate(source, (16, 16), mode="bicubic", align_corners=False)[0, 0]
    assert (fine[8, 8] - fine[8, 7]) > 1.5 * (plain[8, 8] - plain[8, 7])


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2)])
def test_tiny_maps_are_no_trouble(size: tuple[int, int]) -> None:
    got = TorchUpsampler(made(radius=5, steps=2)).upsample(
        np.ones((2, 3, *size), np.float32), np.zeros((2, size[0] * 8, size[1] * 8, 3), np.uint8)
    )
    assert got.shape == (2, 3, size[0] * 4, size[1] * 4)
    np.testing.assert_allclose(got, 1.0, atol=1e-5)


def test_files(tmp_path: Path) -> None:
    model = made(steps=3, fix_up=True)
    path = save_upsampler(model, tmp_path / "up.safetensors", {"model": "m"})
    back = load_upsampler(path)
    assert (back.factor, back.about) == (8, {"model": "m"})
    source, picture = torch.randn(1, 2, 2, 2), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(back.model(source, picture), model(source, picture))
    from geoglot.models.checkpoints.convert import write_safetensors

    other = write_safetensors({"x": torch.zeros(1)}, tmp_path / "other.safetensors", {})
    with pytest.raises(ModelFileError, match="not an upsampler"):
        load_upsampler(other)
    wrong = write_safetensors(
        {"sigma": torch.ones(())}, tmp_path / "wrong.safetensors", {"kind": upsample.KIND, "shape": '{"steps": 1}'}
    )
    with pytest.raises(ModelFileError, match="damaged"):
        load_upsampler(wrong)
    with pytest.raises(UsageError, match="at least 1"):
        UpsamplerShape(steps=0)
