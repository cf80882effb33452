"""Layouts of retrieval sets: caption CSVs, Karpathy's JSON, NWPU-Captions' JSON, AMFMN's text files, GAIA's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from geoglot.data.benchmarks.class_layouts import csv_rows
from geoglot.data.benchmarks.schema import IMAGE_SUFFIXES, Found, Request, grouped, image_in, our_split
from geoglot.errors import SourceError

CAPTIONS = 5  # of every image, in all sets that come as text files or NWPU's JSON
NWPU_KEYS = ("raw", "raw_1", "raw_2", "raw_3", "raw_4")


def captions_csv(request: Request) -> Found:
    """One row a caption: `filename` (RS5M's pack) or `filepath` (SkyScript's), and the caption."""
    text = request.place.text
    key = "filepath" if request.place.images == "." else "filename"
    rows = csv_rows(request.file, (key, text))
    where = str(request.file)
    return grouped([(image_in(request.images, row[key], where), row[text]) for row in rows], request.split, where)


def karpathy(request: Request) -> Found:
    """`images[].{filename, split, sentences[].raw}`; one file holds all splits."""
    where = str(request.file)
    rows = []
    for entry in _get(_json(request.file), "images", where):
        if our_split(_get(entry, "split", where), where) == request.split:
            image = image_in(request.images, _get(entry, "filename", where), where)
            rows += [(image, str(_get(sentence, "raw", where))) for sentence in _get(entry, "sentences", where)]
    return grouped(rows, request.split, where)


def nwpu(request: Request) -> Found:
    """{class: [{filename, split, raw, raw_1 … raw_4}]}, images in `<images>/<class>/<filename>`."""
    where = str(request.file)
    rows = []
    for label, entries in _json(request.file).items():
        for entry in entries:
            if our_split(_get(entry, "split", where), where) == request.split:
                image = image_in(request.images / label, _get(entry, "filename", where), where)
                rows += [(image, str(entry.get(key) or "")) for key in NWPU_KEYS]
    return grouped(rows, request.split, where)


def yuan(request: Request) -> Found:
    """AMFMN's `<split>_caps.txt` (five lines an image) and `<split>_filename.txt`.

    The trap: the test list repeats each name five times, the train list has each image once.
    """
    where = str(request.file)
    captions = request.file.read_text("utf-8").removesuffix("\n").split("\n")
    names_file = request.file.with_name(request.file.name.replace("_caps", "_filename"))
    if not names_file.is_file():
        raise SourceError(f"no {names_file.name} beside {where}")
    names = names_file.read_text("utf-8").split()
    if len(captions) == CAPTIONS * len(names):
        names = [name for name in names for _ in range(CAPTIONS)]
    if len(captions) != len(names):
        raise SourceError(
            f"{where} has {len(captions):,} lines, {names_file.name} {len(names):,}",
            hint="Expected as many, or five captions for each name.",
        )
    rows = [(image_in(request.images, name, where), text) for name, text in zip(names, captions, strict=True)]
    return grouped(rows, request.split, where)


def gaia(request: Request) -> Found:
    """Rows, columns or JSON lines with `id` and `captions`; images are `<images>/<id>.<suffix>`.

    GAIA ships addresses, not images, and some are dead: samples without an image are left out and counted.
    """
    where = str(request.file)
    there = {path.stem: path for path in request.images.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    rows, lost = [], 0
    for entry in _records(request.file):
        image = there.get(str(_get(entry, "id", where)))
        lost += image is None
        if image is not None:
            rows += [(image, str(caption)) for caption in _get(entry, "captions", where)]
    if not rows:
        raise SourceError(f"none of the images of {where} lies in {request.images} as <id>.jpg or <id>.png")
    found = grouped(rows, request.split, where)
    lacks = (f"{lost:,} samples whose image was not downloaded left out",) if lost else ()
    return Found(found.samples, notes=(*found.notes, *lacks))


def _records(file: Path) -> Iterator[dict[str, Any]]:
    """The same JSON in any of its three orientations."""
    try:
        body = _json(file)
    except SourceError:
        yield from _json_lines(file)
        return
    if isinstance(body, list):
        yield from body
        return
    columns = {key: _column(values) for key, values in body.items()}
    if len({len(values) for values in columns.values()}) > 1:
        raise SourceError(f"{file}: columns of unequal length")
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


def _column(values: Any) -> Sequence[Any]:
    return list(values.values()) if isinstance(values, dict) else values  # pandas writes {"0": …, "1": …}


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file.read_text("utf-8-sig").splitlines(), start=1):
        try:
            if line.strip():
                yield json.loads(line)
        except ValueError as error:
            raise SourceError(f"{file}:{number} is not JSON: {error}") from error


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8-sig"))
    except ValueError as error:
        raise SourceError(f"{file} is not JSON: {error}") from error


def _get(entry: Any, key: str, where: str) -> Any:
    try:
        return entry[key]
    except (KeyError, TypeError) as error:
        raise SourceError(f"{where}: an entry has no {key!r}") from error
