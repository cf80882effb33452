"""Tables of pairs: CSV, JSON lines, JSON, Parquet, and folders of images with text files beside them.

One row an image or one row a caption; rows of the same image are joined. Paths are relative to the table's folder (or
`root`) and must not lead out of it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.data.pairs import FilePairs, Pair, PairSet, clean, file_pairs, identity, inside, stamp
from geoglot.data.shards import read_captions
from geoglot.errors import SampleError, SourceError, UnknownNameError

IMAGE_COLUMNS = ("image", "filepath", "filename", "file_name", "img_name", "image_path", "path")
CAPTION_COLUMNS = ("captions", "caption", "text", "title", "title_multi_objects", "sentences")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
LARGEST_FIELD = 1 << 20

Row = Mapping[str, Any]


def csv_pairs(file: Path, root: Path, *, image: str, caption: str, encoding: str, split: str) -> FilePairs:
    """A table with a header line; comma, tab or semicolon, whichever the header has most of.

    Raises:
        SourceError: Not readable, not in that encoding, or without the columns.
    """
    csv.field_size_limit(LARGEST_FIELD)
    try:
        with file.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            rows = list(csv.DictReader(stream, delimiter=max(",\t;", key=head.count), strict=True))
    except UnicodeDecodeError as error:
        hint = 'Say which it is, e.g. encoding = "gb18030" (RSICD and RSITMD of the RS5M test pack).'
        raise SourceError(f"{file} is not {encoding} (byte {error.start} of a block)", hint=hint) from error
    except (OSError, LookupError, csv.Error) as error:
        raise SourceError(f"cannot read {file}: {error}") from error
    return _row_pairs(file, root, rows, image, caption, split)


def json_pairs(file: Path, root: Path, *, image: str, caption: str, encoding: str, split: str) -> FilePairs:
    """JSON lines, or one JSON list of objects, or one object of columns.

    Raises:
        SourceError: Not readable or not such a file; the line is named.
    """
    try:
        text = file.read_text("utf-8-sig" if encoding == "utf-8" else encoding)
    except (OSError, LookupError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read {file}: {error}") from error
    rows = list(_json_lines(file, text)) if file.suffix.lower() == ".jsonl" else _json_rows(file, text)
    return _row_pairs(file, root, rows, image, caption, split)


def _json_lines(file: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            row = _parse(f"{file}:{number}", line)
            if not isinstance(row, dict):
                raise SourceError(f"{file}:{number} is not a JSON object")
            yield row


def _json_rows(file: Path, text: str) -> list[Row]:
    whole = _parse(str(file), text)
    if isinstance(whole, dict) and whole and all(isinstance(v, (dict, list)) for v in whole.values()):
        columns = {k: list(v.values()) if isinstance(v, dict) else v for k, v in whole.items()}
        if len({len(v) for v in columns.values()}) == 1:
            return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if isinstance(whole, list) and all(isinstance(row, dict) for row in whole):
        return whole
    raise SourceError(f"{file} is neither a list of objects nor an object of equally long columns")


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} is not JSON: {error}") from error


def _row_pairs(file: Path, root: Path, rows: Sequence[Row], image: str, caption: str, split: str) -> FilePairs:
    names = list(dict.fromkeys(key for row in rows[:100] for key in row if isinstance(key, str)))
    image, caption = _column(file, image, IMAGE_COLUMNS, names), _column(file, caption, CAPTION_COLUMNS, names)
    kept, skipped = list[tuple[Path, tuple[str, ...]]](), list[tuple[str, str]]()
    for number, row in enumerate(rows, start=1):
        if split and row.get("split") != split:
            continue
        try:
            kept.append((inside(root, str(row.get(image) or "")), _sentences(row.get(caption))))
        except SampleError as error:
            skipped.append((f"{file.name} row {number}", str(error)))
    return file_pairs(str(file), kept, skipped)


def _column(file: Path, wanted: str, usual: Iterable[str], names: Sequence[str]) -> str:
    found = [name for name in ([wanted] if wanted else usual) if name in names]
    if not found:
        what = wanted or f"one of {', '.join(usual)}"
        if wanted:
            raise UnknownNameError(f"column of {file.name}", wanted, names)
        raise SourceError(f"{file} has no column {what}; it has {', '.join(names) or 'none'}", hint="Name the column.")
    return found[0]


def _sentences(cell: object) -> tuple[str, ...]:
    """A sentence, a list of sentences, or a list of objects with `raw` (Karpathy's layout)."""
    if isinstance(cell, (list, tuple)):
        return clean([item.get("raw") if isinstance(item, dict) else item for item in cell])
    return clean([cell])


def folder_pairs(folder: Path) -> FilePairs:
    """Every image below a folder that has a `.txt` (one caption a line) or `.json` of the same stem beside it."""
    rows, skipped = list[tuple[Path, tuple[str, ...]]](), list[tuple[str, str]]()
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        text = next((t for t in (path.with_suffix(".txt"), path.with_suffix(".json")) if t.is_file()), None)
        try:
            rows.append((path, read_captions(text.read_bytes(), text.name) if text else ()))
        except SampleError as error:
            skipped.append((str(path), str(error)))
    return file_pairs(str(folder), rows, skipped)


def parquet_pairs(file: Path, root: Path, *, image: str, caption: str, encoding: str, split: str) -> PairSet:
    """Parquet with paths, or with the images themselves (bytes, or a struct with `bytes`).

    Raises:
        SourceError: Not readable, or without the columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot read {file}: {error}") from error
    names = table.schema_arrow.names
    image, caption = _column(file, image, IMAGE_COLUMNS, names), _column(file, caption, CAPTION_COLUMNS, names)
    kind = table.schema_arrow.field(image).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        columns = [name for name in (image, caption, "split") if name in names]
        return _row_pairs(file, root, table.read(columns).to_pylist(), image, caption, split)
    return ParquetPairs(file, image, caption)


class ParquetPairs:
    """Images inside Parquet files. A row group is read whole, so the last few are kept."""

    KEPT = 20
    """Row groups in memory: the sampler mixes 16 blocks at a time."""

    def __init__(self, file: Path, image: str, caption: str) -> None:
        import pyarrow.parquet as pq

        self.name, self.file, self.image, self.caption = str(file), file, image, caption
        facts = pq.ParquetFile(file).metadata
        sizes = [facts.row_group(i).num_rows for i in range(facts.num_row_groups)]
        self.blocks: NDArray[np.int64] = np.cumsum([0, *sizes])
        self.image_ids = np.array([identity(f"{file}:{i}") for i in range(facts.num_rows)], np.int64)
        self.skipped: Sequence[tuple[str, str]] = ()
        self._groups: dict[int, Any] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_lock"} | {"_groups": {}}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()

    def read(self, record: int) -> Pair:
        group = int(np.searchsorted(self.blocks, record, side="right")) - 1
        row, name = record - int(self.blocks[group]), f"{self.file.name} row {record}"
        table = self._group(group)
        cell, said = table[self.image][row].as_py(), table[self.caption][row].as_py()
        raw = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(raw, bytes):
            raise SampleError(f"{name} holds no image bytes")
        captions = _sentences(said)
        if not captions:
            raise SampleError(f"{name}: no caption")
        return Pair(name, raw, captions)

    def fingerprint(self) -> str:
        return hashlib.blake2b(f"{len(self)}:{stamp(self.file)}".encode(), digest_size=8).hexdigest()

    def _group(self, group: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._lock:
            if group not in self._groups:
                try:
                    columns = [self.image, self.caption]
                    self._groups[group] = pq.ParquetFile(self.file).read_row_group(group, columns=columns)
                except (OSError, pa.ArrowException) as error:
                    raise SampleError(f"{self.file.name}, row group {group}: {error}") from error
            table = self._groups.pop(group)
            self._groups[group] = table  # the youngest last
            while len(self._groups) > self.KEPT:
                del self._groups[next(iter(self._groups))]
            return table
