"""Numbers as tables, JSON, CSV or Markdown. A table holds one protocol; published numbers stand in it with a source.

Zero-shot and segmentation protocols give one table with a column a data set; the others one table a data set with a
column a metric. No table ever holds two protocols, and a dry look (`--limit`) never stands beside published numbers.
"""

from __future__ import annotations

import csv
import io
import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class Published:
    """One published number, percent, and where it stands."""

    protocol: str
    dataset: str
    metric: str
    model: str
    value: float
    source: str
    note: str


@cache
def published() -> tuple[Published, ...]:
    """All of them, in the file's order."""
    raw = tomllib.loads(resources.files(__package__).joinpath("published.toml").read_text("utf-8"))
    numbers = []
    for table in raw["table"]:
        heads = [column.split() for column in table["columns"]]
        for model, values, source in table["rows"]:
            for (dataset, metric), value in zip(heads, values, strict=True):
                if not math.isnan(value):
                    note = table.get("note", "")
                    numbers.append(Published(table["protocol"], dataset, metric, model, float(value), source, note))
    return tuple(numbers)


def beside(protocol: str, datasets: frozenset[str], metrics: frozenset[str]) -> tuple[Published, ...]:
    """Those that a table of this protocol, with these data sets and metrics, may show."""
    return tuple(p for p in published() if p.protocol == protocol and p.dataset in datasets and p.metric in metrics)


Format = Literal["table", "json", "csv", "md"]
FORMATS: tuple[Format, ...] = ("table", "json", "csv", "md")


@dataclass(frozen=True, slots=True)
class Table:
    """One protocol's numbers side by side.

    Attributes:
        title: Protocol, and what all columns share.
        columns: Headings after "model".
        rows: [model and cells]; a published one ends with its source.
        notes: What a reader must know.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def format_report(numbers: Sequence[Number], form: Literal["json", "csv", "md"]) -> str:
    """The whole report as text."""
    if form == "json":
        return _json(numbers)
    return _csv(numbers) if form == "csv" else "\n".join(_markdown(table) for table in tables(numbers))


def tables(numbers: Sequence[Number]) -> list[Table]:
    """Numbers sorted into tables, in the order in which they came."""
    groups: dict[tuple[str, str, int | None], list[Number]] = {}
    for number in numbers:
        across = number.protocol.startswith(("zsc/", "ovss/")) and number.protocol != "zsc/questions"
        if across and number.metric not in {"top1", "miou"}:
            continue  # top5, mean_class and the classes' iou are in JSON and CSV
        key = (number.protocol, number.metric if across else number.dataset, number.limit)
        groups.setdefault(key, []).append(number)
    return [_table(key, group) for key, group in groups.items()]


def _table(key: tuple[str, str, int | None], group: list[Number]) -> Table:
    protocol, shared, limit = key
    across = all(number.metric == shared for number in group)
    heads = {(n.dataset if across else n.metric): n for n in reversed(group)}
    columns = list(dict.fromkeys(n.dataset if across else n.metric for n in group))
    theirs_found = () if limit else _found(protocol, shared, columns, across)
    theirs = _published_rows(theirs_found, columns, across)
    rows = _our_rows(group, columns, across)
    images = {n.count for n in group if n.dataset != "mean"}
    size = f"{images.pop():,} images" if len(images) == 1 else "images in brackets"
    dry = f" · DRY LOOK, --limit {limit}" if limit else ""
    title = f"{protocol} · {shared} · percent · {size} · seed {group[0].seed}{dry}"
    named = [f"{name} ({heads[name].count:,})" if across else name for name in columns]
    if theirs:
        named.append("source")
        rows = [(*row, "this run") for row in rows]
    notes = _notes(group) + tuple(sorted({f"published: {one.note}" for one in theirs_found if one.note}))
    return Table(title, tuple(named), tuple(rows + theirs), notes)


def _our_rows(group: Sequence[Number], columns: Sequence[str], across: bool) -> list[tuple[str, ...]]:
    rows: dict[str, dict[str, str]] = {}
    for number in group:
        cells = rows.setdefault(f"{number.model} {number.fingerprint}".strip(), {})
        cells[number.dataset if across else number.metric] = _cell(number)
    return [(model, *(cells.get(name, "") for name in columns)) for model, cells in rows.items()]


def _cell(number: Number) -> str:
    span = f" ({number.interval[0]:.1f} to {number.interval[1]:.1f})" if number.interval else ""
    return f"{number.value:.2f}{span}"


def _published_rows(found: Sequence[Published], columns: Sequence[str], across: bool) -> list[tuple[str, ...]]:
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for one in found:
        rows.setdefault((one.model, one.source), {})[one.dataset if across else one.metric] = f"{one.value:.2f}"
    return [(model, *(cells.get(name, "") for name in columns), source) for (model, source), cells in rows.items()]


def _found(protocol: str, shared: str, columns: Sequence[str], across: bool) -> tuple[Published, ...]:
    sets, metrics = (frozenset(columns), frozenset({shared})) if across else (frozenset({shared}), frozenset(columns))
    return beside(protocol, sets, metrics)


def _notes(group: Sequence[Number]) -> tuple[str, ...]:
    facts = {f"{n.dataset}: read as {n.source}" for n in group if n.source}
    facts |= {f"{n.model} on {n.dataset}: {note}" for n in group for note in n.notes}
    tied = [n for n in group if n.tied is not None and n.tied - n.value > 0.005]
    kinder = "would be {:.2f} if every tie went its way"
    notes = [f"{n.model}: {n.dataset} {n.metric} {n.value:.2f} {kinder.format(n.tied)}" for n in tied]
    return (*sorted(facts), *_averages(group), *notes)


def _averages(group: Sequence[Number]) -> list[str]:
    """The parts of each average in the table; a gap is the mean drop of its parts from English."""
    named = {(n.dataset if n.dataset == "mean" else n.metric, n.parts) for n in group if n.parts}
    return sorted(f"{name}: {len(parts)} parts, {', '.join(parts)}" for name, parts in named)


def _markdown(table: Table) -> str:
    lines = [
        f"### {table.title}",
        "",
        f"| model | {' | '.join(table.columns)} |",
        "|---" * (len(table.columns) + 1) + "|",
    ]
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def _json(numbers: Sequence[Number]) -> str:
    full = [number for number in numbers if number.limit is None]
    theirs = beside_all(full)
    body = {"numbers": [asdict(number) for number in numbers], "published": [asdict(one) for one in theirs]}
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def beside_all(numbers: Sequence[Number]) -> list[Published]:
    """Published numbers of the protocols, data sets and metrics that occur."""
    keys = {(n.protocol, n.dataset, n.metric) for n in numbers}
    tables = dict.fromkeys((protocol, dataset, metric) for protocol, dataset, metric in sorted(keys))
    return [one for p, d, m in tables for one in beside(p, frozenset({d}), frozenset({m}))]


_COLUMNS = (
    "protocol", "dataset", "split", "metric", "model", "fingerprint", "value", "low", "high", "count", "texts",
    "seed", "limit", "tied", "source", "notes", "parts",
)  # fmt: skip


def _csv(numbers: Sequence[Number]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for number in numbers:
        row = asdict(number)
        low, high = row.pop("interval") or ("", "")
        writer.writerow(
            row | {"low": low, "high": high, "notes": "; ".join(number.notes)} | {"parts": "; ".join(number.parts)}
        )
    for one in beside_all([number for number in numbers if number.limit is None]):
        row = asdict(one)
        writer.writerow({key: row[key] for key in ("protocol", "dataset", "metric", "model", "value", "source")})
    return out.getvalue()
