"""What the ingest benchmarks share: random weights in the bundled model's shape, drawn scenes, the machine line.

    python benchmarks/stand_in.py FOLDER        # writes a model folder for --model; about 20 s

Speed and memory do not depend on the values of the weights, so the ratios hold for any model of this shape.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.windows import Window

from geoglot.errors import UnknownWordsError
from geoglot.files import sha256
from geoglot.models.card import Card
from geoglot.models.encoder import DualEncoder
from geoglot.models.load import load_encoder
from geoglot.models.zoo.registry import bundled_models

Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
IMAGE_PX = 96


def machine() -> str:
    """One line that says where the numbers come from."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnxruntime", "rasterio", "lancedb"))
    return f"machine: {os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}, {packages}"


def encoder_for(model: str | None) -> DualEncoder:
    """The model asked for, else the bundled one."""
    if model is None and not bundled_models():
        raise SystemExit("no bundled model here: write one with `python benchmarks/stand_in.py FOLDER`, give --model")
    return load_encoder(model) if model else load_encoder()


def write_model(folder: Path, image_px: int = IMAGE_PX) -> None:
    """Export untrained int8 image towers with a card."""
    import torch

    from geoglot.models.export.towers import export_image, quantize_image
    from geoglot.models.towers.convnet_training import DualTower, TowerShape

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    export_image(DualTower(TowerShape(vocabulary=64)).eval(), image_px, folder / "fp32.onnx")
    chips = np.random.default_rng(0).integers(0, 256, (32, image_px, image_px, 3), dtype=np.uint8)
    quantize_image(folder / "fp32.onnx", folder / "image.onnx", chips)
    (folder / "fp32.onnx").unlink()
    (folder / "card.toml").write_text(
        f'name = "stand-in"\nversion = "0"\ndim = 256\nimage_px = {image_px}\nlanguages = ["en"]\n'
        "gsd_m = [0.1, 30.0]\nground_m = [80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 5120.0]\n"
        f'[files.image]\nfile = "image.onnx"\nsha256 = "{sha256(folder / "image.onnx")}"\n',
        "utf-8",
    )


def torch_forward(card: Card, weights: Path | None = None) -> Forward:
    """The same image tower in fp32 PyTorch, as the training recipe leaves it; untrained without `weights`."""
    import torch
    from torch.nn import functional as F

    from geoglot.models.export.towers import load_towers
    from geoglot.models.towers.convnet_training import DualTower, TowerShape

    towers = load_towers(weights) if weights else DualTower(TowerShape(vocabulary=64, dim=card.dim)).eval()

    @torch.inference_mode()
    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0  # [N, 3, S, S]
        return np.asarray(F.normalize(towers.image(pixels), dim=1).numpy())

    return forward


class PixelEncoder:
    """An encoder of numpy alone, for benchmarks about the store: mean colours of 16 fields, projected, unit.

    Args:
        pause_s: Sleep per call, to stretch a run.
    """

    def __init__(self, pause_s: float = 0.0) -> None:
        self.card = Card("pixels", "1", 32, 32, ("en",), (0.1, 30.0), (80.0, 160.0, 320.0))
        self._pause_s = pause_s
        self._weights = np.random.default_rng(0).normal(size=(48, 32))

    def encode_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, 32, 32, 3] -> [N, 32]."""
        time.sleep(self._pause_s)
        fields = images.reshape(len(images), 4, 8, 4, 8, 3).mean(axis=(2, 4)).reshape(len(images), 48)
        vectors = (fields - 127.5) @ self._weights
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """It knows no words."""
        raise UnknownWordsError(f"the stand-in knows no words, got {list(texts)}")


def draw_scene(path: Path, side: int, seed: int, *, gsd_m: float = 1.0, patches: int | None = None) -> Path:
    """A tiled, deflated GeoTIFF of smooth noise with fine grain.

    Args:
        path: The file to write.
        side: Pixels across and down.
        seed: Of the noise.
        gsd_m: Metres per pixel.
        patches: Write only so many of the 512 px blocks, evenly spread, and leave the rest out of the file; all
            pixels count as valid, for nodata is declared as a value that does not occur.
    """
    rng = np.random.default_rng(seed)
    profile: dict[str, Any] = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8"}
    profile |= {"crs": "EPSG:32636", "transform": from_origin(400_000, 500_000, gsd_m, gsd_m)}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "bigtiff": "if_safer"}
    profile |= {"sparse_ok": patches is not None, "photometric": "rgb"}
    corners = [(x, y) for y in range(0, side, 512) for x in range(0, side, 512)]
    if patches is not None:
        corners = [corners[i] for i in np.linspace(0, len(corners) - 1, patches).astype(int)]
    with rasterio.open(path, "w", **profile) as out:
        for x, y in corners:
            w, h = min(512, side - x), min(512, side - y)
            coarse = rng.integers(30, 220, (3, 17, 17), dtype=np.uint8)
            block = np.kron(coarse, np.ones((32, 32), np.uint8))[:, :h, :w] + rng.integers(0, 8, (3, h, w), np.uint8)
            out.write(block.astype(np.uint8), window=Window(x, y, w, h))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image-px", type=int, default=IMAGE_PX)
    arguments = parser.parse_args()
    write_model(arguments.folder, arguments.image_px)
    print(arguments.folder)
