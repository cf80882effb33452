"""Natural questions in ten languages (questions.toml): one prompt a class, no templates, the same meaning in each.

| protocol | meaning |
|---|---|
| `zsc/questions` | zero-shot top-1; the class's question is its only prompt |
| `ret/questions` | one question a class, relevant = images of that class; mean precision of the 10 best |
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np

from geoglot.data.glossary import LANGUAGES
from geoglot.data.samples import Sample
from geoglot.errors import UnknownNameError
from geoglot.evaluation.embeddings import encode_known, encode_samples
from geoglot.evaluation.metrics import bootstrap, precision_at, top1
from geoglot.evaluation.report import Number
from geoglot.models.encoder import DualEncoder, Vectors

DEPTH = 10


@cache
def questions() -> dict[str, dict[str, dict[str, str]]]:
    """Set -> class -> language -> question."""
    return tomllib.loads(resources.files(__package__).joinpath("questions.toml").read_text("utf-8"))


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


def zero_shot(
    encoder: DualEncoder, samples: Sequence[Sample], group: str, language: str, images: Vectors | None = None
) -> Number:
    """Protocol `zsc/questions` with the prompts of one language."""
    images = encode_samples(encoder, samples) if images is None else images
    asked = prompts(group, language)
    names = list(asked)
    scores = images @ encode_known(encoder, list(asked.values())).T
    labels = np.array([names.index(str(sample.label)) for sample in samples])
    hits = scores.argmax(1) == labels
    interval = bootstrap(lambda rows: 100 * float(hits[rows].mean()), len(samples))
    name = f"{group}_top1_{language}"
    return Number("zsc/questions", name, top1(scores, labels), interval, len(samples), texts=len(asked))


def question_retrieval(
    encoder: DualEncoder, samples: Sequence[Sample], group: str, language: str, images: Vectors | None = None
) -> Number:
    """Protocol `ret/questions`: mean over classes of the precision of the ten best images."""
    images = encode_samples(encoder, samples) if images is None else images
    labels = np.array([str(sample.label) for sample in samples])
    asked = {label: text for label, text in prompts(group, language).items() if (labels == label).any()}
    scores = encode_known(encoder, list(asked.values())) @ images.T
    values = [precision_at(row, labels == label, DEPTH) for label, row in zip(asked, scores, strict=True)]
    name = f"{group}_P@10_{language}"
    return Number("ret/questions", name, float(np.mean(values)), None, len(samples), texts=len(asked))
