"""From a finished run of recipe `mini` to the model that ships: export, quantise, calibrate, write the card.

    python -m geoglot.evaluation.release --run runs/mini --data ../shared/data --image-px 112 --out my-model

Everything that is chosen here is chosen on RSICD `valid` and on sandbox chips that training did not draw; nothing looks
at a test set.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.data.drawn import KINDS, draw_sample
from geoglot.data.glossary import concepts
from geoglot.data.samples import Sample, load_pixels, read_samples
from geoglot.evaluation.embeddings import encode_samples
from geoglot.evaluation.retrieval import caption_retrieval
from geoglot.files import sha256
from geoglot.models.card import CARD_FILE, Card, read_card
from geoglot.models.encoder import DualEncoder, Vectors
from geoglot.models.load import load_encoder
from geoglot.models.tokenizers.concepts import ConceptTokenizer
from geoglot.scoring.calibration import Scorer, logistic
from geoglot.scoring.fit import fit_calibration
from geoglot.types import Calibration

log = logging.getLogger("geoglot.release")

FILES = {"image": "image.onnx", "text": "text.onnx", "tokenizer": "tokenizer.json"}
TEMPERATURES = (5.0, 10.0, 20.0, 30.0, 40.0)
DRAWN, DRAWN_SEED = 12, 5_000_000  # chips of each kind, from seeds that no training run uses
FOUND = 0.9  # our choice: a missed answer annoys more than a doubtful one, which carries its confidence
BACKGROUND_KINDS = ("land_use", "land_cover", "object")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A small archive of which the truth is known: vectors [N, D], queries [K, D], truth bool [N, K]."""

    images: Vectors
    queries: Vectors
    truth: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fit:
    """The result of a calibration.

    Attributes:
        calibration: For the card.
        found: Percent of classes whose best image passes the threshold.
        refused: Percent of classes answered "nothing matches" once their images are taken out.
        log_loss: Mean, in nats, of the confidence of (image, class) pairs.
    """

    calibration: Calibration
    found: float
    refused: float
    log_loss: float


def freeze_tokenizer(run: Path) -> ConceptTokenizer:
    """The run's token ids, today's spellings, and what the run never met."""
    trained = ConceptTokenizer.load(run / "tokenizer.json")
    unlearned = frozenset(json.loads((run / "run.json").read_text("utf-8"))["unlearned"])
    return replace(trained.respelled(), unlearned=unlearned)


def background_prompts(tokenizer: ConceptTokenizer) -> tuple[str, ...]:
    """Names of all places and things that training met: what a chip may show instead."""
    met = {name for token, name in enumerate(tokenizer.names) if token and token not in tokenizer.unlearned}
    return tuple(c.name() for c in concepts().values() if c.kind in BACKGROUND_KINDS and c.id in met)


def fit(archives: Sequence[Labelled], prompts: Vectors) -> Fit:
    """Fit temperature, slope, offset and threshold over several labelled archives, each with its own background.

    Args:
        archives: At least two unlike ones, or the threshold holds for one kind of imagery only.
        prompts: The background prompts' vectors [P, D].
    """
    fits = [fit_at(archives, prompts, Calibration(temperature)) for temperature in TEMPERATURES]
    return min(fits, key=lambda found: found.log_loss)


def fit_at(archives: Sequence[Labelled], prompts: Vectors, calibration: Calibration) -> Fit:
    """As `fit`, with the temperature and likeness of `calibration`."""
    z = []
    for a in archives:
        scorer = Scorer.measured(a.images, prompts, calibration)
        z.append(np.stack([scorer.standard_margins(a.images, query) for query in a.queries], 1))
    truth = np.concatenate([a.truth.ravel() for a in archives])
    slope, offset = fit_calibration(np.concatenate([part.ravel() for part in z]), truth)
    chance = [logistic(slope * part + offset) for part in z]
    there = np.concatenate([part.max(0) for part in chance])
    gone = np.concatenate([np.where(a.truth, 0.0, part).max(0) for a, part in zip(archives, chance, strict=True)])
    threshold = float(np.quantile(there, 1 - FOUND))
    flat = np.concatenate([part.ravel() for part in chance])
    loss = float(-np.log(np.where(truth, flat, 1 - flat).clip(1e-9)).mean())
    fitted = replace(calibration, slope=slope, offset=offset, threshold=threshold)
    return Fit(fitted, 100 * float((there >= threshold).mean()), 100 * float((gone < threshold).mean()), loss)


def release(run: Path, data: Path, image_px: int, out: Path, prose: Path, *, precision: str = "int8") -> Card:
    """Write a model folder. About two minutes.

    Args:
        run: Folder of the finished run.
        data: Folder that holds rsicd/.
        image_px: Side of the model's input.
        out: Folder to write; files of the same names are replaced.
        prose: TOML with the card's fixed part.
        precision: "int8" or "fp32" image tower.
    """
    from geoglot.models.export.towers import (
        PATCH_PX,
        export_image,
        export_text,
        load_towers,
        quantize_image,
        strip_traces,
    )

    towers = load_towers(run / "final.pt")
    tokenizer = freeze_tokenizer(run)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        tokenizer.save(work / FILES["tokenizer"])
        export_text(towers, work / FILES["text"])
        export_image(towers, image_px, work / "fp32.onnx")
        shutil.copy(work / "fp32.onnx", work / FILES["image"])
        if precision == "int8":
            chips = read_samples(data / "rsicd" / "captions.jsonl", "train")[::34]
            quantize_image(work / "fp32.onnx", work / FILES["image"], load_pixels(chips, image_px))
        strip_traces(work / FILES["image"])
        strip_traces(work / FILES["text"])
        background = background_prompts(tokenizer)
        head = {"image_px": image_px, "patch_px": PATCH_PX, "background": list(background)}
        _write_card(work, prose, head, Calibration(), {})
        encoder = load_encoder(str(work))
        valid = read_samples(data / "rsicd" / "captions.jsonl", "valid")
        images = encode_samples(encoder, valid)
        prompts = encoder.encode_texts(encoder.card.background)
        found = fit(labelled_archives(valid, images, encoder), prompts)
        measured = {"rsicd_valid_mR": round(_mr(encoder, valid, images), 2), "precision": precision}
        measured |= {"present_found": round(found.found, 1), "absent_refused": round(found.refused, 1)}
        _write_card(work, prose, head, found.calibration, measured)
        (work / "fp32.onnx").unlink()
        out.mkdir(parents=True, exist_ok=True)
        for path in work.iterdir():
            shutil.copyfile(path, out / path.name)
    card = read_card(out)
    card.verify()
    return card


def labelled_archives(valid: Sequence[Sample], images: Vectors, encoder: DualEncoder) -> list[Labelled]:
    """The labelled part of RSICD `valid`, and freshly drawn sandbox chips; classes by the names of the recipe."""
    spoken = tomllib.loads(Path("configs/mini_labels.toml").read_text("utf-8"))
    known = [index for index, sample in enumerate(valid) if sample.label]
    real = _labelled(images[known], [str(valid[index].label) for index in known], spoken["rsicd"], encoder)
    drawn = [(kind, DRAWN_SEED + index) for kind in KINDS for index in range(DRAWN)]
    chips = np.stack([draw_sample(kind, seed=seed, size_px=encoder.card.image_px).rgb for kind, seed in drawn])
    return [real, _labelled(encoder.encode_images(chips), [kind for kind, _ in drawn], spoken["sandbox"], encoder)]


def _labelled(images: Vectors, labels: list[str], spoken: dict[str, list[str]], encoder: DualEncoder) -> Labelled:
    names = sorted(set(labels))
    queries = encoder.encode_texts([spoken.get(name, [name.replace("_", " ")])[0] for name in names])
    return Labelled(images, queries, np.array(labels)[:, None] == np.array(names)[None, :])


def _mr(encoder: DualEncoder, valid: Sequence[Sample], images: Vectors) -> float:
    return next(n.value for n in caption_retrieval(encoder, valid, images) if n.metric == "mR")


def _write_card(
    folder: Path, prose: Path, head: dict[str, Any], calibration: Calibration, measured: dict[str, Any]
) -> None:
    """Fixed prose, then what this release decided; TOML wants top-level keys before tables, so the prose comes last."""
    files = {role: {"file": name, "sha256": sha256(folder / name)} for role, name in FILES.items()}
    values = {field: getattr(calibration, field) for field in Calibration.__dataclass_fields__}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    lines.append(prose.read_text("utf-8").strip())
    lines += ["", "[calibration]", *(f"{key} = {value}" for key, value in values.items())]
    lines += ["", "[validation]", *(f"{key} = {json.dumps(value)}" for key, value in measured.items())]
    for role, entry in files.items():
        lines += ["", f"[files.{role}]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items())]
    (folder / CARD_FILE).write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image-px", type=int, default=112)
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    parser.add_argument("--prose", type=Path, default=Path("configs/mini_card.toml"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    card = release(args.run, args.data, args.image_px, args.out, args.prose, precision=args.precision)
    log.info("%s %s in %s: %s", card.name, card.version, args.out, card.about["validation"])


if __name__ == "__main__":
    main()
