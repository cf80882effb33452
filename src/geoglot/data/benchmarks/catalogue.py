"""Benchmark sets by name: find one below a data folder, in whichever of its layouts it lies there, and read it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from geoglot.data.benchmarks.caption_layouts import captions_csv, gaia, karpathy, nwpu, yuan
from geoglot.data.benchmarks.class_layouts import class_folders, jsonl, labels_csv
from geoglot.data.benchmarks.localization_layouts import air_slt
from geoglot.data.benchmarks.schema import SPLITS, Benchmark, Entry, Found, Place, Reader, Request
from geoglot.data.phash import hash_files, look_alikes
from geoglot.errors import SourceError, UnknownNameError, UsageError

READERS: dict[str, Reader] = {
    "class_folders": class_folders, "labels_csv": labels_csv, "jsonl": jsonl, "captions_csv": captions_csv,
    "karpathy": karpathy, "nwpu": nwpu, "yuan": yuan, "gaia": gaia, "air_slt": air_slt,
}  # fmt: skip


@cache
def catalogue() -> dict[str, Entry]:
    """All sets, in the order of the file."""
    raw = tomllib.loads(resources.files(__package__).joinpath("catalogue.toml").read_text("utf-8"))
    entries = {}
    for name, table in raw.items():
        places = tuple(Place(**{**p, "parts": tuple(p.get("parts", ()))}) for p in table.pop("places"))
        entries[name] = Entry(name=name, places=places, **table)
    return entries


def find_entry(name: str) -> Entry:
    """One set's description.

    Raises:
        UnknownNameError: No such set.
    """
    if name not in catalogue():
        raise UnknownNameError("data set", name, catalogue())
    return catalogue()[name]


def read_benchmark(name: str, root: Path, *, split: str | None = None, partial: bool = False) -> Benchmark:
    """Read a set from below `root`, in the first of its layouts that is there.

    Args:
        name: As in the catalogue.
        root: The data folder.
        split: Another part than the one the protocols use, where the layout has it.
        partial: Take a set with another number of images, or without some classes, than the source states; the
            result says so in its notes.

    Raises:
        UnknownNameError: No such set.
        SourceError: It is not there (with its page and layouts), damaged, or not whole.
    """
    entry = find_entry(name)
    split = split or entry.split
    for place in entry.places:
        if place.layout == "union":
            return _read_union(entry, place, lambda part, of: read_benchmark(part, root, split=of, partial=partial))
        if (file := _locate(root, place, split)) is not None:
            asked = SPLITS.get(split, split) if place.layout in {"karpathy", "nwpu", "jsonl"} else split
            content = READERS[place.layout](Request(file, root, asked, place))
            return _checked(entry, content, split, f"{place.layout} {file.relative_to(root)}", partial)
    raise _absent(entry, root, split)


def _locate(root: Path, place: Place, split: str) -> Path | None:
    """The one path that tells this layout, if it is there with its image folder."""
    path = place.path.format(split=split)
    hits = sorted(root.glob(path)) if "*" in path else [root / path]
    if len(hits) > 1:
        raise SourceError(f"several files match {root / path}: {', '.join(hit.name for hit in hits)}")
    there = bool(hits) and hits[0].exists() and (not place.images or (root / place.images).is_dir())
    if there and place.layout == "class_folders" and not hits[0].is_dir():
        return None
    return hits[0] if there else None


def _absent(entry: Entry, root: Path, split: str) -> SourceError:
    paths = [place.path.format(split=split) + _with_images(place) for place in entry.places]
    return SourceError(
        f"{entry.title} ({entry.name!r}, split {split}) is not in {root}",
        hint=f"Get it from {entry.page} (licence: {entry.licence}) and unpack it so that one of these is there: "
        + "; ".join(f"{root}/{path}" for path in paths),
    )


def _with_images(place: Place) -> str:
    if place.layout == "class_folders":
        return "/<Class>/<image>"
    return f" with images in {place.images}/" if place.images else ""


def _checked(entry: Entry, found: Found, split: str, source: str, partial: bool) -> Benchmark:
    """Refuse what is not whole, unless told to take it."""
    problems = [*_count_problem(entry, found, split), *_class_problems(entry, found)]
    if not found.samples:
        raise SourceError(f"{source} has no images of split {split!r}")
    if problems and not partial:
        raise SourceError(f"{source}: " + "; ".join(problems), hint="Unpack it anew, or take it as it is: --partial.")
    notes = (*found.notes, *problems)
    return Benchmark(entry, found.samples, found.classes, found.texts, split, source, notes, found.polygons)


def _count_problem(entry: Entry, found: Found, split: str) -> list[str]:
    expected = entry.count.get(split)
    if expected is None or expected == len(found.samples):
        return []
    return [f"{len(found.samples):,} images, {expected:,} expected"]


def _class_problems(entry: Entry, found: Found) -> list[str]:
    if not entry.classes:
        return []
    classes = class_names(entry.classes)
    spellings = {_fold(spelling): names[0] for names in classes for spelling in names}
    strange = [name for name in found.classes if _fold(name) not in spellings]
    seen = {spellings[_fold(name)] for name in found.classes if _fold(name) in spellings}
    lacking = [names[0] for names in classes if names[0] not in seen]
    problems = [f"no class of {entry.title}: {', '.join(strange)}"] if strange else []
    return problems + ([f"classes without images: {', '.join(lacking)}"] if lacking else [])


def _fold(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter not in " _-/")


@cache
def class_names(name: str) -> tuple[tuple[str, ...], ...]:
    """Canonical class names of a file in classes/, each with its other spellings."""
    text = resources.files(__package__).joinpath("classes", f"{name}.txt").read_text("utf-8")
    return tuple(tuple(part.strip() for part in line.split("|")) for line in text.splitlines() if line.strip())


def limited(benchmark: Benchmark, limit: int) -> Benchmark:
    """At most `limit` samples, spread evenly over the set, so that most classes stay.

    Raises:
        UsageError: The limit is below 1.
    """
    if limit < 1:
        raise UsageError(f"a limit of {limit} leaves nothing to evaluate", hint="Give at least 1.")
    total = len(benchmark.samples)
    if limit >= total:
        return benchmark
    rows = [i * total // limit for i in range(limit)]
    polygons = None if benchmark.polygons is None else tuple(benchmark.polygons[i] for i in rows)
    return replace(benchmark, samples=tuple(benchmark.samples[i] for i in rows), polygons=polygons)


def _read_union(entry: Entry, place: Place, read: Callable[[str, str], Benchmark]) -> Benchmark:
    """RET-2 and RET-3: join the parts' train splits, without the images that a test split of a part also shows.

    Hashes every image of train and test, about a millisecond each.

    Args:
        entry: The union's description.
        place: Names the parts.
        read: Set and split -> the set; raises SourceError when it is not there.
    """
    train = [read(name, "train") for name in place.parts]
    test = [read(name, "test") for name in place.parts]
    samples = [sample for part in train for sample in part.samples]
    leaks = look_alikes(
        hash_files([sample.image for sample in samples]),
        hash_files([sample.image for part in test for sample in part.samples]),
    )
    clean = tuple(sample for sample, leak in zip(samples, leaks, strict=True) if not leak)
    notes = [note for part in (*train, *test) for note in part.notes]
    notes.append(f"{int(np.count_nonzero(leaks)):,} of {len(samples):,} images left out: they look like a test image")
    return Benchmark(entry, clean, (), None, "train", " + ".join(part.source for part in train), tuple(notes))
