"""DOTA: one text file an image, one line an object: eight numbers (four corners), category, difficult.

    imagesource:GoogleEarth
    gsd:0.146343590398
    2753 2408 2861 2385 2888 2468 2805 2502 plane 0

The two head lines may be missing, and the gsd may be "null". Categories come in the order of their names, because no
file lists them; of an image without a label file nothing is known, and it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from geoglot.data.regions.checks import Gathering, Raw, by_stem, label_files, list_images, points, read_text
from geoglot.data.regions.schema import RegionSet, RegionSource
from geoglot.errors import SampleError, SourceError

HEADS = ("imagesource:", "gsd:", "acquisition dates:")  # the third is DOTA v2.0's


def read_dota(source: RegionSource, base: Path) -> RegionSet:
    """`<path>[/<split>]/images` and `labelTxt*`."""
    folder = base / source.path / (source.split or "")
    images_at = folder / (source.images or "images")
    images, labels = by_stem(images_at, list_images(images_at)), label_files(_labels_at(folder, source), ".txt")
    gathering = Gathering(source, str(folder), ())
    for name, file in labels.items():
        if name not in images:
            gathering.wrong(str(file), "no image of that name")
            continue
        lines = read_text(file).splitlines()
        raws = list(_objects(file, lines, gathering))
        gathering.add(images[name], None, raws, where=str(file.relative_to(folder)), gsd_m=_gsd(lines))
    for name in sorted(images.keys() - labels.keys()):
        gathering.leave_out(str(images[name]), "no label file")
    found = gathering.done()
    return replace(found, categories=tuple(sorted({r.category for one in found.records for r in one.regions})))


def _labels_at(folder: Path, source: RegionSource) -> Path:
    if source.labels:
        return folder / source.labels
    hits = sorted(path for path in folder.glob("labelTxt*") if path.is_dir())
    if len(hits) != 1:
        names = ", ".join(hit.name for hit in hits) or "none"
        raise SourceError(f"{folder} must hold one folder labelTxt*; it has {names}", hint="Name it: labels = ...")
    return hits[0]


def _objects(file: Path, lines: list[str], gathering: Gathering) -> Iterator[Raw]:
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or line.strip().lower().startswith(HEADS):
            continue
        where = f"{file}:{number}"
        if len(words) not in {9, 10}:
            gathering.wrong(
                where, f"{len(words)} words; a line has eight numbers, a category, and whether it is difficult"
            )
        elif len(words) == 10 and words[9] not in {"0", "1", "2"}:
            gathering.wrong(where, f"difficult is {words[9]!r}")
        elif not gathering.source.difficult and words[9:] not in ([], ["0"]):
            gathering.leave_out(where, "difficult")
        else:
            try:
                yield Raw(where, None, words[8], None, (points(words[:8]),))
            except SampleError as error:
                gathering.wrong(where, str(error))


def _gsd(lines: list[str]) -> float | None:
    """Metres per pixel of the head; None where it is "null", empty or absent."""
    for line in lines[:3]:
        key, _, value = line.strip().partition(":")
        if key.lower() == "gsd":
            try:
                metres = float(value)
            except ValueError:
                return None
            return metres if math.isfinite(metres) and metres > 0 else None
    return None
