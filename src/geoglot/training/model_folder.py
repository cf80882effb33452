"""From a model folder to towers that can be trained, and back to a model folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from geoglot.errors import ModelFileError
from geoglot.files import sha256
from geoglot.models.card import CARD_FILE, Card
from geoglot.models.checkpoints.convert import FILE, write_safetensors
from geoglot.models.checkpoints.fold import LONG, SHORT, TABLE, stretch_positions
from geoglot.models.peft.files import save_parts
from geoglot.models.peft.settings import Tuning
from geoglot.models.tokenizers.load import load_tokenizer
from geoglot.models.tokenizers.protocol import Tokenizer
from geoglot.models.torch_encoder import load_weights
from geoglot.models.towers.clip import DualModel, build
from geoglot.models.zoo.card_toml import card_values, write_card

TOWERS = "towers."
PARTS = "parts.safetensors"


@dataclass(frozen=True, slots=True)
class Start:
    """A pretrained model, ready for training.

    Attributes:
        card: Its description.
        towers: fp32, every parameter trainable.
        tokenizer: Of its text tower.
        image_px: S.
        mean, std: Of pixels in [0, 1].
    """

    card: Card
    towers: DualModel
    tokenizer: Tokenizer
    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_start(card: Card) -> Start:
    """Load a model for training.

    Raises:
        ModelFileError: It has no PyTorch weights, or not the right ones, or small parts beside them.
    """
    if card.architecture is None or card.preprocess is None:
        hint = "Start from a model with PyTorch weights: geoglot models list"
        raise ModelFileError(f"{card.name} cannot be trained: its card describes no architecture", hint=hint)
    if "parts" in card.files:
        hint = f"Start from the model they were trained beside: {card.about.get('tuned_from', 'see its card')}"
        raise ModelFileError(f"{card.name} holds small parts, which cannot be trained on", hint=hint)
    towers = load_weights(card, card.architecture, torch.device("cpu"), torch.float32).requires_grad_(True)
    towers.load_state_dict({k: v.clone() for k, v in towers.state_dict().items()}, assign=True)  # off the mapped file
    towers.requires_grad_(True)
    preprocess = card.preprocess
    return Start(card, towers, load_tokenizer(card), card.image_px, preprocess.mean, preprocess.std)


def with_long_text(start: Start) -> Start:
    """The same model with a text tower of 248 tokens instead of 77 (Long-CLIP); one that reads 248 stays as it is.

    Raises:
        ModelFileError: Its text tower has another length, or cannot be stretched.
    """
    shape = start.card.architecture
    if shape is None or shape.text.kind != "clip" or shape.text.context not in (SHORT, LONG):
        hint = "Leave long_text out."
        raise ModelFileError(f"{start.card.name} has no text tower of {SHORT} tokens to stretch", hint=hint)
    if shape.text.context == LONG:
        return start
    longer = replace(shape, text=replace(shape.text, context=LONG))
    weights = start.towers.state_dict()
    weights[TABLE] = stretch_positions(weights[TABLE])
    towers = build(longer, device="meta")
    towers.load_state_dict(weights, strict=True, assign=True)
    card = replace(start.card, architecture=longer)
    return replace(start, card=card, towers=towers.requires_grad_(True), tokenizer=load_tokenizer(card))


def write_model(
    start: Start, weights: Mapping[str, Tensor], folder: Path, name: str, tuning: Tuning | None = None
) -> Card:
    """A model folder of tuned weights: the start's card under a new name, without its calibration and its source.

    Args:
        start: Where training began.
        weights: State of the objective; tensors below `towers.` are the model's.
        folder: To write.
        name: Of the new model.
        tuning: What the start's towers hold that the plain model has not; it is written beside the plain weights.

    Raises:
        StorageError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = {key.removeprefix(TOWERS): value for key, value in weights.items() if key.startswith(TOWERS)}
    if tuning is not None and start.card.architecture:
        save_parts(start.towers, tuning, folder / PARTS, base=start.card.fingerprint)
        own = {key: own[key] for key in build(start.card.architecture, device="meta").state_dict()}
    write_safetensors(own, folder / FILE, {})
    tokenizer = start.card.file("tokenizer")
    shutil.copyfile(tokenizer, folder / tokenizer.name)
    values = card_values(start.card.folder / CARD_FILE)
    for gone in ("source", "calibration", "measured"):
        values.pop(gone, None)
    if start.card.architecture:  # not always what the card says: its text tower may have been stretched
        values["architecture"] = asdict(start.card.architecture)
    files = {"weights": folder / FILE, "tokenizer": folder / tokenizer.name}
    files |= {} if tuning is None else {"parts": folder / PARTS}
    table = {role: {"file": path.name, "sha256": sha256(path)} for role, path in files.items()}
    values |= {"name": name, "version": "1", "tuned_from": f"{start.card.name} {start.card.version}", "files": table}
    return write_card(folder, values)
