"""Layouts of classification sets: folders named after classes, SkyScript's CSV packs, JSON lines."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from geoglot.data.benchmarks.schema import IMAGE_SUFFIXES, Found, Request, check_images, image_in
from geoglot.data.samples import Sample, read_samples
from geoglot.errors import SourceError

NULLS = frozenset({"", "nan", "none", "null", "na", "n/a"})  # what pandas writes or reads as a missing label


def class_folders(request: Request) -> Found:
    """`<path>/<Class>/…/<image>`; stray files, hidden and `__MACOSX` folders are left out and counted."""
    files = sorted(path for path in request.file.rglob("*") if path.is_file())
    strays, samples = 0, []
    for path in files:
        below = path.relative_to(request.file).parts
        if any(part.startswith((".", "__MACOSX")) for part in below) or not _is_image(path, request.place.pattern):
            strays += 1
        elif len(below) < 2:
            raise SourceError(f"{path} lies in no class folder", hint=f"Expected {request.file}/<Class>/{path.name}.")
        else:
            label = below[0] if request.place.label == "first" else below[-2]
            samples.append(Sample(path, (), label, request.split))
    if not samples:
        raise SourceError(f"no images in the class folders of {request.file}")
    notes = (f"{strays:,} files that are no images of the set left out",) if strays else ()
    return Found(tuple(samples), tuple(sorted({str(s.label) for s in samples})), notes=notes)


def _is_image(path: Path, pattern: str) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.match(pattern)


def labels_csv(request: Request) -> Found:
    """SkyScript pack: columns `filepath`, `label`; `classnames.txt` beside the CSV gives the index order and wording.

    A label that is not a name of that file is read as its index; rows without a label are dropped and counted.
    """
    names_file = request.file.parent / "classnames.txt"
    if not names_file.is_file():
        raise SourceError(f"no classnames.txt beside {request.file}", hint="Unpack the whole pack, not the CSV alone.")
    names = [line.strip() for line in names_file.read_text("utf-8-sig").splitlines() if line.strip()]
    samples, null = [], 0
    for row in csv_rows(request.file, ("filepath", "label")):
        if row["label"].strip().lower() in NULLS:
            null += 1
            continue
        image = image_in(request.file.parent.parent, row["filepath"], str(request.file))
        samples.append(Sample(image, (), _label(row["label"], names, request.file), request.split))
    check_images(samples, str(request.file))
    notes = (f"{null:,} rows without a label left out",) if null else ()
    return Found(tuple(samples), tuple(names), tuple(names), notes)


def _label(value: str, names: list[str], file: Path) -> str:
    if value.strip() in names:
        return value.strip()
    try:
        index = float(value)  # pandas writes integer columns with gaps as 3.0
        if index == int(index) and 0 <= index < len(names):
            return names[int(index)]
    except ValueError:
        pass
    raise SourceError(f"{file}: label {value!r} is neither in classnames.txt nor an index below {len(names)}")


def csv_rows(file: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV in UTF-8 (with or without a mark) or else gb18030, which RSICD's is in.

    UTF-8 is tried first because text in another encoding is hardly ever valid UTF-8, while gb18030 reads nearly all.

    Raises:
        SourceError: Neither encoding fits, a column is missing, or a row is short.
    """
    raw = file.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = raw.decode("gb18030")
        except UnicodeDecodeError as error:
            raise SourceError(f"{file} is neither UTF-8 nor gb18030: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    lacking = [name for name in columns if name not in (reader.fieldnames or ())]
    if lacking:
        raise SourceError(f"{file} has no column {lacking[0]!r}", hint=f"It has: {', '.join(reader.fieldnames or ())}.")
    rows = []
    for row in reader:
        if any(row[name] is None for name in columns):
            raise SourceError(f"{file}:{reader.line_num} is cut short")
        rows.append({name: row[name] for name in columns})
    return rows


def jsonl(request: Request) -> Found:
    """One JSON object a line with `image`, `split`, and `label` or `captions`; see data/samples.py."""
    samples = read_samples(request.file, None if request.split == "all" else request.split)
    check_images(samples, str(request.file))
    return Found(tuple(samples), tuple(sorted({s.label for s in samples if s.label})))
