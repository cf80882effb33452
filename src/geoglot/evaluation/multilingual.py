"""One meaning in many languages: does a model find the same images whichever it is asked in?

| protocol | meaning |
|---|---|
| `multi/questions` | the questions of questions.toml in ten languages |
| `multi/captions` | a retrieval set's captions and their translations, each language by `ret/rs5m` |

Both give, beside each language's own numbers: `gap`, the mean relative drop from English; and per language `same_best`,
the share of texts whose best image is the English text's best image, and `shared@10`, the share of the ten best images
that the two have in common. Two texts of the same wrong answer agree: this measures consistency, not quality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoglot.data.glossary import LANGUAGES
from geoglot.data.samples import Sample
from geoglot.errors import UsageError
from geoglot.evaluation.embeddings import encode_known
from geoglot.evaluation.questions import prompts, question_retrieval, zero_shot
from geoglot.evaluation.report import Number
from geoglot.evaluation.retrieval import retrieve, rows_task
from geoglot.models.encoder import DualEncoder, Vectors

DEPTH = 10


def language_gap(by_language: Mapping[str, float]) -> float:
    """Mean relative drop, percent, from English to the other languages; negative when they are better.

    Raises:
        UsageError: There is no English value above 0, or no other language.
    """
    others: NDArray[np.float64] = np.array([value for code, value in by_language.items() if code != "en"])
    if not len(others) or by_language.get("en", 0.0) <= 0:
        raise UsageError("a language gap needs an English value above 0 and another language")
    return float(100 * (1 - others.mean() / by_language["en"]))


def agreement(english: Vectors, other: Vectors, images: Vectors, depth: int = DEPTH) -> tuple[float, float]:
    """(same_best, shared@depth), percent.

    Args:
        english: Vectors [M, D] of the English texts.
        other: Of their translations, in the same order.
        images: [N, D].
        depth: How many of the best images to compare.
    """
    same, shared = [], []
    for a, b in zip(english, other, strict=True):
        one, two = (np.argsort(-(images @ vector), kind="stable")[:depth].tolist() for vector in (a, b))
        same.append(one[0] == two[0])
        shared.append(len(set(one) & set(two)) / len(one))
    return 100 * float(np.mean(same)), 100 * float(np.mean(shared))


def in_all_languages(encoder: DualEncoder, samples: Sequence[Sample], group: str, images: Vectors) -> list[Number]:
    """Both question protocols per language, each one's gap to English, and the agreement with English."""
    found: list[Number] = []
    for measure, metric in ((zero_shot, "top1"), (question_retrieval, "P@10")):
        rows = {code: measure(encoder, samples, group, code, images) for code in LANGUAGES}
        gap = language_gap({code: row.value for code, row in rows.items()})
        parts = tuple(row.metric for code, row in rows.items() if code != "en")
        found += [*rows.values(), Number("multi/questions", f"{metric}_gap", gap, None, len(samples), parts=parts)]
    asked = {code: encode_known(encoder, list(prompts(group, code).values())) for code in LANGUAGES}
    return found + _agreements(asked, images, "multi/questions")


def translated_retrieval(
    encoder: DualEncoder, samples: Mapping[str, Sequence[Sample]], images: Vectors, *, seed: int = 0
) -> list[Number]:
    """`multi/captions`: mR and the other recalls per language, the gap in mR, and the agreement with English.

    Args:
        encoder: The model.
        samples: Language -> the same images in the same order, with as many captions each; must have "en".
        images: [N, D].
        seed: Of the bootstrap.
    """
    found, vectors, by_language = [], {}, {}
    for code, said in samples.items():
        task = rows_task(said)
        vectors[code] = encode_known(encoder, task.texts)
        numbers = retrieve(vectors[code], images, task, seed=seed)
        by_language[code] = next(n.value for n in numbers if n.metric == "mR")
        found += [_in_language(n, code) for n in numbers]
    parts = tuple(f"mR_{code}" for code in by_language if code != "en")
    found.append(Number("multi/captions", "mR_gap", language_gap(by_language), None, len(images), parts=parts))
    return found + _agreements(vectors, images, "multi/captions")


def _in_language(number: Number, code: str) -> Number:
    parts = tuple(f"{part}_{code}" for part in number.parts)
    return replace(number, protocol="multi/captions", metric=f"{number.metric}_{code}", parts=parts)


def _agreements(asked: Mapping[str, Vectors], images: Vectors, protocol: str) -> list[Number]:
    found = []
    for code, vectors in asked.items():
        if code != "en":
            values = zip(("same_best", f"shared@{DEPTH}"), agreement(asked["en"], vectors, images), strict=True)
            found += [
                Number(protocol, f"{metric}_{code}", value, None, len(images), texts=len(vectors))
                for metric, value in values
            ]
    return found
