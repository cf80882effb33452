"""The segmentation suites: sets with masks, found below the data folder, and their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from geoglot.data.segmentation import SegmentationSet, open_segmentation
from geoglot.errors import SourceError
from geoglot.evaluation.report import Number
from geoglot.evaluation.segmentation import Predict, SegmentationScore, mean_iou
from geoglot.evaluation.segmentation_protocols import PUBLISHED, our_predict, published_predict
from geoglot.models.encoder import DenseEncoder, DualEncoder, dense

OURS = "ovss/geoglot"
SEGMENTING = frozenset({*PUBLISHED, OURS})
"""Kinds of suites that are run here; each is the name of its protocol."""

Told = Callable[[str, int, int], None]


def open_masks(names: Sequence[str], root: Path) -> dict[str, SegmentationSet]:
    """The sets of that name, each in `root/NAME` or, for sets of whole scenes, `root/scenes/NAME`.

    Raises:
        SourceError: Some are not there; all of them are told.
    """
    found: dict[str, SegmentationSet] = {}
    absent: list[SourceError] = []
    for name in dict.fromkeys(names):
        whole = root / "scenes" / name
        try:
            found[name] = open_segmentation(name, whole if whole.is_dir() else root / name)
        except SourceError as error:
            absent.append(error)
    if len(absent) == 1:
        raise absent[0]
    if absent:
        several, hints = ("\n".join(f"- {text}" for text in texts) for texts in _told(absent))
        raise SourceError(f"{len(absent)} data sets cannot be used:\n{several}", hint=f"For each:\n{hints}")
    return found


def _told(errors: Sequence[SourceError]) -> tuple[list[str], list[str]]:
    return [str(error) for error in errors], [error.hint for error in errors]


def segmentation_numbers(
    kind: str, encoder: DualEncoder, data: SegmentationSet, limit: int | None, seed: int, told: Told | None
) -> list[Number]:
    """`miou`, and `iou CLASS` of each class, percent, with intervals over images.

    Raises:
        UsageError: The model does not tell places apart.
        SampleError: An image or a mask cannot be read.
    """
    able, what = dense(encoder), f"{encoder.card.name} on {data.name} {data.split}"
    inner = (lambda done, total: told(what, done, total)) if told else None
    result = mean_iou(_predict(kind, able, data), data, limit=limit, seed=seed, told=inner)
    return _numbers(kind, encoder, data, result, limit, seed)


def _predict(kind: str, encoder: DenseEncoder, data: SegmentationSet) -> Predict:
    return our_predict(encoder, data) if kind == OURS else published_predict(kind, encoder, data)


def _numbers(
    kind: str, encoder: DualEncoder, data: SegmentationSet, result: SegmentationScore, limit: int | None, seed: int
) -> list[Number]:
    notes = data.notes
    if PUBLISHED.get(kind) and PUBLISHED[kind].threshold and data.threshold:
        told = "pixels below a probability of {:g} are background: a threshold that its authors tuned on test data"
        notes += (told.format(data.threshold),)
    card, texts = encoder.card, sum(len(words) for words in data.classes)
    lines = [("miou", result.miou, result.interval)]
    lines += [
        (f"iou {name}", value, span)
        for name, value, span in zip(result.names, result.iou, result.iou_intervals, strict=True)
        if value == value  # a class that neither occurs nor was called has no IoU
    ]
    classes = tuple(metric for metric, _, _ in lines if metric != "miou")
    return [
        Number(
            kind, metric, value, span, result.images, card.name, card.fingerprint, data.name, data.split, data.source,
            texts, seed, limit, notes=notes, parts=classes if metric == "miou" else (),
        )
        for metric, value, span in lines
    ]  # fmt: skip
