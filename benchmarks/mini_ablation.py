"""What decided geoglot-mini: short runs from the same weights that differ in one choice each.

    python benchmarks/mini_ablation.py --data ../shared/data --before runs/blend/words/before/before --out runs/ablation

Each variant is the recipe of configs/mini_1.toml cut to `--steps` steps (its schedule shrinks with it), seed by seed.
Measured on RSICD valid and on the EuroSAT test split, which is in-domain. UC Merced is never looked at. A finished
variant is not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geoglot.config import load_config
from geoglot.data.samples import Sample, load_pixels, read_samples
from geoglot.errors import UnknownWordsError
from geoglot.evaluation.metrics import top1
from geoglot.evaluation.questions import prompts
from geoglot.evaluation.retrieval import retrieve, rows_task
from geoglot.models.export.towers import load_towers
from geoglot.models.tokenizers.concepts import ConceptTokenizer
from geoglot.models.towers.convnet_training import DualTower
from geoglot.training.recipes import mini

VARIANTS: dict[str, dict[str, object]] = {
    "as shipped": {},
    "names not shared between sources": {"share_names": False},
    "no object chips": {"vhr10": 0, "rsicd": 88},
    "no drawn chips": {"sandbox": 0, "rsicd": 88},
    "EuroSAT share of version 0": {"eurosat": 36, "rsicd": 108},
    "no class head": {"head_weight": 0.0},
}


def embed(towers: DualTower, samples: list[Sample], side_px: int) -> NDArray[np.float32]:
    """[N, D], unit norm."""
    out = []
    with torch.inference_mode():
        for at in range(0, len(samples), 64):
            chips = torch.from_numpy(load_pixels(samples[at : at + 64], side_px)).permute(0, 3, 1, 2).float() / 255
            out.append(torch.nn.functional.normalize(towers.image(chips), dim=1).numpy())
    return np.concatenate(out)


def read(towers: DualTower, tokenizer: ConceptTokenizer, texts: list[str]) -> NDArray[np.float32]:
    """[M, D], unit norm; zeros for a text of unknown words, which so finds nothing."""
    out = np.zeros((len(texts), towers.shape.dim), np.float32)
    with torch.inference_mode():
        for row, text in zip(out, texts, strict=True):
            try:
                tokens = torch.from_numpy(tokenizer([text]))
            except UnknownWordsError:
                continue
            row[:] = torch.nn.functional.normalize(towers.text(tokens), dim=1)[0].numpy()
    return out


def measure(run: Path, data: Path, side_px: int) -> dict[str, float]:
    """RSICD valid mR and EuroSAT test top-1, percent, of the fp32 weights."""
    towers = load_towers(run / "final.pt").eval()
    tokenizer = ConceptTokenizer.load(run / "tokenizer.json")
    valid = read_samples(data / "rsicd" / "captions.jsonl", "valid")
    task = rows_task(valid)
    numbers = retrieve(read(towers, tokenizer, list(task.texts)), embed(towers, valid, side_px), task)
    test = read_samples(data / "eurosat" / "labels.jsonl", "test")
    asked = prompts("eurosat", "en")
    labels = np.array([list(asked).index(str(s.label)) for s in test])
    found = embed(towers, test, side_px) @ read(towers, tokenizer, list(asked.values())).T
    recall = next(n.value for n in numbers if n.metric == "mR")
    return {"rsicd_valid_mR": recall, "eurosat_test_top1": top1(found, labels)}


def main() -> None:
    """Run what is missing, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--before", type=Path, required=True, help="finished run folder of configs/mini.toml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--side-px", type=int, default=96)
    args = parser.parse_args()
    base = load_config(mini.Config, Path("configs/mini_1.toml"))
    rows = []
    for name, changes in VARIANTS.items():
        for seed in args.seeds:
            folder = args.out / f"{name.replace(' ', '-')}-{args.steps}-{seed}"
            answer = folder / "measured.json"
            if not answer.is_file():
                (folder / "before").mkdir(parents=True, exist_ok=True)
                for file in ("final.pt", "tokenizer.json", *(p.name for p in args.before.glob("sandbox-*.npz"))):
                    if not (folder / "before" / file).exists():
                        shutil.copyfile(args.before / file, folder / "before" / file)
                mini.run(replace(base, steps=args.steps, seed=seed, warmup=20, **changes), args.data, folder)
                answer.write_text(json.dumps(measure(folder, args.data, args.side_px)))
            rows.append({"variant": name, "seed": seed, **json.loads(answer.read_text())})
            print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
