"""Recipe `mini_words`: a part of the bundled model. The image tower is locked; words learn from many chips.

    python -m geoglot.training.recipes.mini_words --config configs/mini_words.toml --data ../shared/data --out runs/w

Implements: locked-image tuning (Zhai et al. 2022, LiT, arXiv 2111.07991), with the image's projection left free. The
tower's pooled features of a few views of every chip are computed once, so a batch may hold a thousand pairs. Class
names are said in phrases: several names of the class at once, among words that go with any class. Without them a class
that training only ever heard as one bare word is not found by a sentence. The run before (`after`) is trained if it is
absent.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.config import load_config
from geoglot.errors import UsageError
from geoglot.models.tokenizers.concepts import PAD
from geoglot.models.towers.convnet_training import DualTower, TowerShape
from geoglot.training.losses import cosine_schedule, label_positives, maybe_positives, multi_positive_nce, same_text
from geoglot.training.pools import Pool, common_words, phrase, vary_tokens
from geoglot.training.recipes import mini
from geoglot.training.views import ViewRanges, random_views

log = logging.getLogger("geoglot.mini")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that decides the weights, but for the data.

    Attributes:
        after: Config of the run whose image tower is locked.
        seed: Of every random choice.
        steps: Optimiser steps.
        shares: Pool -> chips of it in a batch.
        views: Random views of every chip.
        side_px: Of the views.
        label_share: How often a chip with captions is named by its class instead.
        learning_rate, weight_decay, warmup: AdamW with a cosine.
        dropout: Of the pooled features.
        common: A word goes with any class when captions of at least this share of the classes use it.
    """

    shares: dict[str, int]
    after: str = "configs/mini_1.toml"
    seed: int = 0
    steps: int = 600
    views: int = 2
    side_px: int = 96
    label_share: float = 0.4
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warmup: int = 50
    dropout: float = 0.1
    common: float = 0.8

    def __post_init__(self) -> None:
        if self.steps < 1 or self.views < 1 or sum(self.shares.values()) < 2:
            raise UsageError("steps, views and the batch must be positive")


def pooled_features(towers: DualTower, pool: Pool, config: Config) -> Tensor:
    """[views, N, C] of random views; the towers in evaluation mode."""
    generator = torch.Generator().manual_seed(config.seed)
    out = []
    with torch.inference_mode():
        for _ in range(config.views):
            for chips in torch.split(torch.from_numpy(pool.pixels), mini.CHUNK):
                views = random_views(chips, config.side_px, ViewRanges(), generator)
                out.append(towers.image.features(views.contiguous(memory_format=torch.channels_last)).mean((2, 3)))
    return torch.cat(out).reshape(config.views, len(pool.pixels), -1).clone()


def batches(
    config: Config, pools: dict[str, Pool], features: dict[str, Tensor], common: NDArray[np.int64], concepts: int
) -> Iterator[mini.Batch]:
    """Batch k depends on the seed and k alone; its `views` are features [B, C]."""
    for step in range(config.steps):
        rng = np.random.default_rng((config.seed, step))
        seen, columns = [], []
        for source, (name, count) in enumerate(config.shares.items()):
            pool = pools[name]
            chips, rows, named = pool.draw(min(count, len(pool.pixels)), config.label_share, rng)
            for at in np.flatnonzero(named >= 0):
                rows[at] = phrase(pool.label_texts[int(named[at])], common, rows.shape[1], rng)
            seen.append(features[name][torch.from_numpy(rng.integers(0, config.views, len(chips))), chips])
            columns.append((vary_tokens(rows, concepts, rng), named, pool.labels[chips], np.full(len(chips), source)))
        joined = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*columns, strict=True))
        yield mini.Batch(torch.cat(seen), *joined)


def loss_of(towers: DualTower, batch: mini.Batch, kin: Tensor, dropout: float) -> Tensor:
    """Multi-positive InfoNCE, as in recipe mini."""
    images = F.normalize(towers.image.project(F.dropout(batch.views, dropout)), dim=1)
    longest = int((batch.tokens != PAD).sum(1).max())
    texts = F.normalize(towers.text(batch.tokens[:, :longest]), dim=1)
    fits = torch.eye(len(images), dtype=torch.bool) | same_text(batch.tokens)
    fits |= label_positives(batch.text_labels, batch.labels, kin)
    unsure = maybe_positives(batch.labels, batch.sources, kin) & ~fits
    return multi_positive_nce(images, texts, towers.scale(), fits, unsure)


def free_parameters(towers: DualTower) -> list[nn.Parameter]:
    """All but the image tower's convolutions and norms."""
    for parameter in towers.image.parameters():
        parameter.requires_grad_(False)
    for parameter in towers.image.project.parameters():
        parameter.requires_grad_(True)
    return [p for p in towers.parameters() if p.requires_grad]


def run(config: Config, data: Path, out: Path) -> Path:
    """Train; returns the file of the final weights. Features are kept in `out`, so a second run only trains."""
    before = out / "before"
    base = load_config(mini.Config, Path(config.after))
    if not (before / "final.pt").is_file():
        mini.run(base, data, before)
    (out / "tokenizer.json").write_bytes((before / "tokenizer.json").read_bytes())
    pools, tokenizer, names = mini.build_pools(base, data, before)
    state = torch.load(before / "final.pt", weights_only=True)
    towers = DualTower(TowerShape(**state["shape"]))
    towers.load_state_dict(state["weights"])
    towers.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    features = {name: _stored(out, name, towers, pools[name], config) for name in config.shares}
    common = common_words(pools["rsicd"], config.common, len(tokenizer.names))
    facts = json.loads((before / "run.json").read_text("utf-8"))
    facts["words"] = {"config": asdict(config), "common": [tokenizer.names[token] for token in common]}
    (out / "run.json").write_text(json.dumps(facts, indent=2))
    _train(config, towers, batches(config, pools, features, common, tokenizer.concepts), torch.from_numpy(names.kin()))
    final = out / "final.pt"
    torch.save({"shape": state["shape"], "weights": towers.state_dict()}, final)
    return final


def _train(config: Config, towers: DualTower, stream: Iterator[mini.Batch], kin: Tensor) -> None:
    free = free_parameters(towers)
    optimizer = torch.optim.AdamW(free, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    for step, batch in enumerate(stream):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * cosine_schedule(step, config.steps, config.warmup)
        torch.manual_seed(config.seed * 1_000_003 + step)
        loss = loss_of(towers, batch, kin, config.dropout)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(free, 5.0)
        optimizer.step()
        if (step + 1) % 20 == 0:
            log.info("step %d  contrast %.3f", step + 1, loss.item())


def _stored(out: Path, name: str, towers: DualTower, pool: Pool, config: Config) -> Tensor:
    file = out / f"features-{name}-{config.seed}-{config.views}-{config.side_px}.pt"
    if not file.is_file():
        log.info("reading the features of %d chips of %s", len(pool.pixels), name)
        torch.save(pooled_features(towers, pool, config), file)
    found: Tensor = torch.load(file, weights_only=True)
    return found


def main() -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/mini_words.toml"))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds rsicd/, eurosat/ and vhr10/")
    parser.add_argument("--out", type=Path, required=True, help="run folder; the run before it lies in its `before`")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.out.mkdir(parents=True, exist_ok=True)
    run(load_config(Config, args.config), args.data, args.out)


if __name__ == "__main__":
    main()
