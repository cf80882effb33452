"""Towers, batches and data small enough to train in a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from geoglot.data.batches import BatchPlan
from geoglot.data.decode import Prepare
from geoglot.data.loader import Feed, Workshop
from geoglot.data.pairs import PairSet
from geoglot.data.sources import DataSource, open_source
from geoglot.training.contrastive import Rows
from geoglot.training.distributed import World
from geoglot.training.loop_config import Loop
from geoglot.training.objective import Batch, Contrastive, LossName

SIDE = 16
WORDS = ("red", "green", "blue", "grey", "field", "water")
COLOURS = ((200, 30, 30), (30, 180, 30), (30, 30, 200), (120, 120, 120))


class TinyTowers(nn.Module):
    """4 x 4 means of the image and the mean of word vectors, each through two layers."""

    def __init__(self, dim: int = 12, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.visual = nn.Sequential(nn.Linear(48, 20), nn.GELU(), nn.Dropout(dropout), nn.Linear(20, dim))
        self.words = nn.Embedding(40, 16)
        self.text = nn.Sequential(nn.Linear(16, 20), nn.GELU(), nn.Dropout(dropout), nn.Linear(20, dim))
        self.logit_scale = nn.Parameter(torch.tensor(1.5))
        self.logit_bias = nn.Parameter(torch.tensor(-1.0))

    def encode_image(self, x: Tensor) -> Tensor:
        return self.visual(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))

    def encode_text(self, ids: Tensor) -> Tensor:
        return self.text(self.words(ids).mean(1))


def objective(loss: LossName, dropout: float = 0.0, seed: int = 0) -> Contrastive:
    towers = TinyTowers(dropout=dropout, seed=seed)
    return Contrastive(towers, loss, side_px=SIDE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2)).train()


def random_batch(count: int, captions: int = 1, seed: int = 1) -> Batch:
    """Some texts are equal, so that `multi_positive` has something to find."""
    chance = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, SIDE, SIDE, 3), dtype=torch.uint8, generator=chance)
    texts = torch.randint(0, 3, (count, captions, 2), generator=chance)
    return Batch(images, texts, torch.arange(count) * 7 + 3)


def grads(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.detach().clone() for n, p in model.named_parameters() if p.grad is not None}


def alone() -> World:
    return World()


def rows_of(model: Contrastive, batch: Batch) -> Rows:
    from geoglot.training.objective import text_ids

    out = model(batch)
    return Rows(out["images"], out["texts"], batch.image_ids, text_ids(batch.texts.flatten(0, 1)))


def word_ids(texts: list[str]) -> NDArray[np.int64]:
    """Two tokens a text: a process worker must be able to import it."""
    out = np.zeros((len(texts), 2), np.int64)
    for row, text in zip(out, texts, strict=True):
        ids = [WORDS.index(word) + 1 for word in text.split() if word in WORDS][:2]
        row[: len(ids)] = ids
    return out


def draw_data(folder: Path, count: int = 40, seed: int = 0) -> Path:
    """Coloured squares with two captions each, as JSON lines."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(count):
        kind = index % 4
        noise = rng.integers(-25, 26, (SIDE + 4, SIDE, 3))
        pixels = np.clip(np.array(COLOURS[kind]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        captions = [f"{WORDS[kind]} field", f"a {WORDS[kind]} water"]
        lines.append(json.dumps({"image": f"{index}.png", "captions": captions}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


def open_data(folder: Path) -> list[PairSet]:
    return [open_source(DataSource("captions.jsonl"), folder)]


def make_feed(folder: Path, loop: Loop, world: World, captions: int = 1) -> Feed:
    sets = open_data(folder)
    plan = BatchPlan(sets, [0.0] * len(sets), loop.batch, loop.seed)
    workshop = Workshop(sets, Prepare(SIDE, (0.6, 1.0), captions), word_ids, loop.seed)
    return Feed(workshop, plan, rank=world.rank, size=world.size, workers=loop.workers, ahead=loop.ahead)
