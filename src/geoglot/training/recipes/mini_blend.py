"""Recipe `mini_blend`: the bundled model, a weighted mean of two runs that begin with the same weights.

    python -m geoglot.training.recipes.mini_blend --config configs/mini_blend.toml --data ../shared/data --out runs/b

Implements: WiSE-FT (arXiv 2109.01903, Eq. 1) between two tuned models, as model soups do (arXiv 2203.05482). One run
knows class names in sentences (recipe `mini_words`), the other captions (recipe `mini`, later configs); the mean has
most of both. Both runs are trained if they are absent: `out/captions` with its chain of `before` folders, and
`out/words`, which begins with a run of that chain.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from geoglot.config import load_config
from geoglot.errors import UsageError
from geoglot.training.recipes import mini, mini_words
from geoglot.training.recipes.gaia.interpolation import blend


@dataclass(frozen=True, slots=True)
class Config:
    """The runs that are blended.

    Attributes:
        words: Config of recipe `mini_words`.
        captions: Config of recipe `mini` whose chain of `after` holds the run that `words` begins with.
        alpha: Share of the captions' run in the mean.
    """

    words: str
    captions: str
    alpha: float


def common_run(config: Config, captions: Path) -> Path:
    """Folder of the run, in the captions' chain of runs, that the words begin with.

    Raises:
        UsageError: The two have no run in common, so that their mean would mean nothing.
    """
    wanted = Path(load_config(mini_words.Config, Path(config.words)).after)
    at, folder = config.captions, captions
    while at and Path(at) != wanted:
        at, folder = load_config(mini.Config, Path(at)).after, folder / "before"
    if not at:
        raise UsageError(f"{config.captions} does not go on from {wanted}, which {config.words} begins with")
    return folder


def run(config: Config, data: Path, out: Path) -> Path:
    """Train what is missing and write the mean; returns the file of the final weights."""
    captions, words = out / "captions", out / "words"
    shared = common_run(config, captions)
    if not (captions / "final.pt").is_file():
        mini.run(load_config(mini.Config, Path(config.captions)), data, captions)
    if not (words / "final.pt").is_file():
        words.mkdir(parents=True, exist_ok=True)
        if not (words / "before").exists():
            (words / "before").symlink_to(shared.resolve(), target_is_directory=True)
        mini_words.run(load_config(mini_words.Config, Path(config.words)), data, words)
    first, second = (torch.load(folder / "final.pt", weights_only=True) for folder in (words, captions))
    final = out / "final.pt"
    torch.save({"shape": second["shape"], "weights": blend(first["weights"], second["weights"], config.alpha)}, final)
    for name in ("tokenizer.json", "run.json"):
        shutil.copyfile(captions / name, out / name)
    return final


def main() -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/mini_blend.toml"))
    parser.add_argument("--data", type=Path, required=True, help="folder of rsicd/, eurosat/, vhr10/ and dubai/")
    parser.add_argument("--out", type=Path, required=True, help="run folder; unfinished runs in it are continued")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run(load_config(Config, args.config), args.data, args.out)


if __name__ == "__main__":
    main()
