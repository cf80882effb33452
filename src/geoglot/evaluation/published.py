"""Numbers that others published, from published.toml, to stand beside ours under the same protocol."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


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
    found = []
    for table in raw["table"]:
        heads = [column.split() for column in table["columns"]]
        for model, values, source in table["rows"]:
            for (dataset, metric), value in zip(heads, values, strict=True):
                if not math.isnan(value):
                    note = table.get("note", "")
                    found.append(Published(table["protocol"], dataset, metric, model, float(value), source, note))
    return tuple(found)


def beside(protocol: str, datasets: frozenset[str], metrics: frozenset[str]) -> tuple[Published, ...]:
    """Those that a table of this protocol, with these data sets and metrics, may show."""
    return tuple(p for p in published() if p.protocol == protocol and p.dataset in datasets and p.metric in metrics)
