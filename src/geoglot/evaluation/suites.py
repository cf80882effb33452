"""The suites of suites.toml, run: models times data sets, each number told where it comes from."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from geoglot.data.benchmarks.catalogue import limited, read_benchmark
from geoglot.data.benchmarks.schema import Benchmark
from geoglot.data.benchmarks.translations import read_translations
from geoglot.data.glossary import Scale
from geoglot.data.samples import Sample
from geoglot.data.segmentation import SegmentationSet
from geoglot.errors import SourceError, UnknownNameError, UsageError
from geoglot.evaluation.embeddings import Kept, encode_known, encode_samples
from geoglot.evaluation.localization import Mode, localization
from geoglot.evaluation.multilingual import in_all_languages, translated_retrieval
from geoglot.evaluation.paraphrases import paraphrased
from geoglot.evaluation.probe import TRAIN_SHARE, Labels, few_shot, linear_probe, split_by_class
from geoglot.evaluation.questions import questions
from geoglot.evaluation.report import Number
from geoglot.evaluation.retrieval import Task, dedup_task, equivalent_task, retrieve, rows_task
from geoglot.evaluation.segmentation_suite import SEGMENTING, open_masks, segmentation_numbers
from geoglot.evaluation.zero_shot import classify, label_numbers, rs5m_classes, skyscript_classes
from geoglot.models.definitions import with_definitions
from geoglot.models.encoder import DualEncoder, Vectors
from geoglot.models.tokenizers.truncation import TruncationCount

_Labelled = tuple[Vectors, Labels]
Told = Callable[[str, int, int], None]
"""Called with what is being encoded, images done, images in all."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One protocol on its own sets; see the head of suites.toml."""

    name: str
    about: str
    kind: str
    datasets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """How a suite is run.

    Attributes:
        root: The data folder.
        limit: A dry look: at most so many images of each set; every number says so.
        seed: Of the bootstrap and of what is drawn.
        kept: Where image vectors are kept; None keeps nothing.
        partial: Take sets that are not whole; their numbers say so.
        told: Progress.
        definitions: Which looks join the names in the texts (see models/definitions.py); None is off.
    """

    root: Path
    limit: int | None = None
    seed: int = 0
    kept: Kept | None = None
    partial: bool = False
    told: Told | None = None
    definitions: Scale | None = None


@cache
def suites() -> dict[str, tuple[str, tuple[Suite, ...]]]:
    """Name -> (about, the suites behind it): one, or for a bundle several."""
    raw = tomllib.loads(resources.files(__package__).joinpath("suites.toml").read_text("utf-8"))
    single = {
        name: Suite(name, table["about"], table["kind"], tuple(table["datasets"]))
        for name, table in raw.items()
        if "kind" in table
    }
    return {
        name: (table["about"], tuple(single[part] for part in table.get("suites", (name,))))
        for name, table in raw.items()
    }


def find_suites(name: str, datasets: Sequence[str] = ()) -> tuple[Suite, ...]:
    """The suites of that name, on other data sets where some are given.

    Raises:
        UnknownNameError: No such suite.
    """
    if name not in suites():
        raise UnknownNameError("suite", name, suites())
    found = suites()[name][1]
    return tuple(replace(suite, datasets=tuple(datasets)) for suite in found) if datasets else found


def evaluate(wanted: Sequence[Suite], encoders: Iterable[DualEncoder], options: Options) -> list[Number]:
    """Run suites. All data is found and read before the first image is encoded.

    Args:
        wanted: What to run.
        encoders: The models; taken one at a time.
        options: How.

    Raises:
        SourceError: Some data is not there; all that is missing is told, with the pages that have it.
        UsageError: A data set does not suit a suite.
    """
    masks = open_masks([name for suite in wanted if suite.kind in SEGMENTING for name in suite.datasets], options.root)
    data = _read_all([suite for suite in wanted if suite.kind not in SEGMENTING], options)
    numbers: list[Number] = []
    for encoder in encoders:
        run = _Run(encoder, options)
        for suite in wanted:
            if suite.kind in SEGMENTING:
                mine = [n for name in suite.datasets for n in run.segmented(suite, masks[name])]
            else:
                mine = [n for name in suite.datasets for n in run.numbers(suite, data[name])]
            numbers += mine + _means(suite, mine)
    return [_defined(number, options.definitions) for number in numbers] if options.definitions else numbers


def _defined(number: Number, scale: Scale) -> Number:
    """A protocol of its own: no published number was measured with our definitions."""
    note = f"a text that names one thing of the glossary is averaged with its looks ({scale})"
    return replace(number, protocol=f"{number.protocol}+definitions-{scale}", notes=(*number.notes, note))


def _read_all(wanted: Sequence[Suite], options: Options) -> dict[str, Benchmark]:
    data: dict[str, Benchmark] = {}
    absent: list[SourceError] = []
    for name in dict.fromkeys(name for suite in wanted for name in suite.datasets):
        try:
            whole = read_benchmark(name, options.root, partial=options.partial)
            data[name] = limited(whole, options.limit) if options.limit else whole
        except SourceError as error:
            absent.append(error)
    if len(absent) == 1:
        raise absent[0]
    if absent:
        several = "\n".join(f"- {error}" for error in absent)
        hints = "\n".join(f"- {error.hint}" for error in absent)
        raise SourceError(f"{len(absent)} data sets cannot be used:\n{several}", hint=f"For each:\n{hints}")
    return data


class _Cut:
    """How many texts are cut from now on, for models that count them."""

    def __init__(self, encoder: DualEncoder) -> None:
        self._count: TruncationCount | None = getattr(encoder, "truncation", None)
        self._before = (self._count.texts, self._count.cut) if self._count else (0, 0)

    def notes(self) -> tuple[str, ...]:
        """A sentence when any was cut, else nothing."""
        if self._count is None or self._count.cut == self._before[1]:
            return ()
        texts, cut = self._count.texts - self._before[0], self._count.cut - self._before[1]
        return (
            f"{cut:,} of {texts:,} texts ({100 * cut / texts:.1f} %) were longer than the model reads and were cut",
        )


class _Run:
    """One model's run: image vectors are computed once for all suites."""

    def __init__(self, encoder: DualEncoder, options: Options) -> None:
        self._encoder, self._options = with_definitions(encoder, options.definitions), options
        self._image_encoder = encoder  # images do not depend on definitions, so their kept vectors serve both
        self._images: dict[tuple[str, str], Vectors] = {}

    def numbers(self, suite: Suite, data: Benchmark) -> list[Number]:
        """All numbers of one suite on one set, with where they come from."""
        self._suits(suite, data)
        cut = _Cut(self._encoder)
        raw = _KINDS[suite.kind](self, data)
        card, limit = self._encoder.card, self._options.limit
        return [
            replace(
                number,
                protocol=_counted(number.protocol, suite, data),
                model=card.name,
                fingerprint=card.fingerprint,
                dataset=data.name,
                split=data.split,
                source=data.source,
                seed=self._options.seed,
                limit=limit,
                notes=(*number.notes, *data.notes, *cut.notes()),
            )
            for number in raw
        ]

    def segmented(self, suite: Suite, data: SegmentationSet) -> list[Number]:
        """All numbers of a segmentation suite on one set."""
        options = self._options
        found = segmentation_numbers(suite.kind, self._encoder, data, options.limit, options.seed, options.told)
        return [replace(number, protocol=_counted(number.protocol, suite, data)) for number in found]

    def _suits(self, suite: Suite, data: Benchmark) -> None:
        wants = {"rows": "retrieval", "equivalent": "retrieval", "dedup": "retrieval", "translated": "retrieval"}
        wants |= {"selo_strict": "localization", "selo_fast": "localization"}
        kind = wants.get(suite.kind, "classification")
        if kind == "retrieval" and not any(sample.captions for sample in data.samples):
            raise UsageError(f"{data.entry.title} has no captions; {suite.name} needs them")
        if kind == "localization" and data.polygons is None:
            raise UsageError(f"{data.entry.title} marks no regions; {suite.name} needs them")
        if kind == "classification" and not data.classes:
            raise UsageError(f"{data.entry.title} has no classes; {suite.name} needs them")

    def images(self, data: Benchmark) -> Vectors:
        """Vectors of the set's images."""
        key = data.name, data.split
        if key not in self._images:
            self._images[key] = self._encoded(data)
        return self._images[key]

    def _encoded(self, data: Benchmark) -> Vectors:
        told, what = self._options.told, f"{self._encoder.card.name} on {data.name} {data.split}"
        inner = (lambda done, total: told(what, done, total)) if told else None
        return encode_samples(self._image_encoder, data.samples, kept=self._options.kept, told=inner)

    def rs5m(self, data: Benchmark) -> list[Number]:
        return classify(rs5m_classes(self._encoder, data), self.images(data), data, seed=self._options.seed)

    def skyscript(self, data: Benchmark) -> list[Number]:
        return classify(skyscript_classes(self._encoder, data), self.images(data), data, seed=self._options.seed)

    def rows(self, data: Benchmark) -> list[Number]:
        return self._retrieve(rows_task(data.samples), data)

    def equivalent(self, data: Benchmark) -> list[Number]:
        return self._retrieve(equivalent_task(data.samples), data)

    def dedup(self, data: Benchmark) -> list[Number]:
        return self._retrieve(dedup_task(data.samples, prefix=data.entry.prefix), data)

    def _retrieve(self, task: Task, data: Benchmark) -> list[Number]:
        texts = encode_known(self._encoder, task.texts)
        return retrieve(texts, self.images(data), task, seed=self._options.seed)

    def questions(self, data: Benchmark) -> list[Number]:
        return in_all_languages(self._encoder, *self._labelled(data))

    def paraphrases(self, data: Benchmark) -> list[Number]:
        return paraphrased(self._encoder, *self._labelled(data))

    def _labelled(self, data: Benchmark) -> tuple[list[Sample], str, Vectors]:
        """The samples that have a label, the set's group of questions, and the samples' vectors."""
        group = data.name.removesuffix("-test")
        if group not in questions():
            raise UnknownNameError("data set with questions", data.name, questions())
        labelled = np.array([bool(sample.label) for sample in data.samples])
        return [sample for sample in data.samples if sample.label], group, self.images(data)[labelled]

    def translated(self, data: Benchmark) -> list[Number]:
        said = read_translations(data.name, self._options.root, data.samples)
        return translated_retrieval(self._encoder, said, self.images(data), seed=self._options.seed)

    def selo_strict(self, data: Benchmark) -> list[Number]:
        return self._selo(data, "strict")

    def selo_fast(self, data: Benchmark) -> list[Number]:
        return self._selo(data, "fast")

    def _selo(self, data: Benchmark, mode: Mode) -> list[Number]:
        told, what = self._options.told, f"{self._encoder.card.name} on {data.name}, {mode}"
        inner = (lambda done, total: told(what, done, total)) if told else None
        return localization(self._encoder, data, mode, seed=self._options.seed, progress=inner)

    def linear(self, data: Benchmark) -> list[Number]:
        train, test = self._halves(data)
        return linear_probe(train, test, len(data.classes), self._options.seed)

    def few_shot(self, data: Benchmark) -> list[Number]:
        train, test = self._halves(data)
        return few_shot(train, test, len(data.classes), self._options.seed)

    def _halves(self, data: Benchmark) -> tuple[_Labelled, _Labelled]:
        """(train, test): the set's own splits, or drawn where it has none."""
        if data.split == "test":
            train = read_benchmark(data.name, self._options.root, split="train", partial=self._options.partial)
            train = limited(train, self._options.limit) if self._options.limit else train
            train = replace(train, classes=data.classes)
            return (self.images(train), label_numbers(train)), (self.images(data), label_numbers(data))
        vectors, labels = self.images(data), label_numbers(data)
        taken, rest = split_by_class(labels, TRAIN_SHARE, self._options.seed)
        return (vectors[taken], labels[taken]), (vectors[rest], labels[rest])


_KINDS: dict[str, Callable[[_Run, Benchmark], list[Number]]] = {
    "rs5m": _Run.rs5m, "skyscript": _Run.skyscript, "rows": _Run.rows, "equivalent": _Run.equivalent,
    "dedup": _Run.dedup, "questions": _Run.questions, "paraphrases": _Run.paraphrases,
    "translated": _Run.translated, "linear": _Run.linear,
    "few_shot": _Run.few_shot, "selo_strict": _Run.selo_strict, "selo_fast": _Run.selo_fast,
}  # fmt: skip


def _counted(protocol: str, suite: Suite, data: Benchmark | SegmentationSet) -> str:
    """`zsc/rs5m` -> `zsc/rs5m-3` on the sets that the suite's published numbers count; else the bare protocol."""
    counts = any(data.name in own.datasets for own in suites()[suite.name][1])
    return suite.name if counts and suite.name.rpartition("-")[0] == protocol else protocol


def _means(suite: Suite, numbers: Sequence[Number]) -> list[Number]:
    """Top-1 or mIoU averaged over a suite's own sets, as the published tables do, when all of them were run."""
    top = [number for number in numbers if number.protocol == suite.name and number.metric in {"top1", "miou"}]
    own = suites()[suite.name][1][0].datasets
    if suite.kind not in {"rs5m", "skyscript", "ovss/farslip"} or {n.dataset for n in top} != set(own):
        return []
    value = float(np.mean([number.value for number in top]))
    images = sum(number.count for number in top)
    mean = replace(top[0], dataset="mean", split="", source="", value=value, interval=None, count=images)
    return [replace(mean, parts=tuple(number.dataset for number in top))]
