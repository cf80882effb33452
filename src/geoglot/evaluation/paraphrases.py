"""Free paraphrases in ten languages (paraphrases.toml): does a model know a place that is asked for without its name?

`zsc/paraphrases`: the class names of a set are its English names, bare. In each language the texts of that language
stand in for the names of their classes, all at once, and the images of those classes are classified. The same images
are classified by the English names alone, and with the names of that language in place of its texts.

| metric | meaning |
|---|---|
| `top1_<language>` | share of a class's images that its text wins; the mean over the language's texts |
| `names_<language>`, `own_names_<language>` | the same of English names, and of names in that language |
| `top1_drop`, `top1_drop_<form>` | relative drop from English names to all texts, and to those of one form |
| `own_names_drop` | relative drop from English names to names in each text's language |
| `unread` | share of the texts that the model cannot read; they win nothing |
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.data.glossary import LANGUAGES, concepts
from geoglot.data.samples import Sample
from geoglot.errors import UnknownNameError, UsageError
from geoglot.evaluation.embeddings import encode_known, unknown
from geoglot.evaluation.metrics import bootstrap
from geoglot.evaluation.report import Interval, Number
from geoglot.models.encoder import DualEncoder, Vectors

FORMS = ("plain", "order", "negation")
PROTOCOL = "zsc/paraphrases"
Labels = NDArray[np.int64]
_Result = tuple[str, float, Interval | None]


@dataclass(frozen=True, slots=True)
class Paraphrase:
    """One text.

    Attributes:
        language: Of the text.
        text: As a person would type it.
        concept: What is meant, an id of the glossary.
        form: One of FORMS.
        classes: Set -> the class that the text should match.
    """

    language: str
    text: str
    concept: str
    form: str
    classes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Recalls:
    """What each text reached on one set, percent [P]: by itself, by English names, by names in its language."""

    texts: NDArray[np.float64]
    names: NDArray[np.float64]
    own_names: NDArray[np.float64]


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("paraphrases.toml").read_text("utf-8"))


@cache
def paraphrases() -> tuple[Paraphrase, ...]:
    """All texts, language by language."""
    fixed = {"text", "concept", "form"}
    return tuple(
        Paraphrase(
            language, entry["text"], entry["concept"], entry["form"], {k: v for k, v in entry.items() if k not in fixed}
        )
        for language in LANGUAGES
        for entry in _file()["texts"][language]
    )


@cache
def class_concepts() -> dict[str, dict[str, str]]:
    """Set -> class -> the concept whose dictionary form is its name."""
    classes: dict[str, dict[str, str]] = _file()["classes"]
    return classes


def paraphrased(encoder: DualEncoder, samples: Sequence[Sample], group: str, images: Vectors) -> list[Number]:
    """Protocol `zsc/paraphrases` on one set.

    Args:
        encoder: The model.
        samples: Labelled images.
        group: A set of paraphrases.toml: rsicd, ucm or eurosat.
        images: Vectors [N, D] of the samples.

    Raises:
        UnknownNameError: No such set.
        UsageError: No image is of a class that a text asks for.
    """
    if group not in class_concepts():
        raise UnknownNameError("set with paraphrases", group, class_concepts())
    classes = list(class_concepts()[group])
    labels = np.array([classes.index(str(sample.label)) for sample in samples])
    asked = [text for text in paraphrases() if group in text.classes and (labels == _row(text, group)).any()]
    if not asked:
        raise UsageError(f"no image of {group} is of a class that a paraphrase asks for")
    vectors = encode_known(encoder, [text.text for text in asked])
    recalls = _recalls(encoder, asked, vectors, group, labels, images)
    unread: _Result = "unread", 100 * float(unknown(vectors).mean()), None
    results = [*_by_language(asked, recalls), *_drops(asked, recalls), unread]
    return [Number(PROTOCOL, name, value, span, len(samples), texts=len(asked)) for name, value, span in results]


def _recalls(
    encoder: DualEncoder, asked: Sequence[Paraphrase], vectors: Vectors, group: str, labels: Labels, images: Vectors
) -> Recalls:
    english = _names(encoder, group, "en")
    by_language = []
    for code in LANGUAGES:
        mine = np.array([text.language == code for text in asked])
        rows = np.array([_row(text, group) for text in asked if text.language == code], np.int64)
        wordings = vectors[mine], english[rows], _names(encoder, group, code)[rows]
        by_language.append([_recall(english, rows, wording, labels, images) for wording in wordings])
    return Recalls(*np.concatenate(by_language, axis=1))


def _row(text: Paraphrase, group: str) -> int:
    return list(class_concepts()[group]).index(text.classes[group])


def _names(encoder: DualEncoder, group: str, language: str) -> Vectors:
    return encode_known(encoder, [concepts()[c].name(language) for c in class_concepts()[group].values()])


def _recall(names: Vectors, rows: Labels, wording: Vectors, labels: Labels, images: Vectors) -> NDArray[np.float64]:
    """Percent of the images of each class in `rows` that go to it when the wording stands in for those classes' names.

    Args:
        names: [K, D], of all classes.
        rows: [R], the classes that are asked for.
        wording: [R, D]; a zero row cannot be read and wins nothing.
        labels: [N], the class of each image.
        images: [N, D].
    """
    candidates = names.copy()
    candidates[rows] = wording
    scores = images @ candidates.T
    scores[:, unknown(candidates)] = -np.inf
    best = scores.argmax(1)
    return np.array([100 * float((best[labels == row] == row).mean()) for row in rows])


def _by_language(asked: Sequence[Paraphrase], recalls: Recalls) -> list[_Result]:
    results: list[_Result] = []
    for code in LANGUAGES:
        mine = np.array([text.language == code for text in asked])
        if mine.any():
            for metric, values in (("top1", recalls.texts), ("names", recalls.names), ("own_names", recalls.own_names)):
                results.append((f"{metric}_{code}", float(values[mine].mean()), None))
    return results


def _drops(asked: Sequence[Paraphrase], recalls: Recalls) -> list[_Result]:
    forms = np.array([text.form for text in asked])
    parts = {f"top1_drop_{form}": forms == form for form in FORMS if recalls.names[forms == form].any()}
    results: list[_Result] = [("top1_drop", *relative_drop(recalls.texts, recalls.names))]
    results += [(metric, *relative_drop(recalls.texts[part], recalls.names[part])) for metric, part in parts.items()]
    return [*results, ("own_names_drop", *relative_drop(recalls.own_names, recalls.names))]


def relative_drop(reached: NDArray[np.float64], names: NDArray[np.float64]) -> tuple[float, Interval]:
    """Percent that the mean of `reached` [P] lies below the mean of `names` [P], with its interval over texts.

    Raises:
        UsageError: The names reach nothing, so that nothing can be relative to them.
    """
    if not names.any():
        raise UsageError("class names win no image at all, so a drop from them has no meaning")

    def drop(rows: NDArray[np.int64]) -> float:
        named = float(names[rows].mean())
        return 100 * (1 - float(reached[rows].mean()) / named) if named else 0.0

    return drop(np.arange(len(names))), bootstrap(drop, len(names))
