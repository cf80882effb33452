"""MGRS-200k's own record: `global_imgs/` and `text_info.json`, a list of images with captions and objects.

    {"global_filepath": "a/1.png", "global_caption": "...", "detailed_caption": "...", "segment": [
        {"bbox": {"x1": 4, "y1": 8, "x2": 60, "y2": 90, "W": 640, "H": 512}, "category": "ship", "category_id": 3}]}

As FarSLIP's released loader reads it: the *values* of `bbox` count, in their order, whatever their keys are called; the
caption is the first that is not empty of `global_caption`, `detailed_caption` (and, commented out there,
`brief_caption`); `cap` is the text of a region. That loader gives captioned regions the category -1 and its loss then
drops them; here they keep their category and their text, and who wants the published behaviour drops regions that have
a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from geoglot.data.pairs import clean
from geoglot.data.regions.checks import Gathering, Raw, check_names, image_in, numbers, read_json
from geoglot.data.regions.schema import RegionSet, RegionSource
from geoglot.errors import SampleError, SourceError

FILE, FOLDER = "text_info.json", "global_imgs"
CAPTIONS = ("global_caption", "detailed_caption", "brief_caption")
NO_CATEGORY = -1

Table = Mapping[str, Any]


def read_mgrs(source: RegionSource, base: Path) -> RegionSet:
    """`<path>` is the folder, or its `text_info.json`. There is one split."""
    path = base / source.path
    file = path if path.suffix.lower() == ".json" else path / FILE
    rows = read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"{file} is no list of records")
    if source.split not in {None, "train"}:
        raise SourceError(f"{file} has one split, train; asked was {source.split!r}")
    gathering = Gathering(source, str(file), _categories(rows, file))
    folder = file.parent / (source.images or FOLDER)
    seen: set[Path] = set()
    for number, row in enumerate(rows):
        where = f"{file.name} record {number}"
        image = image_in(folder, row.get("global_filepath"), where)
        if image in seen:
            gathering.wrong(where, f"{row['global_filepath']} for the second time")
            continue
        seen.add(image)
        _add(gathering, image, row, where)
    return gathering.done()


def _add(gathering: Gathering, image: Path, row: Table, where: str) -> None:
    segments = row.get("segment") or []
    if not isinstance(segments, list) or not all(isinstance(one, dict) for one in segments):
        gathering.wrong(where, "segment is no list of objects")
        return
    raws: list[Raw] = []
    sizes: set[tuple[int, int]] = set()
    for at, segment in enumerate(segments):
        try:
            raw, size = _region(f"{where} segment {at}", segment)
        except SampleError as error:
            gathering.wrong(f"{where} segment {at}", str(error))
            continue
        raws.append(raw)
        sizes.add(size)
    if len(sizes) > 1:
        gathering.wrong(where, f"its boxes tell different sizes of the image: {sorted(sizes)}")
        return
    captions = tuple(dict.fromkeys(clean([row.get(key) for key in CAPTIONS])))
    gathering.add(image, next(iter(sizes), None), raws, where=where, captions=captions)


def _region(where: str, segment: Table) -> tuple[Raw, tuple[int, int]]:
    """A region, and the size of its image."""
    box = segment.get("bbox")
    if not isinstance(box, dict) or len(box) != 6:
        raise SampleError(f"bbox {box!r:.60} is no object of six values: x1, y1, x2, y2, width, height")
    x0, y0, x1, y1, width, height = numbers(list(box.values()))
    if not (0 < width < 1e9 and 0 < height < 1e9) or width % 1 or height % 1:
        raise SampleError(f"an image of {width:g} x {height:g} px")
    text = segment.get("cap")
    if not isinstance(text, (str, type(None))):
        raise SampleError(f"cap {text!r:.40} is no text")
    return Raw(where, (x0, y0, x1, y1), str(segment.get("category") or ""), text), (int(width), int(height))


def _categories(rows: list[Table], file: Path) -> tuple[str, ...]:
    """Names in the order of their ids; those without an id after them, by name.

    Raises:
        SourceError: An id has two names, or a name two ids: the loss would take unlike things for alike.
    """
    ids: dict[str, int] = {}
    loose: set[str] = set()
    for name, number in _named(rows):
        if number is None:
            loose.add(name)
        elif ids.setdefault(name, number) != number:
            raise SourceError(f"{file} gives {name!r} the ids {ids[name]} and {number}")
    names = sorted(ids, key=lambda name: ids[name])
    twice = [(a, b) for a, b in pairwise(names) if ids[a] == ids[b]]
    if twice:
        raise SourceError(f"{file} gives the id {ids[twice[0][0]]} to {twice[0][0]!r} and {twice[0][1]!r}")
    everything = (*names, *sorted(loose - set(names)))
    return check_names(everything, str(file)) if everything else ()


def _named(rows: list[Table]) -> Iterator[tuple[str, int | None]]:
    for row in rows:
        segments = row.get("segment")
        for segment in segments if isinstance(segments, list) else ():
            name = segment.get("category") if isinstance(segment, dict) else None
            if isinstance(name, str) and name.strip():
                number = segment.get("category_id")
                known = isinstance(number, int) and not isinstance(number, bool) and number != NO_CATEGORY
                yield " ".join(name.split()), number if known else None
