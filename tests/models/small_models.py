"""A tiny CLIP with a real tokenizer: as a checkpoint, as a card that names an address, as a model folder."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.zoo.card_toml import toml_text

GOLDEN = Path(__file__).parent / "golden_tokens"
VOCABULARY = 2181
TINY = Architecture(
    VisionShape("vit", 32, 8, 64, (2,), 1, 128, "cls"),
    TextShape("clip", 77, VOCABULARY, 64, 2, 1, 128),
    dim=16,
    activation="quick_gelu",
)


def tokenizer(folder: Path) -> Path:
    """CLIP's merges, the first 1,667 of them."""
    return Path(shutil.copyfile(GOLDEN / "bpe.txt.gz", folder / "bpe.txt.gz"))


def checkpoint(path: Path, seed: int = 0) -> Path:
    """Random weights as open_clip saves a state dict."""
    import torch

    from geoglot.models.towers.clip import build

    torch.manual_seed(seed)
    torch.save(build(TINY).state_dict(), path)
    return path


def card_values(name: str = "tiny-clip", **more: Any) -> dict[str, Any]:
    """A released card; `more` replaces tables."""
    return {
        "name": name,
        "version": "1",
        "family": "Tiny",
        "summary": "Random weights.",
        "dim": TINY.dim,
        "image_px": 32,
        "languages": ["en"],
        "citation": "nobody",
        "architecture": asdict(TINY),
        "doubts": {"activation_why": "we made it"},
        "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "tokenizer": {"kind": "clip_bpe", "repo": "some/tokens", "file": "bpe.txt.gz"},
        "licence": {"id": "MIT", "use": "free", "text": "Do what you like."},
        "source": {"repo": "some/model", "file": "tiny.pt"},
        "training": {"data": ["nothing"], "known_overlap": ["none"]},
        **more,
    }


def write_released(folder: Path, *cards: dict[str, Any]) -> Path:
    """A folder of released cards, as src/geoglot/models/cards is one."""
    folder.mkdir(parents=True, exist_ok=True)
    for values in cards:
        (folder / f"{values['name']}.toml").write_text(toml_text(values), "utf-8")
    return folder
