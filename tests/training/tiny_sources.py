"""Two tiny sources in the layout that recipe `mini` reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_sources(folder: Path) -> None:
    """rsicd/ and eurosat/ with 16 chips each, green forests and something brown."""
    rng = np.random.default_rng(0)
    (folder / "rsicd").mkdir()
    (folder / "eurosat").mkdir()
    for name, file, labels in (
        ("rsicd", "captions.jsonl", ("forest", "desert")),
        ("eurosat", "labels.jsonl", ("Forest", "SeaLake")),
    ):
        rows = []
        for index in range(16):
            base = np.array([[30, 90, 30], [200, 170, 110]][index % 2])
            pixels = np.clip(base + rng.integers(-20, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
            row = {"image": f"{index}.png", "split": "train", "label": labels[index % 2]}
            if name == "rsicd":
                row["captions"] = [("many green trees", "yellow sand")[index % 2]] * 2
            rows.append(json.dumps(row))
        (folder / name / file).write_text("\n".join(rows))
