"""Zero-shot classification: class names in templates, one vector a class, the nearest class wins.

| protocol | templates | class vector | class wording |
|---|---|---|---|
| `zsc/rs5m` | 105 | unit of the mean of the tower's own embeddings | folder name, `_` `/` to space, lower case |
| `zsc/rs5m-unit` | 105 | the same of unit embeddings, for a runtime that has no others | the same |
| `zsc/skyscript` | 2 | unit of the mean of unit embeddings | the pack's classnames.txt, else wording.toml |

The folder rule keeps what folders run together: "bareland", "annualcrop". That is what the published numbers used.
`zsc/rs5m-3`, `zsc/skyscript-7` and `zsc/skyscript-8` are these rules on the sets that the number counts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from geoglot.data.benchmarks.schema import Benchmark
from geoglot.errors import UsageError
from geoglot.evaluation.embeddings import encode_known, encode_lengths, unknown
from geoglot.evaluation.metrics import bootstraps, class_ranks, mean_class
from geoglot.evaluation.report import Number
from geoglot.models.encoder import DualEncoder, Vectors

NEVER = np.iinfo(np.int64).max
"""The rank of a class that is never answered."""


@dataclass(frozen=True, slots=True)
class ClassVectors:
    """One vector a class.

    Attributes:
        vectors: [K, D], unit; zero where the model knows no word of any prompt.
        protocol: The one that made them.
        prompts: How many texts went in.
        notes: In sentences.
    """

    vectors: Vectors
    protocol: str
    prompts: int
    notes: tuple[str, ...]


@cache
def rs5m_templates() -> tuple[str, ...]:
    """The 105 templates, `{c}` for the class."""
    raw = tomllib.loads(resources.files(__package__).joinpath("templates", "rs5m.toml").read_text("utf-8"))
    phrasings = list(raw["plain"])
    for adjectives, forms in (("image_adjectives", "of_image"), ("class_adjectives", "of_class")):
        phrasings += [form.replace("{adjective}", word) for word in raw[adjectives] for form in raw[forms]]
    return tuple(
        phrasing.replace("{image}", image).replace("{kind}", kind)
        for image, kind in zip(raw["image"], raw["kind"], strict=True)
        for phrasing in phrasings
    )


@cache
def skyscript_templates() -> tuple[str, ...]:
    """The 2 templates; the second ends without a full stop, as in the released code."""
    return tuple(resources.files(__package__).joinpath("templates", "skyscript.txt").read_text("utf-8").splitlines())


def folder_wording(label: str) -> str:
    """RS5M's rule: a folder's name, `_` and `/` to spaces, lower case; run-together words stay so."""
    return label.replace("_", " ").replace("/", " ").lower()


def readable_wording(data: Benchmark) -> tuple[tuple[str, ...], str]:
    """The set's own wording of its classes, else ours; and which."""
    prefix = data.entry.class_prefix
    if data.texts is not None:
        return tuple(prefix + text for text in data.texts), "class wording: the pack's classnames.txt"
    raw = tomllib.loads(resources.files(__package__).joinpath("wording.toml").read_text("utf-8"))
    ours = raw.get(data.entry.classes, {})
    texts = tuple(prefix + ours.get(label, folder_wording(label)) for label in data.classes)
    return texts, "class wording: geoglot version 1, not SkyScript's pack"


def rs5m_classes(encoder: DualEncoder, data: Benchmark) -> ClassVectors:
    """Class vectors by `zsc/rs5m`, or `zsc/rs5m-unit` where the runtime gives unit embeddings only."""
    prompts = _prompts([folder_wording(label) for label in data.classes], rs5m_templates())
    embedded, lengths = encode_lengths(encoder, prompts)
    vectors, notes = _class_vectors(embedded, data.classes, len(rs5m_templates()))
    if lengths == "raw":
        return ClassVectors(vectors, "zsc/rs5m", len(prompts), notes)
    told = "this runtime gives unit text embeddings only, so their mean is taken: not the published protocol"
    return ClassVectors(vectors, "zsc/rs5m-unit", len(prompts), (*notes, told))


def skyscript_classes(encoder: DualEncoder, data: Benchmark) -> ClassVectors:
    """Class vectors by `zsc/skyscript`."""
    wording, told = readable_wording(data)
    prompts = _prompts(wording, skyscript_templates())
    vectors, notes = _class_vectors(encode_known(encoder, prompts), data.classes, len(skyscript_templates()))
    return ClassVectors(vectors, "zsc/skyscript", len(prompts), (*notes, told))


def _prompts(classes: Sequence[str], templates: Sequence[str]) -> list[str]:
    return [template.replace("{c}", name) for name in classes for template in templates]


def _class_vectors(embedded: Vectors, classes: Sequence[str], templates: int) -> tuple[Vectors, tuple[str, ...]]:
    """Unit mean over the templates of each class that the model can read."""
    by_class = embedded.reshape(len(classes), templates, -1)  # [K, T, D]
    means = by_class.mean(1)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    vectors = np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 0)
    lost = [name for name, gone in zip(classes, unknown(vectors), strict=True) if gone]
    told = f"the model knows no word for {len(lost)} of {len(classes)} classes and never answers them: "
    return vectors, ((told + ", ".join(lost)),) if lost else ()


def label_numbers(data: Benchmark) -> NDArray[np.int64]:
    """Index [N] of each image's class.

    Raises:
        UsageError: The set has no labels.
    """
    if not data.classes or any(sample.label is None for sample in data.samples):
        raise UsageError(f"{data.entry.title} has no class for every image", hint="Take a classification set.")
    number = {label: index for index, label in enumerate(data.classes)}
    return np.array([number[str(sample.label)] for sample in data.samples])


def classify(classes: ClassVectors, images: Vectors, data: Benchmark, *, seed: int = 0) -> list[Number]:
    """top1, top5 and mean_class (top-1 averaged over classes), percent, with intervals over images.

    A class that the model cannot read is never answered, and its images are misses.
    """
    labels = label_numbers(data)
    scores = images @ classes.vectors.T
    unread = unknown(classes.vectors)
    scores[:, unread] = -np.inf
    ranks = np.where(unread[labels], NEVER, class_ranks(scores, labels))
    hits = ranks == 0

    def statistics(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        mine = ranks[rows]
        return np.array([100 * (mine < 1).mean(), 100 * (mine < 5).mean(), mean_class(hits[rows], labels[rows])])

    values = statistics(np.arange(len(labels)))
    spans = bootstraps(statistics, len(labels), seed=seed)
    return [
        Number(classes.protocol, metric, float(value), span, len(labels), texts=classes.prompts, notes=classes.notes)
        for metric, value, span in zip(("top1", "top5", "mean_class"), values, spans, strict=True)
    ]
