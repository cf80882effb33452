"""The one seam between geoglot and its models: images and texts in, unit vectors of one space out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import ModelNotFoundError, UnknownNameError
from geoglot.models.card import CARD_FILE, Card, read_card

Images = NDArray[np.uint8]
Vectors = NDArray[np.float32]

BUNDLED = Path(__file__).parent / "bundled"
DEFAULT_MODEL = "geoglot-mini"


@runtime_checkable
class DualEncoder(Protocol):
    """What every image-text model offers. Instances may be shared between threads."""

    @property
    def card(self) -> Card:
        """The model, described."""
        ...

    def encode_images(self, images: Images) -> Vectors:
        """RGB uint8 [N, S, S, 3] with S = card.image_px -> float32 [N, D], unit norm."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """M texts in any of card.languages -> float32 [M, D], unit norm.

        Raises:
            EmptyQueryError: A text is empty.
            UnknownWordsError: No word of a text is known to the model.
        """
        ...


def bundled_models() -> tuple[str, ...]:
    """Names of the models that ship inside the package."""
    return tuple(sorted(folder.name for folder in BUNDLED.iterdir() if (folder / CARD_FILE).is_file()))


def find_card(name: str = DEFAULT_MODEL) -> Card:
    """The card of a bundled model, or of a folder that holds a card.toml.

    Raises:
        ModelNotFoundError: Neither.
    """
    if (BUNDLED / name / CARD_FILE).is_file():
        return read_card(BUNDLED / name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return read_card(folder)
    problem = UnknownNameError("model", name, bundled_models())
    raise ModelNotFoundError(str(problem), hint=f"{problem.hint} Or give a folder that holds a {CARD_FILE}.")


def load_encoder(name: str = DEFAULT_MODEL, *, threads: int | None = None) -> DualEncoder:
    """Load a model by name or folder. Sessions start on first use: about 0.1 s for the bundled model.

    Args:
        name: A bundled model's name, or a folder that holds a card.toml.
        threads: CPU threads for the runtime; default all cores.

    Raises:
        ModelNotFoundError: No such model.
        ModelFileError: A file is missing or the card is not valid.
    """
    from geoglot.models.light import LightEncoder

    return LightEncoder(find_card(name), threads=threads)
