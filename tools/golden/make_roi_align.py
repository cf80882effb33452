"""Make tests/training/golden/roi_align.npz: what torchvision's RoIAlign says of random maps and boxes.

Needs the virtual environment that make_goldens.py describes:

    reference/bin/python tools/golden/make_roi_align.py

Arrays: features float32 [B, C, H, W]; boxes float32 [K, 4] as shares of the map; owners int64 [K]; and for each
"bins_<rows>_<columns>" the result [K, C, rows, columns] of roi_align(aligned=True, sampling_ratio=-1). No box reaches a
cell beyond the map: there torchvision's kernels give 0 and its plain PyTorch form, which runs here, repeats the edge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

SHIM = torch.library.Library("torchvision", "DEF")  # torchvision's wheel wants these two schemas beside a CPU PyTorch
for op in ("nms", "qnms"):
    SHIM.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.ops import roi_align  # noqa: E402

BINS = ((5, 7), (3, 3), (1, 1), (8, 2))


def main() -> None:
    chance = torch.Generator().manual_seed(0)
    features = torch.randn(3, 4, 5, 7, generator=chance)
    corners = torch.rand(40, 4, generator=chance)
    boxes = torch.cat([torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])], 1)
    edge = [[0, 0, 1, 1], [0.9, 0.9, 1.0, 1.0], [0, 0, 0.01, 0.01], [-0.05, -0.04, 0.2, 0.3]]
    boxes = torch.cat([boxes, torch.tensor(edge)])
    owners = torch.randint(0, 3, (len(boxes),), generator=chance)
    scaled = boxes * torch.tensor([7.0, 5.0, 7.0, 5.0])
    rois = torch.cat([owners[:, None].float(), scaled], 1)
    found = {f"bins_{r}_{c}": roi_align(features, rois, (r, c), aligned=True).numpy() for r, c in BINS}
    path = Path(__file__).parents[2] / "tests" / "training" / "golden" / "roi_align.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, features=features.numpy(), boxes=boxes.numpy(), owners=owners.numpy(), **found)


if __name__ == "__main__":
    main()
