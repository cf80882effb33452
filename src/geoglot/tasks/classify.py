"""Zero-shot classification: which of some labels fits a picture or a chip best, by their words alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.archive import Archive
from geoglot.archive.request import SearchRequest, option
from geoglot.errors import UsageError
from geoglot.models.encoder import DualEncoder

MAX_LABELS = 64

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ClassifyRequest:
    """A picture or a chip, and the labels to choose among."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    labels: tuple[str, ...] = option("the labels, at least two", ())
    picture: str | None = option("a token of a picture")
    chip: str | None = option("a chip id of the archive")


def classify(archive: Archive, request: ClassifyRequest) -> dict[str, Any]:
    """The labels with their probabilities, likeliest first.

    Raises:
        UsageError: Fewer than two labels or too many, a label twice; or not one of picture and chip.
        QueryError: The picture or the chip is of no use for this archive, or no word of a label is known.
    """
    if (request.picture is None) == (request.chip is None):
        raise UsageError("give either a picture or a chip", hint="A picture is a token from /pictures.")
    subject = SearchRequest(like=(request.chip,)) if request.chip else SearchRequest(image=(request.picture or "",))
    vector = archive.query_vector(subject.terms(archive))
    share = probabilities(vector[None], label_vectors(archive, request.labels), temperature(archive))[0]
    ranked = sorted(zip(request.labels, share.tolist(), strict=True), key=lambda pair: -pair[1])
    return {"labels": [{"label": label, "probability": round(value, 6)} for label, value in ranked]}


def label_vectors(archive: Archive, labels: Sequence[str]) -> Vectors:
    """Unit vectors of labels, float32 [K, D].

    Raises:
        UsageError: Fewer than two labels or more than MAX_LABELS, a label twice, or an archive without its model.
        QueryError: A label is empty, or no word of it is known to the model.
    """
    if archive.encoder is None:
        raise UsageError("the archive was opened without a model", hint="Archive.open(path, load_encoder(name))")
    return encode_labels(archive.encoder, labels)


def encode_labels(encoder: DualEncoder, labels: Sequence[str]) -> Vectors:
    """Unit vectors of labels, float32 [K, D].

    Raises:
        UsageError: Fewer than two labels or more than MAX_LABELS, or a label twice.
        QueryError: A label is empty, or no word of it is known to the model.
    """
    if not 2 <= len(labels) <= MAX_LABELS:
        raise UsageError(
            f"{len(labels)} labels are given; 2 to {MAX_LABELS} are possible", hint="Name what may be there."
        )
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(f"the label {twice[0]!r} is given twice", hint="Leave one out.")
    return encoder.encode_texts(list(labels))


def temperature(archive: Archive) -> float:
    """The model's own factor for cosines before the softmax."""
    return archive.encoder.card.calibration.temperature if archive.encoder else 1.0


def probabilities(chips: Vectors, labels: Vectors, temperature: float) -> NDArray[np.float64]:
    """Softmax of temperature times cosine: chips [N, D], labels [K, D] -> [N, K], each row sums to 1.

    One of the labels is taken to be right: among labels that are all wrong one may still look likely.

    Implements: zero-shot prediction, Radford et al. 2021, section 3.1.2.
    """
    logits = temperature * (chips.astype(np.float64) @ labels.astype(np.float64).T)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
