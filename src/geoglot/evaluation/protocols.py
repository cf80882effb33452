"""Evaluation protocols: a model and a data set in, named numbers with intervals out.

| protocol | meaning |
|---|---|
| `ret/rs5m` | every caption is a query, only its own image counts, no prefix; mR = mean of six recalls |
| `ret/equivalent` | as above, but an image is right for every query whose wording it carries |
| `zsc/questions` | zero-shot top-1; one prompt a class, from questions.toml, no template ensemble |
| `ret/questions` | one question a class, relevant = images of that class; mean precision at 10 |
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoglot.data.glossary import LANGUAGES
from geoglot.data.samples import Sample, load_pixels
from geoglot.errors import UnknownNameError, UnknownWordsError
from geoglot.evaluation.metrics import bootstrap, precision_at, retrieval, retrieval_equivalent, top1
from geoglot.models.encoder import DualEncoder, Vectors


@dataclass(frozen=True, slots=True)
class Number:
    """One result.

    Attributes:
        protocol: Name from the table above.
        metric: What was measured, for example "top1".
        value: Percent.
        interval: 95 % bootstrap interval over images, or None where no resampling is defined.
        count: Images.
    """

    protocol: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    count: int


@cache
def questions() -> dict[str, dict[str, dict[str, str]]]:
    """Set -> class -> language -> question (questions.toml)."""
    return tomllib.loads((Path(__file__).parent / "questions.toml").read_text("utf-8"))


def prompts(group: str, language: str) -> dict[str, str]:
    """Class -> question in one language.

    Raises:
        UnknownNameError: No such group or language.
    """
    if group not in questions():
        raise UnknownNameError("question group", group, questions())
    if language not in LANGUAGES:
        raise UnknownNameError("language", language, LANGUAGES)
    return {label: entry[language] for label, entry in questions()[group].items()}


def encode_samples(encoder: DualEncoder, samples: Sequence[Sample]) -> Vectors:
    """Chips of samples -> [N, D]; whole images, resized to the model's square. Decodes in blocks of 1,024."""
    blocks = [samples[at : at + 1024] for at in range(0, len(samples), 1024)]
    return np.concatenate([encoder.encode_images(load_pixels(block, encoder.card.image_px)) for block in blocks])


def encode_known(encoder: DualEncoder, texts: Sequence[str]) -> Vectors:
    """As encode_texts, but a text of unknown words becomes a zero vector: it finds nothing and so counts as wrong."""
    rows = []
    for text in texts:
        try:
            rows.append(encoder.encode_texts([text])[0])
        except UnknownWordsError:
            rows.append(np.zeros(encoder.card.dim, np.float32))
    return np.stack(rows)


def caption_retrieval(encoder: DualEncoder, samples: Sequence[Sample], images: Vectors | None = None) -> list[Number]:
    """Protocols `ret/rs5m` and `ret/equivalent` over all captions of the samples."""
    images = encode_samples(encoder, samples) if images is None else images
    captions = [caption for sample in samples for caption in sample.captions]
    owner = np.array([index for index, sample in enumerate(samples) for _ in sample.captions])
    scores = encode_known(encoder, captions) @ images.T
    found = [("ret/rs5m", retrieval(scores, owner)), ("ret/equivalent", retrieval_equivalent(scores, owner, captions))]
    return [Number(name, metric, value, None, len(samples)) for name, table in found for metric, value in table.items()]


def zero_shot(
    encoder: DualEncoder, samples: Sequence[Sample], group: str, language: str, images: Vectors | None = None
) -> Number:
    """Protocol `zsc/questions` with the prompts of one language."""
    images = encode_samples(encoder, samples) if images is None else images
    asked = prompts(group, language)
    names = list(asked)
    scores = images @ encode_known(encoder, list(asked.values())).T
    labels = np.array([names.index(str(sample.label)) for sample in samples])
    interval = bootstrap(lambda rows: top1(scores[rows], labels[rows]), len(samples))
    return Number("zsc/questions", f"{group}_top1_{language}", top1(scores, labels), interval, len(samples))


def question_retrieval(
    encoder: DualEncoder, samples: Sequence[Sample], group: str, language: str, images: Vectors | None = None
) -> Number:
    """Protocol `ret/questions`: mean over classes of the precision of the ten best images."""
    images = encode_samples(encoder, samples) if images is None else images
    labels = np.array([str(sample.label) for sample in samples])
    asked = {label: text for label, text in prompts(group, language).items() if (labels == label).any()}
    scores = encode_known(encoder, list(asked.values())) @ images.T
    values = [precision_at(row, labels == label, 10) for label, row in zip(asked, scores, strict=True)]
    return Number("ret/questions", f"{group}_P@10_{language}", float(np.mean(values)), None, len(samples))


def language_gap(by_language: dict[str, float]) -> float:
    """Mean relative drop, percent, from English to the other languages; negative when they are better."""
    others: NDArray[np.float64] = np.array([value for code, value in by_language.items() if code != "en"])
    return float(100 * (1 - others.mean() / by_language["en"]))
