"""Checks that all readers of regions share: text and JSON of bounded size, and the checks that each region passes."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoglot.data.image_files import SUFFIXES, image_size
from geoglot.data.pairs import inside
from geoglot.data.regions.schema import BoxPx, Region, RegionRecord, RegionSet, RegionSource, Ring
from geoglot.errors import SampleError, SourceError

LARGEST_TEXT = 16 << 20
"""Bytes of one label file; DOTA's longest has well under 10 MB."""

LARGEST_JSON = 2 << 30
"""Bytes of one annotation file; COCO's own largest has 0.5 GB."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A region as a layout tells it, unchecked.

    Attributes:
        where: File and entry, for reports.
        box: (x0, y0, x1, y1) px; None: the box of the rings.
        category, text: As stored.
        rings: Of its outline.
    """

    where: str
    box: BoxPx | None
    category: str
    text: str | None = None
    rings: tuple[Ring, ...] = ()


@dataclass(slots=True)
class Gathering:
    """Collects the records of one set; knows what was wrong, left out and changed on the way."""

    source: RegionSource
    name: str
    categories: tuple[str, ...]
    records: list[RegionRecord] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        image: Path,
        size: tuple[int, int] | None,
        raws: Iterable[Raw],
        *,
        where: str,
        captions: tuple[str, ...] = (),
        gsd_m: float | None = None,
    ) -> None:
        """One image; without a size, its header is read. What is wrong with it or its regions is noted."""
        try:
            size = size or image_size(image)
            if not image.is_file():
                raise SampleError(f"{image} is missing or not a file")
        except SampleError as error:
            self.wrong(where, str(error))
            return
        regions = tuple(region for raw in raws if (region := self._region(raw, *size)) is not None)
        self.records.append(RegionRecord(str(image), *size, captions, regions, where, gsd_m))

    def wrong(self, where: str, reason: str) -> None:
        """Something that cannot be used: refuses the set in the end, or is counted, as the source says."""
        self.bad.append((where, reason))

    def leave_out(self, where: str, reason: str) -> None:
        """Something sound that is not wanted; counted."""
        self.skipped.append((where, reason))

    def _region(self, raw: Raw, width: int, height: int) -> Region | None:
        try:
            box = self._box(raw, width, height)
        except SampleError as error:
            self.wrong(raw.where, str(error))
            return None
        category = " ".join(raw.category.split())
        text = " ".join((raw.text or self.source.texts.get(category, "")).split()) or None
        if not category and text is None:
            self.wrong(raw.where, "neither a category nor a text")
            return None
        first = raw.rings[0] if raw.rings else None
        return Region(box, category, text, first, raw.rings[1:])

    def _box(self, raw: Raw, width: int, height: int) -> BoxPx:
        """Checked, and cut at the image's edges."""
        for ring in raw.rings:
            if len(ring) < 3:
                raise SampleError(f"a polygon of {len(ring)} points")
            if not any(map(ring_area, raw.rings)):
                raise SampleError("a polygon without area")
        values = [v for ring in raw.rings for point in ring for v in point]
        if not all(math.isfinite(v) for v in (*values, *(raw.box or ()))):
            raise SampleError("a coordinate that is not finite")
        x0, y0, x1, y1 = raw.box or hull(raw.rings)
        if x0 >= x1 or y0 >= y1:
            raise SampleError(f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty or inverted")
        cut = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        if cut[0] >= cut[2] or cut[1] >= cut[3]:
            raise SampleError(f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) lies outside the image of {width} x {height} px")
        if cut != (x0, y0, x1, y1):
            self.changes["boxes cut at the image's edge"] += 1
        return cut

    def done(self) -> RegionSet:
        """The set.

        Raises:
            SourceError: Something cannot be used and the source does not say to skip it; or nothing is left.
        """
        if self.bad and self.source.bad == "refuse":
            where, reason = self.bad[0]
            raise SourceError(
                f"{len(self.bad):,} entries of {self.name} cannot be used, the first: {where}: {reason}",
                hint='Mend them, or leave them out, counted: bad = "skip" (--skip-bad).',
            )
        if not self.records:
            part = f" of {self.source.split!r}" if self.source.split else ""
            raise SourceError(f"{self.name} has no images{part}")
        notes = tuple(f"{count:,} {what}" for what, count in self.changes.items())
        return RegionSet(self.name, tuple(self.records), self.categories, (*self.bad, *self.skipped), notes)


def hull(rings: Sequence[Ring]) -> BoxPx:
    """The box around rings. Raises SampleError: there is none."""
    points = [point for ring in rings for point in ring]
    if not points:
        raise SampleError("neither a box nor a polygon")
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def ring_area(ring: Ring) -> float:
    """By the shoelace formula, px squared; without the sign."""
    after = (*ring[1:], *ring[:1])
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, after, strict=True))) / 2


def points(flat: Sequence[object]) -> Ring:
    """x y x y ... -> ((x, y), ...). Raises SampleError: an odd number of values, or one that is no number."""
    values = numbers(flat)
    if len(values) % 2:
        raise SampleError(f"a polygon of {len(values)} values, which are no pairs of x and y")
    return tuple(zip(values[::2], values[1::2], strict=True))


def numbers(values: object) -> list[float]:
    """A list of JSON or text values as floats. Raises SampleError: not a list, or one is no number."""
    if not isinstance(values, (list, tuple)) or any(isinstance(v, (bool, list, dict)) for v in values):
        raise SampleError(f"{values!r:.60} is no list of numbers")
    try:
        return [float(v) for v in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise SampleError(f"{values!r:.60} is no list of numbers") from error


def check_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Category names, white space collapsed.

    Raises:
        SourceError: One is empty, or two are alike (case aside).
    """
    clean = tuple(" ".join(name.split()) for name in names)
    if "" in clean:
        raise SourceError(f"{where}: category {clean.index('')} has no name")
    twice = [name for name, count in Counter(name.casefold() for name in clean).items() if count > 1]
    if twice:
        raise SourceError(f"{where} names a category twice: {twice[0]!r}")
    if not clean:
        raise SourceError(f"{where} names no category")
    return clean


def image_in(folder: Path, name: object, where: str) -> Path:
    """The image that a file names, inside `folder`.

    Raises:
        SourceError: No name, or it leads out of the folder: annotation files come from strangers.
    """
    if not isinstance(name, str) or "\\" in name:
        raise SourceError(f"{where}: {name!r} is no image name")
    try:
        return inside(folder, name)
    except SampleError as error:
        raise SourceError(f"{where}: {name!r} is no path inside {folder}") from error


def read_text(file: Path, largest: int = LARGEST_TEXT) -> str:
    """UTF-8 text of bounded size. Raises SourceError."""
    try:
        if not file.is_file():
            raise SourceError(f"no file at {file}")
        if (size := file.stat().st_size) > largest:
            raise SourceError(f"{file} has {size:,} bytes; the limit is {largest:,}")
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{file} is not UTF-8 (byte {error.start})") from error


def read_json(file: Path) -> Any:
    """JSON of bounded size. Raises SourceError."""
    try:
        return json.loads(read_text(file, LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file} is not JSON: {error}") from error


def by_stem(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Relative name without its suffix -> file. Raises SourceError: two share a name."""
    found: dict[str, Path] = {}
    for path in paths:
        name = str(path.relative_to(folder).with_suffix(""))
        if name in found:
            raise SourceError(f"{path} and {found[name].name} have the same name")
        found[name] = path
    return found


def label_files(folder: Path, suffix: str) -> dict[str, Path]:
    """Label files below a folder by relative name without suffix, sorted. Raises SourceError: no such folder."""
    if not folder.is_dir():
        raise SourceError(f"no label folder at {folder}", hint="Say where the labels are: labels = ...")
    return by_stem(folder, sorted(path for path in folder.rglob(f"*{suffix}") if path.is_file()))


def list_images(folder: Path) -> list[Path]:
    """All images below a folder, sorted; hidden files and folders aside. Raises SourceError: no such folder."""
    if not folder.is_dir():
        raise SourceError(f"no image folder at {folder}", hint="Say where the images are: images = ...")
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))
