"""Tiny copies of the public sets' layouts, drawn, with the traps that the real ones have."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CHINESE = "一座机场 with “planes”"  # RSICD's CSV is gb18030: not valid UTF-8 once encoded


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    """A small picture of its own, so that perceptual hashes differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def folders(root: Path, classes: Iterable[str], each: int = 1, suffix: str = ".jpg") -> None:
    """`<root>/<Class>/<n>.jpg`, with the stray files that archives carry."""
    for number, name in enumerate(classes):
        for index in range(each):
            draw(root / name / f"{name.split('/')[-1]}_{index}{suffix}", 100 * number + index)
        (root / name / "Thumbs.db").write_bytes(b"stray")
    (root / ".DS_Store").write_bytes(b"stray")
    (root / "readme.txt").write_text("stray")


def table(path: Path, rows: Sequence[dict[str, Any]], encoding: str = "utf-8") -> None:
    """A CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def karpathy(path: Path, images: Path, said: Sequence[tuple[str, str, Sequence[str]]]) -> None:
    """(file name, split, captions) as Karpathy's JSON, with the pictures."""
    for index, (name, _, _) in enumerate(said):
        draw(images / name, index)
    body = [
        {"filename": name, "split": split, "sentences": [{"raw": text, "tokens": text.split()} for text in captions]}
        for name, split, captions in said
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": body, "dataset": "x"}), "utf-8")
