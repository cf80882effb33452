"""Pascal VOC (and DIOR): one XML file an image with `object` elements: name, difficult, bndbox or robndbox.

VOC counts pixels from one and includes the last: xmin 1, xmax 1 is the first pixel. `origin = 0` in the source takes
exports that count from zero; the last pixel is included there too. Sizes in the XML are often wrong and not trusted:
the image's own header counts, and contradictions are counted.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from geoglot.data.image_files import image_size
from geoglot.data.regions.checks import Gathering, Raw, by_stem, label_files, list_images, numbers, points, read_text
from geoglot.data.regions.schema import RegionSet, RegionSource
from geoglot.errors import SampleError, SourceError

LARGEST_XML = 4 << 20
"""Bytes of one file: some 15,000 objects; nested tags alone would make a hundred times that in memory."""

EDGES = ("xmin", "ymin", "xmax", "ymax")
CORNERS = ("x_left_top", "y_left_top", "x_right_top", "y_right_top",
           "x_right_bottom", "y_right_bottom", "x_left_bottom", "y_left_bottom")  # fmt: skip
"""Of an oriented box as DIOR-R writes it; points, not pixels, so that `origin` does not touch them."""


def read_voc(source: RegionSource, base: Path) -> RegionSet:
    """`<path>/Annotations`, `JPEGImages`, and `ImageSets/Main/<split>.txt` (DIOR: `Main/<split>.txt`)."""
    folder = base / source.path
    images_at = folder / (source.images or "JPEGImages")
    images = by_stem(images_at, list_images(images_at))
    labels = label_files(folder / (source.labels or "Annotations"), ".xml")
    gathering = Gathering(source, str(folder), ())
    for name in _wanted(folder, source.split, labels):
        if name not in labels or name not in images:
            gathering.wrong(name, "no XML file of that name" if name not in labels else "no image of that name")
        else:
            _add(gathering, images[name], labels[name], folder)
    for name in sorted(images.keys() - labels.keys()) if source.split is None else ():
        gathering.leave_out(str(images[name]), "no XML file")
    found = gathering.done()
    return replace(found, categories=tuple(sorted({r.category for one in found.records for r in one.regions})))


def _wanted(folder: Path, split: str | None, labels: Iterable[str]) -> Iterable[str]:
    if split is None:
        return labels
    if not split.replace("_", "").isalnum():
        raise SourceError(f"split {split!r} is no name")
    lists = [folder / "ImageSets" / "Main" / f"{split}.txt", folder / "Main" / f"{split}.txt"]
    file = next((file for file in lists if file.is_file()), None)
    if file is None:
        raise SourceError(f"no list of the split {split!r}", hint=f"Expected {' or '.join(map(str, lists))}.")
    return dict.fromkeys(line.split()[0] for line in read_text(file).splitlines() if line.strip())


def _add(gathering: Gathering, image: Path, file: Path, folder: Path) -> None:
    where = str(file.relative_to(folder))
    try:
        root, size = parse_xml(read_text(file, LARGEST_XML), where), image_size(image)
    except SampleError as error:
        gathering.wrong(where, str(error))
        return
    told = (root.findtext("size/width"), root.findtext("size/height"))
    if None not in told and told != (str(size[0]), str(size[1])):
        gathering.changes["sizes in XML that the image contradicts"] += 1
    gathering.add(image, size, list(_objects(root, where, gathering)), where=where)


def parse_xml(text: str, where: str) -> ET.Element:
    """The root element.

    Raises:
        SampleError: Not XML, or with a document type: that is where entities are declared, of which a few lines can
            fill the memory or read other files, and annotations need none.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise SampleError(f"{where} declares a document type, which annotations do not need")
    try:
        return ET.fromstring(text)  # given text, the parser does not heed the encoding that the file declares
    except (ET.ParseError, ValueError) as error:
        raise SampleError(f"{where} is not XML: {error}") from error


def _objects(root: ET.Element, where: str, gathering: Gathering) -> Iterator[Raw]:
    for number, item in enumerate(root.iterfind("object")):
        here = f"{where} object {number}"
        if not gathering.source.difficult and (item.findtext("difficult") or "0").strip() != "0":
            gathering.leave_out(here, "difficult")
            continue
        try:
            yield _object(here, item, gathering.source.origin)
        except SampleError as error:
            gathering.wrong(here, str(error))


def _object(where: str, item: ET.Element, origin: int) -> Raw:
    name = item.findtext("name") or ""
    if (oriented := item.find("robndbox")) is not None:
        return Raw(where, None, name, None, (points(_values(oriented, CORNERS)),))
    if (box := item.find("bndbox")) is None:
        raise SampleError("no bndbox and no robndbox")
    x0, y0, x1, y1 = numbers(_values(box, EDGES))
    return Raw(where, (x0 - origin, y0 - origin, x1 - origin + 1, y1 - origin + 1), name)


def _values(item: ET.Element, keys: Iterable[str]) -> list[str]:
    values = [item.findtext(key) for key in keys]
    if None in values:
        raise SampleError(f"{item.tag} lacks one of {', '.join(keys)}")
    return [str(value) for value in values]
