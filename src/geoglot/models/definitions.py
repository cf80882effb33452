"""Visual definitions at query time: the look of a thing joins its name.

A text that names one thing of the glossary, in any of its languages, gets the unit mean of its own vector and the unit
mean of the vectors of the thing's looks ("grey strips that cross in a wide flat green area"). Any other text keeps its
vector. The calibration of confidence was fitted without looks.
Whether this helps depends on the model; measure it with `geoglot eval --definitions`.

Implements: descriptions of a class averaged into its prompt, after CuPL (Pratt et al. 2022, arXiv 2209.03320); the
equal weight of name and looks is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geoglot.data.glossary import Concept, Scale
from geoglot.data.glossary.reading import concept_of
from geoglot.models.card import Card
from geoglot.models.encoder import DenseEncoder, DualEncoder, Images, Vectors

if TYPE_CHECKING:
    from geoglot.models.towers.dense import LastBlock


class DefinedEncoder:
    """An encoder whose texts carry the looks of what they name; images are encoded as before.

    It has no `embed_texts`: a mean of unit vectors has no length of its own.
    """

    def __init__(self, encoder: DualEncoder, scale: Scale = "both") -> None:
        """Wrap an encoder.

        Args:
            encoder: The model.
            scale: Which looks: of fine pictures, of coarse ones, or both.
        """
        self.encoder = encoder
        self.scale = scale
        self._looks: dict[str, Vectors] = {}

    @property
    def card(self) -> Card:
        """The model's own card: its images do not change."""
        return self.encoder.card

    def encode_images(self, images: Images) -> Vectors:
        """As the model does."""
        return self.encoder.encode_images(images)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """M texts -> float32 [M, D], unit norm; the first text that names a thing costs its looks' encoding, once.

        Raises:
            EmptyQueryError: A text is empty.
            UnknownWordsError: No word of a text is known to the model.
        """
        vectors = self.encoder.encode_texts(texts).copy()
        for row, text in enumerate(texts):
            if (concept := concept_of(text)) is not None:
                vectors[row] = _unit(vectors[row] + self._look(concept))
        return vectors

    def _look(self, concept: Concept) -> Vectors:
        """The unit mean [D] of the vectors of a concept's looks."""
        if concept.id not in self._looks:
            self._looks[concept.id] = _unit(self.encoder.encode_texts(concept.looks.at(self.scale)).mean(0))
        return self._looks[concept.id]

    @property
    def patch_px(self) -> int:
        """As the model's; 0 where it does not tell places apart."""
        return self.encoder.patch_px if isinstance(self.encoder, DenseEncoder) else 0

    def patch_features(self, images: Images, last_block: LastBlock | None = None) -> Vectors:
        """As the model's; ask `dense` first whether it has any."""
        return self.encoder.patch_features(images, last_block)  # type: ignore[attr-defined,no-any-return]

    @property
    def patches_and_token(self) -> Any:
        """As the model's, or None."""
        return getattr(self.encoder, "patches_and_token", None)

    @property
    def truncation(self) -> Any:
        """As the model's count of texts that were cut, or None."""
        return getattr(self.encoder, "truncation", None)


def with_definitions(encoder: DualEncoder, scale: Scale | None) -> DualEncoder:
    """The encoder with visual definitions, or as it is where no scale is asked for."""
    return encoder if scale is None else DefinedEncoder(encoder, scale)


def _unit(vector: Vectors) -> Vectors:
    unit: Vectors = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
    return unit
