"""The card: the TOML that describes a model, its files, what it was trained on, what it can and cannot do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoglot.config import from_table, read_toml
from geoglot.errors import ModelFileError, ModelNotFoundError, UsageError
from geoglot.files import sha256
from geoglot.models.towers.architecture import Architecture, identity_of
from geoglot.models.zoo.origin import NO_DOUBTS, Doubts, Licence, Preprocess, Source, TokenizerSource
from geoglot.types import Calibration

CARD_FILE = "card.toml"


@dataclass(frozen=True, slots=True)
class Card:
    """A model, described.

    Attributes:
        name: The one name a user types.
        version: Of the weights.
        dim: D, the joint embedding's width.
        image_px: S, the side in pixels of the square RGB input.
        patch_px: Side in pixels of the places that the light image graph tells apart; None where it does not.
        languages: ISO 639-1 codes the text side reads.
        gsd_m: (finest, coarsest) metres per pixel of the training imagery; None when it is not stated.
        ground_m: Sides of chips on the ground, in metres, that suit the model; empty for the standard ones.
        background: Prompts that stand for "something else" when confidence is calibrated.
        calibration: See Calibration.
        calibrated: False when nobody fitted a calibration for this model: then no confidence is given.
        files: Role -> (file name, sha256). Light runtime: "image", "text", "tokenizer"; PyTorch: "weights",
            "tokenizer", and "parts" where tuning left some beside the weights. Empty for a released model that is not
            on this machine.
        architecture, preprocess, tokenizer: Of a model that PyTorch can run; None for one that is born light.
        source, licence: Where the weights come from, and their terms; None for a bundled model.
        doubts: What is not certain about the architecture.
        parameters: Of the whole model, logit scale and bias included; None when nobody counted.
        about: Everything else of the TOML (training data, overlaps, numbers, limits, citation), for people.
        folder: Where the files lie, or would lie.
    """

    name: str
    version: str
    dim: int
    image_px: int
    languages: tuple[str, ...]
    gsd_m: tuple[float, float] | None
    ground_m: tuple[float, ...]
    background: tuple[str, ...] = ()
    calibration: Calibration = Calibration()  # noqa: RUF009  frozen
    calibrated: bool = True
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    architecture: Architecture | None = None
    preprocess: Preprocess | None = None
    tokenizer: TokenizerSource | None = None
    source: Source | None = None
    licence: Licence | None = None
    doubts: Doubts = NO_DOUBTS
    parameters: int | None = None
    patch_px: int | None = None
    about: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights, tokenizer, shape and preprocessing: equal means that vectors are comparable."""
        parts = [str(self.image_px), str(self.dim), *(f"{role}:{sha}" for role, (_, sha) in sorted(self.files.items()))]
        described = (identity_of(part) for part in (self.architecture, self.preprocess) if part)
        parts += [json.dumps(values, sort_keys=True) for values in described]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]

    @property
    def how_to_get(self) -> str:
        """The command that brings the files; empty for a model without a source."""
        if self.source is None:
            return ""
        if self.source.address:
            return f"Run: geoglot models pull {self.name}"
        return f"It has no public address. Run: geoglot models convert FILE --card {self.name}"

    def file(self, role: str) -> Path:
        """Path of the file with this role.

        Raises:
            ModelFileError: The card names no such file, or it is not there; says where it looked and what brings it.
        """
        if not self.files:
            raise ModelFileError(
                f"model {self.name!r} is not on this machine; looked in {self.folder}", hint=self.how_to_get
            )
        if role not in self.files:
            raise ModelFileError(f"the card of {self.name!r} names no {role} file; it has: {', '.join(self.files)}")
        path = self.folder / self.files[role][0]
        if not path.is_file():
            raise ModelFileError(
                f"model {self.name!r} lacks {path.name}; looked in {self.folder}", hint=self.how_to_get
            )
        return path

    def verify(self) -> None:
        """Compare every file's sha256 with the card; reads each file whole.

        Raises:
            ModelFileError: A file is missing or differs.
        """
        for role, (name, expected) in self.files.items():
            digest = sha256(self.file(role))
            if digest != expected:
                raise ModelFileError(
                    f"{name} of model {self.name!r} is damaged: sha256 {digest[:12]}…, the card says {expected[:12]}…",
                    hint="Copy or install the model again.",
                )


def read_card(folder: Path) -> Card:
    """Read `card.toml` of a model folder.

    Raises:
        ModelNotFoundError: There is no card.
        ModelFileError: The card cannot be read or lacks a field.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise ModelNotFoundError(f"no {CARD_FILE} in {folder}")
    return read_card_file(path, folder)


def read_card_file(path: Path, folder: Path) -> Card:
    """Read a card whose model files lie, or would lie, in `folder`.

    Raises:
        ModelFileError: The card cannot be read or lacks a field.
    """
    try:
        return _card(read_toml(path), folder)
    except UsageError as error:
        raise ModelFileError(f"{path} is not a valid card: {error}", hint=error.hint) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a valid card: {error!r}") from error


def _card(raw: dict[str, Any], folder: Path) -> Card:
    files = {role: (_plain_name(entry["file"]), str(entry["sha256"])) for role, entry in raw.pop("files", {}).items()}
    gsd_m, calibration = raw.pop("gsd_m", None), raw.pop("calibration", None)
    return Card(
        name=str(raw.pop("name")),
        version=str(raw.pop("version")),
        dim=int(raw.pop("dim")),
        image_px=int(raw.pop("image_px")),
        languages=tuple(raw.pop("languages")),
        gsd_m=None if gsd_m is None else _pair(gsd_m),
        ground_m=tuple(float(side) for side in raw.pop("ground_m", ())),
        background=tuple(raw.pop("background", ())),
        calibration=from_table(Calibration, calibration or {}, "[calibration]"),
        calibrated=calibration is not None,
        files=files,
        parameters=raw.pop("parameters", None),
        patch_px=raw.pop("patch_px", None),
        folder=folder,
        **_tables(raw),
        about=raw,
    )


def _plain_name(name: Any) -> str:
    """A card may come from a stranger: it must not point outside its folder."""
    if not isinstance(name, str) or Path(name).name != name or "\\" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def _pair(values: Any) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)


def _tables(raw: dict[str, Any]) -> dict[str, Any]:
    """The tables that have a class of their own. A licence that is one line, as in bundled cards, stays in `about`."""
    kinds: Mapping[str, type] = {
        "architecture": Architecture,
        "preprocess": Preprocess,
        "tokenizer": TokenizerSource,
        "source": Source,
        "licence": Licence,
        "doubts": Doubts,
    }
    present = [key for key in kinds if isinstance(raw.get(key), dict)]
    return {key: from_table(kinds[key], raw.pop(key), f"[{key}]") for key in present}
