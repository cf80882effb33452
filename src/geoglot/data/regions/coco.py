"""COCO: one JSON file with `images`, `annotations` (box x, y, width, height; polygons) and `categories`.

Crowds (`iscrowd`, a box around many) are left out and counted. Run-length masks are not decoded: such a region keeps
its box and has no polygon, and the set's notes count them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from geoglot.data.regions.checks import Gathering, Raw, check_names, image_in, numbers, points, read_json, ring_area
from geoglot.data.regions.schema import RegionSet, RegionSource, Ring
from geoglot.errors import SampleError, SourceError, UnknownNameError

Table = Mapping[str, Any]


def read_coco(source: RegionSource, base: Path) -> RegionSet:
    """`<path>` is the JSON file, or a folder with `instances.json` or `annotations/instances_<split>*.json`."""
    file, told = find_annotations(base / source.path, source.split)
    raw = read_json(file)
    if not isinstance(raw, dict):
        raise SourceError(f"{file} is no COCO file: not an object")
    names = _categories(raw, file)
    gathering = Gathering(source, str(file), tuple(names.values()))
    images = _images(raw, file, None if told else source.split)
    regions = _by_image(raw, {_id(t, "id") for t in _tables(raw, "images", file)}, gathering)
    root = file.parent if (base / source.path).is_file() else base / source.path
    folder = root / (source.images or "images")
    for number, table in images.items():
        path = image_in(folder, table.get("file_name"), f"image {number} of {file}")
        where = f"{file.name} image {number} {table['file_name']}"
        raws = [one for entry in regions.get(number, ()) if (one := _raw(entry, names, gathering)) is not None]
        gathering.add(path, _size(table), raws, where=where)
    return gathering.done()


def find_annotations(path: Path, split: str | None) -> tuple[Path, bool]:
    """The JSON file, and whether its name already tells the split. Raises SourceError: not there, or several."""
    if path.is_file() or path.suffix.lower() == ".json":
        return path, False
    if (file := path / "instances.json").is_file():
        return file, False
    hits = sorted(path.glob(f"annotations/instances_{split}*.json")) if split and split.isalnum() else []
    if len(hits) != 1:
        found = f"several fit: {', '.join(h.name for h in hits)}" if hits else "there is none"
        hint = "Expected instances.json, or annotations/instances_<split>*.json, or name the file itself."
        raise SourceError(f"no one COCO file in {path}: {found}", hint=hint)
    return hits[0], True


def _tables(raw: Table, key: str, file: Path) -> list[Table]:
    rows = raw.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"{file} is no COCO file: {key!r} is no list of objects")
    return rows


def _categories(raw: Table, file: Path) -> dict[int, str]:
    rows = _tables(raw, "categories", file)
    ids = [_id(row, "id") for row in rows]
    if len(set(ids)) < len(ids):
        raise SourceError(f"{file} gives two categories the same id")
    return dict(zip(ids, check_names([str(row.get("name") or "") for row in rows], str(file)), strict=True))


def _images(raw: Table, file: Path, split: str | None) -> dict[int, Table]:
    rows = _tables(raw, "images", file)
    names = {row.get("file_name") for row in rows if isinstance(row.get("file_name"), str)}
    if len({_id(row, "id") for row in rows}) < len(rows) or len(names) < len(rows):
        raise SourceError(f"{file} has two images of the same id or file name, or one without")
    splits = {str(row["split"]) for row in rows if "split" in row}
    if split is not None and split not in splits:
        raise UnknownNameError(f"split of {file.name}", split, splits)
    return {_id(row, "id"): row for row in rows if split is None or row.get("split") == split}


def _by_image(raw: Table, known: set[int], gathering: Gathering) -> dict[int, list[Table]]:
    found: dict[int, list[Table]] = {}
    for entry in _tables(raw, "annotations", Path(gathering.name)):
        image = _id(entry, "image_id")
        if image not in known:
            gathering.wrong(_where(entry), f"image {entry.get('image_id')!r} is not in the file")
        found.setdefault(image, []).append(entry)
    return found


def _raw(entry: Table, names: Mapping[int, str], gathering: Gathering) -> Raw | None:
    where, category = _where(entry), names.get(_id(entry, "category_id"))
    if entry.get("iscrowd"):
        gathering.leave_out(where, "a crowd: its box is around many")
        return None
    try:
        if category is None:
            raise SampleError(f"category {entry.get('category_id')!r} is not in the file")
        rings = tuple(_rings(entry.get("segmentation"), gathering))
        x, y, width, height = _four(entry["bbox"]) if "bbox" in entry else (0.0, 0.0, 0.0, 0.0)
        box = (x, y, x + width, y + height) if "bbox" in entry else None
        return Raw(where, box, category, None, rings)
    except SampleError as error:
        gathering.wrong(where, str(error))
        return None


def _rings(segmentation: object, gathering: Gathering) -> Iterator[Ring]:
    """Polygons, the largest first: it stands for the object where one ring must."""
    if isinstance(segmentation, dict):
        gathering.changes["masks in run-length code: boxes kept, no polygons"] += 1
        return
    if not isinstance(segmentation, (list, type(None))):
        raise SampleError(f"segmentation {segmentation!r:.40} is neither polygons nor run-length code")
    yield from sorted((points(numbers(flat)) for flat in segmentation or ()), key=ring_area, reverse=True)


def _four(value: object) -> tuple[float, float, float, float]:
    values = numbers(value)
    if len(values) != 4:
        raise SampleError(f"a box of {len(values)} values")
    return values[0], values[1], values[2], values[3]


def _id(row: Table, key: str) -> int:
    """An id; -1 where there is none, so that it is nobody's."""
    value = row.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _where(entry: Table) -> str:
    return f"annotation {entry.get('id')}"


def _size(table: Table) -> tuple[int, int] | None:
    width, height = table.get("width"), table.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None
