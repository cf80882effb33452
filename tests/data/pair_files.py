"""Images, tars and tables of pairs, made on the spot."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (24, 20), kind: str = "PNG") -> bytes:
    """A smooth random picture, encoded."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3)).astype(np.uint8))
    out = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar with these members, in this order."""
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def rs5m_members(keys: Sequence[int]) -> list[tuple[str, bytes]]:
    """Members as RS5M's tars have them."""
    out = []
    for key in keys:
        out.append((f"pub11_{key:08d}.img_name", f"laion2b_0_{key}.jpg".encode()))
        out.append((f"pub11_{key:08d}.caption", f"an aerial image, number {key}, of a café".encode()))
        out.append((f"pub11_{key:08d}.img_content", picture(key, kind="JPEG")))
    return out
