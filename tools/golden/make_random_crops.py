"""Make tests/data/golden/random_crops.json: how torchvision's RandomResizedCrop draws area, shape and place.

Needs the virtual environment that make_goldens.py describes:

    reference/bin/python tools/golden/make_random_crops.py

For each size of an image and range of areas, over 50,000 draws of `RandomResizedCrop.get_params` with the ratio 3/4 to
4/3: the mean of the area as a share of the image, and the deciles of that share ("area"), of the logarithm of
width / height ("log_ratio") and of the left edge as a share of the image's width ("left").
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

SHIM = torch.library.Library("torchvision", "DEF")  # torchvision's wheel wants these two schemas beside a CPU PyTorch
for op in ("nms", "qnms"):
    SHIM.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.transforms import RandomResizedCrop  # noqa: E402

DRAWS = 50_000
CASES = (
    ((256, 256), (0.9, 1.0)),
    ((522, 403), (0.9, 1.0)),
    ((522, 403), (0.3, 0.7)),
    ((600, 150), (0.08, 1.0)),
    ((40, 300), (0.9, 1.0)),
    ((5, 4), (0.5, 1.0)),
)


def drawn(size: tuple[int, int], scale: tuple[float, float]) -> dict[str, object]:
    width, height = size
    image = torch.empty(1, height, width)
    rows = [RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(DRAWS)]
    found = {
        "area": [h * w / (height * width) for _, _, h, w in rows],
        "log_ratio": [math.log(w / h) for _, _, h, w in rows],
        "left": [left / width for _, left, _, _ in rows],
    }
    tenths = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    deciles = {name: torch.quantile(torch.tensor(v, dtype=torch.float64), tenths).tolist() for name, v in found.items()}
    return {"size": size, "scale": scale, "mean_area": sum(found["area"]) / DRAWS, **deciles}


def main() -> None:
    torch.manual_seed(0)
    path = Path(__file__).parents[2] / "tests" / "data" / "golden" / "random_crops.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([drawn(*case) for case in CASES], indent=1) + "\n")


if __name__ == "__main__":
    main()
