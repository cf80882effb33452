"""From a finished run of recipe `mini_blend` to a PyTorch model folder: the same weights, to be tuned further.

    python -m geoglot.evaluation.release_torch --run runs/blend --data ../shared/data --image-px 96 --out mini-torch

It says how well the folder agrees with a light model (`--like`, default the bundled one), as cosines on RSICD `valid`.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from geoglot.data.samples import load_pixels, read_samples
from geoglot.evaluation.release import background_prompts, freeze_tokenizer
from geoglot.files import sha256
from geoglot.models.card import Card
from geoglot.models.encoder import DualEncoder, Vectors
from geoglot.models.load import load_encoder
from geoglot.models.zoo.card_toml import card_values, write_card
from geoglot.models.zoo.registry import DEFAULT_MODEL

log = logging.getLogger("geoglot.release")

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"


def release_torch(run: Path, image_px: int, out: Path, prose: Path, name: str = "geoglot-mini-torch") -> Card:
    """Write `card.toml`, weights and tokenizer. A second.

    Args:
        run: Folder of the finished run.
        image_px: Side of the model's input.
        out: Folder to write; files of the same names are replaced.
        prose: TOML with the card's fixed part.
        name: Of the model.

    Raises:
        ModelFileError: The run holds no trained towers.
    """
    from geoglot.models.checkpoints.convert import write_safetensors
    from geoglot.models.export.towers import load_towers
    from geoglot.models.towers.convnet import architecture_of, canonical_names
    from geoglot.models.towers.convnet_training import MEAN, STD

    towers = load_towers(run / "final.pt")
    architecture = architecture_of(towers.shape, image_px)
    out.mkdir(parents=True, exist_ok=True)
    write_safetensors(canonical_names(towers.state_dict()), out / WEIGHTS, {})
    tokenizer = freeze_tokenizer(run)
    tokenizer.save(out / TOKENIZER)
    values: dict[str, Any] = {**card_values(prose), "name": name, "image_px": image_px}
    values["background"] = list(background_prompts(tokenizer))
    values["architecture"] = asdict(architecture)
    values["preprocess"] = {"mean": [MEAN] * 3, "std": [STD] * 3, "resize": "squash"}
    values["tokenizer"] = {"kind": "concepts"}
    files = {"weights": WEIGHTS, "tokenizer": TOKENIZER}
    values["files"] = {role: {"file": file, "sha256": sha256(out / file)} for role, file in files.items()}
    return write_card(out, values)


def agreement(one: DualEncoder, other: DualEncoder, data: Path) -> dict[str, tuple[float, float]]:
    """Least and mean cosine between two models' vectors of 200 images of RSICD `valid` and of their first captions."""
    samples = read_samples(data / "rsicd" / "captions.jsonl", "valid")[:200]
    pixels = load_pixels(samples, one.card.image_px)
    texts = [sample.captions[0] for sample in samples]
    return {
        "images": _cosines(one.encode_images(pixels), other.encode_images(pixels)),
        "texts": _cosines(one.encode_texts(texts), other.encode_texts(texts)),
    }


def _cosines(left: Vectors, right: Vectors) -> tuple[float, float]:
    found = np.sum(left * right, axis=1)
    return float(found.min()), float(found.mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder that holds rsicd/; without it nothing is compared")
    parser.add_argument("--image-px", type=int, default=96)
    parser.add_argument("--like", default=DEFAULT_MODEL)
    parser.add_argument("--prose", type=Path, default=Path("configs/mini_card.toml"))
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    card = release_torch(args.run, args.image_px, args.out, args.prose)
    log.info("%s %s in %s", card.name, card.version, args.out)
    if args.data:
        found = agreement(load_encoder(str(args.out), runtime="torch"), load_encoder(args.like), args.data)
        for what, (least, mean) in found.items():
            log.info("%s as %s: cosine at least %.5f, on average %.5f", what, args.like, least, mean)


if __name__ == "__main__":
    main()
