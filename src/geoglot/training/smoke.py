"""A world for smoke runs: drawn chips with captions, and a tiny dual encoder with random weights, as a model folder.

Nothing is downloaded; drawing takes seconds. A recipe's `--smoke` shows that its parts work, not that it is good.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from PIL import Image

from geoglot.data.drawn import draw_sample
from geoglot.data.regions import RegionSource
from geoglot.files import sha256
from geoglot.models.checkpoints.convert import FILE, write_safetensors
from geoglot.models.tokenizers.concepts import ConceptTokenizer
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.towers.clip import build
from geoglot.models.zoo.card_toml import write_card
from geoglot.training.loop_config import Loop

KINDS = ("harbor", "forest", "dense_residential", "desert", "solar_farm", "river", "parking_lot", "farmland")
SIDE = 32


def draw_world(folder: Path, *, per_kind: int = 6) -> Path:
    """`captions.jsonl` (split "train", and a sixth as "valid"), its images, and `model/`; what is there is kept.

    Args:
        folder: To write; its last file is the listing, so a half-drawn world is drawn again.
        per_kind: Chips of each of eight kinds.
    """
    if (folder / "captions.jsonl").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for kind in KINDS:
        for seed in range(per_kind):
            drawn = draw_sample(kind, seed, size_px=SIDE)
            Image.fromarray(drawn.rgb).save(folder / f"{kind}-{seed}.png")
            split = "valid" if seed % 6 == 5 else "train"
            row = {"image": f"{kind}-{seed}.png", "split": split, "label": kind, "captions": list(drawn.captions["en"])}
            lines.append(json.dumps(row))
    write_tiny_model(folder / "model")
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def draw_regions(world: Path) -> RegionSource:
    """Two regions for each drawn chip of the training split: its left half is its kind, its right half "land"."""
    rows = [json.loads(line) for line in (world / "captions.jsonl").read_text("utf-8").splitlines()]
    images, marks = list[dict[str, object]](), list[dict[str, object]]()
    for number, row in enumerate(row for row in rows if row["split"] == "train"):
        images.append({"id": number, "file_name": row["image"], "width": SIDE, "height": SIDE})
        for left, kind in ((0, row["label"]), (SIDE // 2, "land")):
            mark = {"id": len(marks), "image_id": number, "bbox": [left, 0, SIDE // 2, SIDE]}
            marks.append(mark | {"category_id": (*KINDS, "land").index(kind)})
    names = [{"id": i, "name": kind.replace("_", " ")} for i, kind in enumerate((*KINDS, "land"))]
    table = {"images": images, "annotations": marks, "categories": names}
    (world / "regions.json").write_text(json.dumps(table), "utf-8")
    return RegionSource(str(world / "regions.json"), "coco", images=".")


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """A model folder: SigLIP-like towers of 40,000 parameters with random weights, and the glossary's tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ConceptTokenizer.from_glossary()
    words.save(folder / "tokenizer.json")
    vision = VisionShape("vit", SIDE, 8, 32, (2,), 2, 64, "cls")
    text = TextShape("siglip", words.context, len(words.names), 32, 1, 2, 64)
    shape = Architecture(vision, text, 32, "gelu")
    torch.manual_seed(seed)
    model = build(shape)
    write_safetensors(model.state_dict(), folder / FILE, {})
    files = {"weights": folder / FILE, "tokenizer": folder / "tokenizer.json"}
    write_card(
        folder,
        {
            "name": "geoglot-smoke",
            "version": "0",
            "dim": shape.dim,
            "image_px": SIDE,
            "languages": ["en"],
            "architecture": asdict(shape),
            "preprocess": {"mean": [0.45, 0.45, 0.45], "std": [0.225, 0.225, 0.225]},
            "files": {role: {"file": path.name, "sha256": sha256(path)} for role, path in files.items()},
        },
    )
    return folder


def smoke_loop(loop: Loop) -> Loop:
    """The loop's settings for a few steps of a tiny model."""
    return replace(
        loop,
        batch=8,
        steps=4,
        epochs=0.0,
        chunk=4 if loop.chunk else 0,
        accumulate=1,
        precision="fp32",
        learning_rate=1e-3,
        allow_high_learning_rate=True,
        warmup=1,
        log_every=1,
        checkpoint_every=2,
        evaluate_every=2 if loop.evaluate_every else 0,
        patience=0,
        tensorboard=False,
        workers=2,
        worker_kind="thread",
        device="cpu",
    )
