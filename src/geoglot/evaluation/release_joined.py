"""From a finished run of recipe `pair` to a model folder: export, calibrate, write the card.

    python -m geoglot.evaluation.release_joined --run runs/mini-3 --data ../shared/data --image-px 128 --out my-model

What is chosen here is chosen on RSICD `valid` and on drawn chips that training did not draw, never on a test set.
"""

from __future__ import annotations

import argparse
import logging
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geoglot.data.glossary import LANGUAGES, concepts, templates
from geoglot.data.samples import load_pixels, read_samples
from geoglot.evaluation.embeddings import encode_samples
from geoglot.evaluation.release import BACKGROUND_KINDS, FILES, fit, labelled_archives
from geoglot.evaluation.retrieval import caption_retrieval
from geoglot.files import sha256
from geoglot.models.card import CARD_FILE, Card, read_card
from geoglot.models.load import load_encoder
from geoglot.models.zoo.card_toml import write_card

log = logging.getLogger("geoglot.release")

CALIBRATION_STEP = 34  # every 34th image of RSICD train: 257 chips for the ranges of int8
COMMON_WORDS = 20_000  # of each language, whose pieces the text side keeps


def release(run: Path, data: Path, image_px: int, out: Path, prose: Path, *, precision: str = "int8") -> Card:
    """Write a model folder. Some minutes.

    Args:
        run: Folder of the finished run.
        data: Folder that holds rsicd/.
        image_px: Side of the model's input.
        out: Folder to write; files of the same names are replaced.
        prose: TOML with the card's fixed part.
        precision: "int8" or "fp32" convolutions.
    """
    out.mkdir(parents=True, exist_ok=True)
    _export(run, data, image_px, out, precision)
    return calibrate(data, image_px, out, prose, precision=precision)


def calibrate(data: Path, image_px: int, out: Path, prose: Path, *, precision: str = "int8") -> Card:
    """Fit the confidence of an exported model and write its card; see `release`."""
    values = _values(out, prose, image_px)
    encoder = load_encoder(str(write_card(out, values).folder))
    valid = read_samples(data / "rsicd" / "captions.jsonl", "valid")
    images = encode_samples(encoder, valid)
    found = fit(labelled_archives(valid, images, encoder), encoder.encode_texts(encoder.card.background))
    mean_recall = next(n.value for n in caption_retrieval(encoder, valid, images) if n.metric == "mR")
    values["calibration"] = asdict(found.calibration)
    values["validation"] = {
        "rsicd_valid_mR": round(mean_recall, 2),
        "precision": precision,
        "present_found": round(found.found, 1),
        "absent_refused": round(found.refused, 1),
    }
    write_card(out, values)
    card = read_card(out)
    card.verify()
    return card


def _export(run: Path, data: Path, image_px: int, out: Path, precision: str) -> None:
    from geoglot.models.export.joined import write_image
    from geoglot.models.export.sentence_text import write_text
    from geoglot.models.parts.joined import load_joined
    from geoglot.models.parts.use import read_use

    towers = load_joined(run / "towers.pt")
    chips = None
    if precision == "int8":
        samples = read_samples(data / "rsicd" / "captions.jsonl", "train")[::CALIBRATION_STEP]
        chips = load_pixels(samples, image_px)
    write_image(towers, image_px, out / FILES["image"], chips)
    write_text(read_use(), towers.text_head, out, kept_texts(data))


def kept_texts(data: Path) -> Iterator[str]:
    """What decides the pieces that the text side keeps: captions, the glossary, and the commonest words."""
    from geoglot.models.parts.words import common_words

    for sample in read_samples(data / "rsicd" / "captions.jsonl", "train"):
        yield from sample.captions
    for concept in concepts().values():
        yield from (*concept.looks.fine, *concept.looks.coarse)
        for forms in concept.forms.values():
            yield from (form.replace("*", "") for form in forms)
    for frames in templates().values():
        yield from (*frames.image, *frames.query, *frames.noise)
    yield from common_words(LANGUAGES, COMMON_WORDS)


def _values(folder: Path, prose: Path, image_px: int) -> dict[str, Any]:
    from geoglot.models.parts.joined import PATCH_PX

    background = [concept.name() for concept in concepts().values() if concept.kind in BACKGROUND_KINDS]
    files = sorted(path for path in folder.iterdir() if path.name != CARD_FILE)
    values: dict[str, Any] = {"image_px": image_px, "patch_px": PATCH_PX, "background": background}
    values |= tomllib.loads(prose.read_text("utf-8"))
    values["tokenizer"] = {"kind": "unigram"}
    values["files"] = {_role(path.name): {"file": path.name, "sha256": sha256(path)} for path in files}
    return values


def _role(file: str) -> str:
    """image.onnx is "image", text.onnx.data "text_data", tokenizer.json "tokenizer"."""
    stem, _, rest = file.partition(".")
    return f"{stem}_data" if rest == "onnx.data" else stem


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image-px", type=int, default=128)
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    parser.add_argument("--prose", type=Path, default=Path("configs/pair_card.toml"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    card = release(args.run, args.data, args.image_px, args.out, args.prose, precision=args.precision)
    log.info("%s %s in %s: %s", card.name, card.version, args.out, card.about["validation"])


if __name__ == "__main__":
    main()
