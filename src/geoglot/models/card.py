"""The card: the TOML that describes a model, its files, what it was trained on, what it can and cannot do."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoglot.errors import ModelFileError, ModelNotFoundError

CARD_FILE = "card.toml"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Turns a margin over an archive's own background into a confidence: 1 / (1 + exp(-(slope * z + offset))).

    Attributes:
        temperature: Multiplies cosines before the background's log-sum-exp.
        alike: Background prompts with at least this cosine to the query mean the same and do not count against it.
        slope, offset: Logistic parameters, fitted on held-out pairs (the card's `measured` table says which).
        threshold: Below this confidence of the best hit the answer is "nothing matches".
    """

    temperature: float = 20.0
    alike: float = 0.7
    slope: float = 1.0
    offset: float = 0.0
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class Card:
    """A model, described.

    Attributes:
        name: The one name a user types.
        version: Of the weights.
        dim: D, the joint embedding's width.
        image_px: S, the side in pixels of the square RGB input.
        languages: ISO 639-1 codes the text side reads.
        gsd_m: (finest, coarsest) metres per pixel of the training imagery.
        ground_m: Sides of chips on the ground, in metres, that suit the model.
        background: Prompts that stand for "something else" when confidence is calibrated.
        calibration: See Calibration.
        files: Role ("image", "text", "tokenizer") -> (file name, sha256).
        about: Everything else of the TOML (licence, training data, measured numbers, limits, citation), for people.
        folder: Where the files lie.
    """

    name: str
    version: str
    dim: int
    image_px: int
    languages: tuple[str, ...]
    gsd_m: tuple[float, float]
    ground_m: tuple[float, ...]
    background: tuple[str, ...] = ()
    calibration: Calibration = Calibration()
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights, tokenizer and preprocessing: equal means that vectors are comparable."""
        parts = [str(self.image_px), str(self.dim), *(f"{role}:{sha}" for role, (_, sha) in sorted(self.files.items()))]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]

    def file(self, role: str) -> Path:
        """Path of the file with this role.

        Raises:
            ModelFileError: The card names no such file, or it is not there.
        """
        if role not in self.files:
            raise ModelFileError(f"the card of {self.name!r} names no {role} file")
        path = self.folder / self.files[role][0]
        if not path.is_file():
            raise ModelFileError(f"model {self.name!r} lacks {path.name}; looked in {self.folder}")
        return path

    def verify(self) -> None:
        """Compare every file's sha256 with the card; reads each file whole.

        Raises:
            ModelFileError: A file is missing or differs.
        """
        for role, (name, expected) in self.files.items():
            found = sha256(self.file(role))
            if found != expected:
                raise ModelFileError(
                    f"{name} of model {self.name!r} is damaged: sha256 {found[:12]}…, the card says {expected[:12]}…",
                    hint="Copy or install the model again.",
                )


def sha256(path: Path) -> str:
    """Hex digest of a file; constant memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_card(folder: Path) -> Card:
    """Read `card.toml` of a model folder.

    Raises:
        ModelNotFoundError: There is no card.
        ModelFileError: The card cannot be read or lacks a field.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise ModelNotFoundError(f"no {CARD_FILE} in {folder}")
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
        files = {role: (str(entry["file"]), str(entry["sha256"])) for role, entry in raw.pop("files", {}).items()}
        low, high = raw.pop("gsd_m")
        return Card(
            name=str(raw.pop("name")),
            version=str(raw.pop("version")),
            dim=int(raw.pop("dim")),
            image_px=int(raw.pop("image_px")),
            languages=tuple(raw.pop("languages")),
            gsd_m=(float(low), float(high)),
            ground_m=tuple(float(side) for side in raw.pop("ground_m")),
            background=tuple(raw.pop("background", ())),
            calibration=Calibration(**raw.pop("calibration", {})),
            files=files,
            about=raw,
            folder=folder,
        )
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path} is not a valid card: {error!r}") from error
