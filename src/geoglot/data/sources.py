"""The `[[data]]` tables of a training config, and the sets of pairs that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from glob import glob
from pathlib import Path

from geoglot.data.pairs import PairSet
from geoglot.data.shards import ShardPairs
from geoglot.data.tables import csv_pairs, folder_pairs, json_pairs, parquet_pairs
from geoglot.errors import SourceError, UsageError

TABLES = {
    ".csv": csv_pairs,
    ".tsv": csv_pairs,
    ".jsonl": json_pairs,
    ".json": json_pairs,
    ".parquet": parquet_pairs,
}


@dataclass(frozen=True, slots=True)
class DataSource:
    """One `[[data]]` table of a config.

    Attributes:
        path: A folder of images, a table (.csv .tsv .jsonl .json .parquet), or a glob of tars ("pub11-train-*.tar").
        weight: Share of the mix; 0 for all sources: each by its size, every image once an epoch.
        image, caption: Column names, where the usual ones do not hold.
        root: Folder that the table's paths are relative to and must not leave; empty: the table's own.
        encoding: Of a text table.
        split: Keep rows whose `split` column says so; empty: all.
    """

    path: str
    weight: float = 0.0
    image: str = ""
    caption: str = ""
    root: str = ""
    encoding: str = "utf-8"
    split: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise UsageError("a data source needs a path")
        if not 0 <= self.weight < float("inf"):
            raise UsageError(f"weight {self.weight} of {self.path} is not a share")


def open_source(source: DataSource, base: Path) -> PairSet:
    """The pairs of a source; paths are relative to `base`.

    Raises:
        SourceError: Nothing is there, or it cannot be read.
    """
    path = base / source.path
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        return ShardPairs(source.path, shards) if shards else folder_pairs(path)
    if path.suffix.lower() == ".tar" or any(c in source.path for c in "*?["):
        shards = [Path(name) for name in sorted(glob(str(path)))]  # noqa: PTH207 - the pattern may be absolute
        if not shards:
            raise SourceError(f"no file matches {path}", hint="Quote the pattern; check the folder.")
        return ShardPairs(source.path, shards)
    if not path.is_file():
        raise SourceError(f"no data at {path}", hint="Check `path` in the config and --data.")
    if path.suffix.lower() not in TABLES:
        hint = f"Known: .tar, {', '.join(TABLES)}, a folder."
        raise SourceError(f"{path} is not a table that can be read", hint=hint)
    root = base / source.root if source.root else path.parent
    return TABLES[path.suffix.lower()](
        path, root, image=source.image, caption=source.caption, encoding=source.encoding, split=source.split
    )
