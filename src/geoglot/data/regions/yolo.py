"""YOLO: one text file an image, one line an object, everything as shares of the image's width and height.

    class cx cy w h                      a box by its middle
    class x1 y1 x2 y2 x3 y3 x4 y4        an oriented box (OBB); more corners: a polygon

Names come from `data.yaml` (`names`: a list, or a table from 0 on) or `classes.txt` (one a line). Labels lie where the
images lie, with the last folder "images" in the path replaced by "labels". An image without a label file shows no
object: this is how the layout says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from geoglot.data.image_files import image_size
from geoglot.data.pairs import inside
from geoglot.data.regions.checks import (
    Gathering,
    Raw,
    by_stem,
    check_names,
    label_files,
    list_images,
    numbers,
    read_text,
)
from geoglot.data.regions.schema import RegionSet, RegionSource
from geoglot.errors import SampleError, SourceError, UnknownNameError

CONFIGS = ("data.yaml", "data.yml", "dataset.yaml")
SPLITS = ("train", "val", "test")
LARGEST_YAML = 1 << 20


def read_yolo(source: RegionSource, base: Path) -> RegionSet:
    """`<path>` is the YAML file, or a folder with one or with `classes.txt`."""
    path = base / source.path
    config = path if path.is_file() else next((path / n for n in CONFIGS if (path / n).is_file()), None)
    folder = path.parent if path.is_file() else path
    names, splits = _described(config) if config else (_listed(folder / "classes.txt"), {})
    gathering = Gathering(source, str(config or folder), names)
    unlabelled = 0
    for images_at in _image_folders(folder, splits, source):
        images = by_stem(images_at, list_images(images_at))
        labels = label_files(_labels_at(folder, images_at, source), ".txt")
        for name in sorted(labels.keys() - images.keys() - {"classes"}):
            gathering.wrong(str(labels[name]), "no image of that name")
        unlabelled += len(images.keys() - labels.keys())
        for name, image in images.items():
            _add(gathering, image, labels.get(name), folder)
    if unlabelled:
        gathering.changes["images without a label file: no objects"] += unlabelled
    return gathering.done()


def _described(file: Path) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Names and split folders of a YAML file. Raises SourceError."""
    import yaml

    try:
        raw = yaml.safe_load(read_text(file, LARGEST_YAML))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SourceError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise SourceError(f"{file} is no description of a data set")
    names = check_names(_in_order(raw.get("names"), file), str(file))
    if raw.get("nc", len(names)) != len(names):
        raise SourceError(f"{file} announces {raw['nc']} classes and names {len(names)}")
    return names, {split: _folders(raw, split, file) for split in SPLITS if raw.get(split)}


def _in_order(names: Any, file: Path) -> list[str]:
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise SourceError(f"{file}: the numbers of the names must be 0 to {len(names) - 1}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise SourceError(f"{file} has no list of names")
    return [str(name) for name in names]


def _folders(raw: Mapping[str, Any], split: str, file: Path) -> list[str]:
    value = raw[split] if isinstance(raw[split], list) else [raw[split]]
    if not all(isinstance(one, str) for one in value) or any(one.endswith(".txt") for one in value):
        raise SourceError(f"{file}: {split} must name folders of images")
    root = raw.get("path")  # an absolute one is true on its author's machine only
    prefix = f"{root}/" if isinstance(root, str) and not Path(root).is_absolute() else ""
    return [prefix + one for one in value]


def _listed(file: Path) -> tuple[str, ...]:
    if not file.is_file():
        raise SourceError(f"{file.parent} has neither {', '.join(CONFIGS)} nor classes.txt", hint="Name the YAML file.")
    return check_names([line for line in read_text(file).splitlines() if line.strip()], str(file))


def _image_folders(folder: Path, splits: Mapping[str, list[str]], source: RegionSource) -> list[Path]:
    if source.images:
        return [folder / source.images]
    if not splits:
        return [folder / "images" / (source.split or "")]
    if source.split is not None and source.split not in splits:
        raise UnknownNameError(f"split of {folder}", source.split, splits)
    named = splits[source.split] if source.split else [one for few in splits.values() for one in few]
    try:
        return [inside(folder, one) for one in named]
    except SampleError as error:
        hint = "Put the YAML file above the images, or name their folder: images = ..."
        raise SourceError(f"the YAML file of {folder} leads out of it: {error}", hint=hint) from error


def _labels_at(folder: Path, images: Path, source: RegionSource) -> Path:
    if source.labels:
        return folder / source.labels
    parts = list(images.relative_to(folder).parts)
    if "images" not in parts:
        raise SourceError(f"{images} has no folder images in its path", hint="Name the labels' folder: labels = ...")
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return folder.joinpath(*parts)


def _add(gathering: Gathering, image: Path, labels: Path | None, folder: Path) -> None:
    where = str((labels or image).relative_to(folder))
    try:
        size = image_size(image)
    except SampleError as error:
        gathering.wrong(where, str(error))
        return
    gathering.add(image, size, list(_objects(labels, size, gathering)) if labels else [], where=where)


def _objects(file: Path, size: tuple[int, int], gathering: Gathering) -> Iterator[Raw]:
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if words := line.split():
            try:
                yield _object(f"{file}:{number}", words, size, gathering.categories)
            except SampleError as error:
                gathering.wrong(f"{file}:{number}", str(error))


def _object(where: str, words: list[str], size: tuple[int, int], names: tuple[str, ...]) -> Raw:
    if not words[0].isdecimal() or int(words[0]) >= len(names):
        raise SampleError(f"class {words[0]:.20} is none of 0 to {len(names) - 1}")
    values, (width, height) = numbers(words[1:]), size
    category = names[int(words[0])]
    if len(values) == 4:
        x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
        return Raw(where, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), category)
    if len(values) < 6 or len(values) % 2:
        raise SampleError(f"{len(values)} numbers; a box has 4, an oriented box 8, a polygon any even number from 6 on")
    ring = tuple((x * width, y * height) for x, y in zip(values[::2], values[1::2], strict=True))
    return Raw(where, None, category, None, (ring,))
