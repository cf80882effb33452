"""The values of this room: where a set may lie, what a reader is asked for and hands back; checks that all share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from geoglot.data.samples import Sample
from geoglot.errors import SourceError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})
Polygons = tuple[tuple[tuple[float, float], ...], ...]
"""Regions of one image, each as vertices (x, y) in pixels."""
SPLITS = {"val": "valid", "validation": "valid", "valid": "valid", "train": "train", "test": "test"}
"""Spellings of split names in the wild -> ours."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how one layout of a set is looked for, below the data folder.

    Attributes:
        layout: Name of the reader.
        path: The file or folder that tells the layout; `{split}` stands for the split, `*` matches.
        images: Folder that the layout's image names are relative to.
        text: CSV column of the captions.
        label: class_folders: the "first" or the "last" folder below `path` is the class.
        pattern: class_folders: which files are images of the set.
        parts: union: names of the sets.
    """

    layout: str
    path: str = ""
    images: str = ""
    text: str = "title"
    label: str = "first"
    pattern: str = "*"
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """The request to a reader: `file` (a place's path, found), `root` (the data folder), `split`, `place`."""

    file: Path
    root: Path
    split: str
    place: Place

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.root / self.place.images


@dataclass(frozen=True, slots=True)
class Found:
    """A set that was read.

    Attributes:
        samples: In file order (folders: sorted).
        classes: Class names in index order; empty for captions.
        texts: The set's own wording of each class, where it brings one.
        notes: What was left out, and how much of it; in sentences.
        polygons: Of each sample, where the set marks regions.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...] = ()
    texts: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    polygons: tuple[Polygons, ...] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A set as catalogue.toml describes it; the file's head says what the fields mean."""

    name: str
    title: str
    kind: str
    split: str
    page: str
    licence: str
    places: tuple[Place, ...]
    count: dict[str, int] = field(default_factory=dict)
    classes: str = ""
    class_prefix: str = ""
    prefix: bool = True


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A set that was read.

    Attributes:
        entry: Its description.
        samples: Images with labels or captions.
        classes: Labels in index order; empty for retrieval.
        texts: The set's own wording of its classes, or None.
        split: Which part this is.
        source: Layout and file it was read from.
        notes: What was left out, in sentences.
        polygons: As in Found.
    """

    entry: Entry
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    texts: tuple[str, ...] | None
    split: str
    source: str
    notes: tuple[str, ...] = ()
    polygons: tuple[Polygons, ...] | None = None

    @property
    def name(self) -> str:
        """As in the catalogue."""
        return self.entry.name


Reader = Callable[[Request], Found]


def image_in(folder: Path, name: str, where: str) -> Path:
    """The image that a file names, inside `folder`.

    Raises:
        SourceError: The name leads out of the folder.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0] == "/" or ":" in parts[0]:
        raise SourceError(f"{where} names an image outside its folder: {name!r}")
    return folder.joinpath(*parts)


def check_images(samples: Sequence[Sample], where: str) -> None:
    """Every image must be there.

    Raises:
        SourceError: Some are not; the first is named.
    """
    missing = [sample.image for sample in samples if not sample.image.is_file()]
    if missing:
        raise SourceError(
            f"{len(missing):,} of {len(samples):,} images of {where} are not there, the first: {missing[0]}",
            hint="Unpack the image archive beside the annotation file, or point --data to the folder above both.",
        )


def grouped(rows: Iterable[tuple[Path, str]], split: str, where: str) -> Found:
    """(image, caption) rows -> one sample an image, in order of first appearance; blank captions are counted.

    Repeated captions stay: protocols differ in what they do with them.
    """
    captions: dict[Path, list[str]] = {}
    blank = 0
    for image, caption in rows:
        kept = captions.setdefault(image, [])
        if caption.strip():
            kept.append(caption.strip())
        else:
            blank += 1
    bare = sum(not texts for texts in captions.values())
    samples = tuple(Sample(image, tuple(texts), None, split) for image, texts in captions.items() if texts)
    check_images(samples, where)
    notes = [f"{blank:,} blank captions left out"] if blank else []
    notes += [f"{bare:,} images without any caption left out"] if bare else []
    return Found(samples, notes=tuple(notes))


def our_split(name: str, where: str) -> str:
    """ "val" -> "valid".

    Raises:
        SourceError: Not a split name.
    """
    if name not in SPLITS:
        raise SourceError(f"{where} has the split {name!r}", hint=f"Known: {', '.join(SPLITS)}.")
    return SPLITS[name]
