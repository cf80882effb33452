"""The image side of a joined dual encoder -> `image.onnx`: convolutions in int8, heads in fp32 from int8 weights.

One pass gives an image's vector and those of its places. The graph takes any size: what is missing to a multiple of the
backbone's stride is filled up below and to the right, and the places there are cut away.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.models.encoder import Images
from geoglot.models.export.int8_weights import int8_linears
from geoglot.models.export.towers import quantize_image, strip_traces, write_graph
from geoglot.models.parts.efficientnet_lite import MEAN, STD, STRIDE
from geoglot.models.parts.joined import PATCH_PX, ImageHead, JoinedTower

LARGEST_PX = 16_384
"""Side of an image; the exporter wants a bound."""


class JoinedImageGraph(nn.Module):
    """uint8 [N, H, W, 3] -> unit vectors [N, D] of images, and [N, ceil(H / 16), ceil(W / 16), D] of their places."""

    def __init__(self, towers: JoinedTower) -> None:
        super().__init__()
        self.backbone = towers.image
        self.head = cast(ImageHead, int8_linears(copy.deepcopy(towers.image_head)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[1], images.shape[2]
        x = images.permute(0, 3, 1, 2).float() * (1 / (255 * STD)) - MEAN / STD
        x = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))
        middle, last = self.backbone(x)
        places = self.head.places(middle, last)
        places = places[:, : -(-height // PATCH_PX), : -(-width // PATCH_PX)]
        return F.normalize(self.head(middle, last), dim=1), F.normalize(places, dim=3)


def write_image(towers: JoinedTower, side_px: int, path: Path, calibration: Images | None) -> None:
    """Write the graph. Half a minute; needs the extra `export`.

    Args:
        towers: In evaluation mode.
        side_px: S, of the model's input.
        path: The file.
        calibration: uint8 [N, S, S, 3], a few hundred training chips, for int8; None writes fp32.

    Raises:
        MissingExtraError: The exporter is not installed.
    """
    example = torch.zeros(2, side_px, side_px, 3, dtype=torch.uint8)
    sides = {at: torch.export.Dim(name, min=2, max=LARGEST_PX) for at, name in ((1, "height"), (2, "width"))}
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        plain = Path(scratch) / "plain.onnx"
        write_graph(JoinedImageGraph(towers).eval(), example, "images", plain, sides, ("vectors", "patches"))
        if calibration is None:
            shutil.copyfile(plain, path)
        else:
            quantize_image(plain, path, calibration, joined=True)
    strip_traces(path)
