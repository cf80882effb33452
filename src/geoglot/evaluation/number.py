"""One result, with everything that must be known to repeat or compare it."""

from __future__ import annotations

from dataclasses import dataclass

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Number:
    """One result.

    Attributes:
        protocol: Its name in docs/reference/protocols.md; numbers of different protocols are not comparable.
        metric: What was measured, for example "top1".
        value: Percent.
        interval: 95 % bootstrap interval, or None where no resampling is defined.
        count: Images.
        model, fingerprint: Of what.
        dataset, split, source: On what: name in the catalogue, part, and the layout and file it was read from.
        texts: Captions, prompts or questions.
        seed: Of everything random behind the number, the bootstrap included.
        limit: Set when only so many images were looked at; then the number is a dry look, not a result.
        tied: The value if every tie had gone the model's way, where the metric has ties.
        notes: What else a reader must know, in sentences.
        parts: Of an average: the metrics, data sets or classes of the same report that it is the mean of.
    """

    protocol: str
    metric: str
    value: float
    interval: Interval | None
    count: int
    model: str = ""
    fingerprint: str = ""
    dataset: str = ""
    split: str = ""
    source: str = ""
    texts: int = 0
    seed: int = 0
    limit: int | None = None
    tied: float | None = None
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
