"""Any dual encoder that PyTorch runs -> a folder for the light runtime, and how far the two agree.

The agreement is measured through both runtimes from end to end, tokenizer and preprocessing included, on chips and
texts that the caller gives, and is written into the card of the exported model.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from geoglot.data.glossary import LANGUAGES, concepts, templates
from geoglot.errors import DisagreementError, ModelFileError
from geoglot.files import sha256
from geoglot.models.card import CARD_FILE, Card, read_card
from geoglot.models.encoder import Images, Vectors
from geoglot.models.export.graphs import ImageGraph, TextGraph
from geoglot.models.export.int8 import LADDER, quantize_products
from geoglot.models.export.towers import strip_traces, write_graph
from geoglot.models.onnx_encoder import LightEncoder
from geoglot.models.tokenizers.clip_bpe import write_merges
from geoglot.models.torch_encoder import TorchEncoder, load_weights
from geoglot.models.towers.architecture import Architecture
from geoglot.models.towers.preprocess import check_images, fit
from geoglot.models.zoo.card_toml import card_values, write_card
from geoglot.models.zoo.compare import Agreement, agreement
from geoglot.models.zoo.origin import Preprocess

Precision = Literal["fp32", "int8"]
BARS: dict[Precision, float] = {"fp32": 0.9999, "int8": 0.99}
"""Least cosine, over all chips and texts, between an exported model's vector and the original's."""
SENTENCES = 64


@dataclass(frozen=True, slots=True)
class _Work:
    """The inputs of one export: the original, its description, and its vectors of the chips and texts."""

    card: Card
    architecture: Architecture
    preprocess: Preprocess
    precision: Precision
    images: Images
    texts: tuple[str, ...]
    vectors: tuple[Vectors, Vectors]


def export_model(
    card: Card,
    out: Path,
    *,
    precision: Precision,
    chips: Images,
    chips_from: str,
    name: str | None = None,
    allow_below: bool = False,
) -> Card:
    """Write a light model folder. Minutes for a ViT-B, most of it in the exporter; needs the extra `export`.

    int8 that falls below the bar is tried again with more parts left in fp32 (see int8.LADDER).

    Args:
        card: Of an installed model with PyTorch weights.
        out: An empty folder.
        precision: Of the matrix products. Everything else is fp32.
        chips: uint8 [N, H, W, 3], two at least, to measure the agreement on.
        chips_from: Where they come from, for the card.
        name: Of the exported model; default `<name>-<precision>`.
        allow_below: Keep a model that agrees less than BARS ask for.

    Returns:
        The exported model's card; its `about["export"]` has the agreement.

    Raises:
        DisagreementError: Below the bar.
        ModelFileError: The model is not one that PyTorch runs, or its files are wrong.
        MissingExtraError: The exporter is not installed.
    """
    work = _prepare(card, precision, chips)
    _write_tokenizer(work, out)
    values = _card_values(work, name or f"{card.name}-{precision}")
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        plain = Path(scratch)
        _write_graphs(work, plain)
        for keep in LADDER if precision == "int8" else ((),):
            kept = _fill(work, plain, out, keep)
            found, exported = _measure(work, out, values, kept, chips_from)
            if least(found) >= BARS[precision]:
                return exported
    if not allow_below:
        raise DisagreementError(
            f"{precision} vectors of {card.name!r} agree with the original to a cosine of {least(found):.4f} at worst; "
            f"the bar is {BARS[precision]}",
            hint="Export fp32, or allow it (--allow-below) and measure what it costs your task.",
        )
    return exported


def least(found: Agreement) -> float:
    """The worst cosine over pictures and texts."""
    assert found.image_cosine is not None  # the widths are equal: one model
    assert found.text_cosine is not None
    return min(found.image_cosine[1], found.text_cosine[1])


def sentences_for(card: Card) -> tuple[str, ...]:
    """Captions and questions in the model's languages, from the glossary, to measure texts on."""
    spoken = [language for language in card.languages if language in LANGUAGES] or ["en"]
    things = list(concepts().values())
    found = []
    for at in range(SENTENCES):
        language = spoken[at % len(spoken)]
        frames = templates()[language].image + templates()[language].query
        found.append(frames[at % len(frames)].replace("{c}", things[at * 5 % len(things)].name(language)))
    return tuple(found)


def _prepare(card: Card, precision: Precision, chips: Images) -> _Work:
    original = TorchEncoder(card, device="cpu", precision="fp32")
    if card.architecture is None or card.preprocess is None:
        raise ModelFileError(f"the card of {card.name!r} does not describe a model that PyTorch runs")
    images = fit(check_images(chips), card.image_px, card.preprocess)
    texts = sentences_for(card)
    vectors = original.encode_images(images), original.encode_texts(texts)
    return _Work(card, card.architecture, card.preprocess, precision, images, texts, vectors)


def _write_tokenizer(work: _Work, out: Path) -> None:
    """CLIP's as plain merges, which open quickest; others as they are."""
    source = work.card.file("tokenizer")
    if work.card.tokenizer and work.card.tokenizer.kind == "clip_bpe":
        write_merges(source, out / "merges.txt", work.architecture.text.vocabulary)
    else:
        shutil.copyfile(source, out / "tokenizer.json")


def _write_graphs(work: _Work, folder: Path) -> None:
    """fp32 graphs, the exporter's notes still in them."""
    text, side = work.architecture.text, work.card.image_px
    pixels = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    write_graph(ImageGraph(_model(work), work.preprocess).eval(), pixels, "images", folder / "image.onnx")
    model = _model(work)
    free = model.trims  # a tower that reads its padding, too, has a fixed length
    tokens = torch.ones(2, text.context - 1 if free else text.context, dtype=torch.int64)
    length = {1: torch.export.Dim("length", min=3, max=text.context)} if free else None
    write_graph(TextGraph(model).eval(), tokens, "tokens", folder / "text.onnx", length)


def _model(work: _Work) -> Any:
    return load_weights(work.card, work.architecture, torch.device("cpu"), torch.float32)


def _fill(work: _Work, plain: Path, out: Path, keep: tuple[str, ...]) -> tuple[str, ...]:
    """Put both graphs of the wanted precision into the folder; the parts that stayed fp32."""
    kept: tuple[str, ...] = ()
    for name in ("image.onnx", "text.onnx"):
        if work.precision == "int8":
            kept += quantize_products(plain / name, out / name, keep)
        else:
            for part in plain.glob(f"{name}*"):
                shutil.copyfile(part, out / part.name)
        strip_traces(out / name)
    return kept


def _card_values(work: _Work, name: str) -> dict[str, Any]:
    values = card_values(work.card.folder / CARD_FILE)
    values["name"] = name
    return values


def _measure(
    work: _Work, out: Path, values: dict[str, Any], kept: tuple[str, ...], chips_from: str
) -> tuple[Agreement, Card]:
    """Write the card, run the folder, write the agreement into the card."""
    values["files"] = {_role(p.name): {"file": p.name, "sha256": sha256(p)} for p in _files(out)}
    exported = LightEncoder(write_card(out, values))
    found = agreement(work.vectors, (exported.encode_images(work.images), exported.encode_texts(work.texts)))
    values["export"] = {
        "from_name": work.card.name,
        "from_fingerprint": work.card.fingerprint,
        "precision": work.precision,
        "agreement": _rounded(asdict(found)),
        "measured_on": chips_from,
        "kept_fp32": list(kept),
        "made_with": [f"{package} {version(package)}" for package in ("torch", "onnx", "onnxruntime")],
    }
    write_card(out, values)
    return found, read_card(out)


def _files(out: Path) -> Sequence[Path]:
    return sorted(path for path in out.iterdir() if path.name != CARD_FILE)


def _role(file: str) -> str:
    """image.onnx is "image", image.onnx.data "image_data"; the rest is the tokenizer."""
    stem, _, rest = file.partition(".onnx")
    return f"{stem}{'_data' if rest else ''}" if ".onnx" in file else "tokenizer"


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: [round(v, 6) for v in value] if isinstance(value, tuple) else round(value, 6)
        for key, value in values.items()
    }
