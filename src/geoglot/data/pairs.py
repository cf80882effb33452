"""Sets of image-text pairs with random access, whatever they lie in: one record an image, all its captions with it.

Random access (and not a stream) because then batch k is a function of the seed and k alone: a run resumes in the middle
of an epoch exactly, every process of many takes its share without talking, and two captions of one image can be kept
apart. Tars get it from the offsets of their members.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import SampleError, SourceError

LARGEST_FILE = 256 << 20
"""Bytes of one image file. The largest chip that training can use is far smaller; /dev/zero is not."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One image as stored, and what is said of it.

    Attributes:
        name: For reports: a path, or tar and member.
        image: The encoded file.
        captions: At least one, none empty.
    """

    name: str
    image: bytes
    captions: tuple[str, ...]


class PairSet(Protocol):
    """Image-text pairs.

    Attributes:
        name: For reports.
        image_ids: int64 [N]; records with the same id show the same image.
        blocks: int64 [K + 1], rising from 0 to N: runs of records that are read best together.
        skipped: (name, reason) of what the listing already had to leave out.
    """

    @property
    def name(self) -> str: ...
    @property
    def image_ids(self) -> NDArray[np.int64]: ...
    @property
    def blocks(self) -> NDArray[np.int64]: ...
    @property
    def skipped(self) -> Sequence[tuple[str, str]]: ...

    def __len__(self) -> int: ...

    def read(self, record: int) -> Pair:
        """One pair. Raises SampleError. Safe to call from several threads."""
        ...

    def fingerprint(self) -> str:
        """Changes when names, sizes, times or captions changed; pixels are not read."""
        ...


@dataclass(slots=True)
class FilePairs:
    """Images in files of their own, captions in memory.

    Attributes:
        paths: One an image.
        captions: Of each image.
    """

    name: str
    paths: list[Path]
    captions: list[tuple[str, ...]]
    skipped: Sequence[tuple[str, str]] = ()
    image_ids: NDArray[np.int64] = field(init=False)
    blocks: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.image_ids = np.array([identity(os.path.abspath(path)) for path in self.paths], np.int64)  # noqa: PTH100
        self.blocks = np.array([0, len(self.paths)])

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, record: int) -> Pair:
        return Pair(str(self.paths[record]), read_file(self.paths[record]), self.captions[record])

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for path, captions in zip(self.paths, self.captions, strict=True):
            digest.update(repr((path.name, captions)).encode("utf-8", "surrogateescape"))
            digest.update(stamp(path).encode())
        return digest.hexdigest()


def file_pairs(
    name: str, rows: Sequence[tuple[Path, tuple[str, ...]]], skipped: Sequence[tuple[str, str]]
) -> FilePairs:
    """Join rows that name the same file; captions keep their order, repeated ones are kept once.

    Raises:
        SourceError: No row has both an image and a caption.
    """
    together: dict[Path, dict[str, None]] = {}
    left_out = list(skipped)
    for path, captions in rows:
        if said := clean(captions):
            together.setdefault(path, {}).update(dict.fromkeys(said))
        else:
            left_out.append((str(path), "no caption"))
    if not together:
        why = f" (the first: {left_out[0][0]}: {left_out[0][1]})" if left_out else ""
        raise SourceError(f"{name} holds no image with a caption{why}", hint="See: how to train on your own pairs.")
    return FilePairs(name, list(together), [tuple(said) for said in together.values()], left_out)


def clean(captions: Sequence[object]) -> tuple[str, ...]:
    """White space collapsed, empty captions gone."""
    return tuple(said for caption in captions if isinstance(caption, str) and (said := " ".join(caption.split())))


def identity(name: str) -> int:
    """A stable 63-bit number of a name; two of five million names collide with a chance of about one in a million."""
    raw = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(raw, "little") >> 1


def stamp(path: Path) -> str:
    """Size and time of a file; "gone" where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return "gone"
    return f"{facts.st_size}:{facts.st_mtime_ns}"


def inside(root: Path, name: str) -> Path:
    """The path a table names, below `root`.

    Raises:
        SampleError: It leads out of `root`: tables come from strangers.
    """
    if "\0" in name or not name.strip():
        raise SampleError(f"{name!r} is no path")
    base = os.path.abspath(root)  # noqa: PTH100 - lexical: resolving millions of paths costs millions of stats
    path = os.path.abspath(os.path.join(base, name))  # noqa: PTH100, PTH118
    if os.path.commonpath((base, path)) != base:
        raise SampleError(f"{name!r} leads out of {root}", hint='Set `root` of this source, e.g. root = "/".')
    return Path(path)


def read_file(path: Path) -> bytes:
    """The bytes of a regular file of sensible size. Raises SampleError."""
    try:
        if not path.is_file():
            raise SampleError(f"{path} is missing or not a file")
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise SampleError(f"{path} has {size:,} bytes; the limit is {LARGEST_FILE:,}")
        return path.read_bytes()
    except OSError as error:
        raise SampleError(f"{path} cannot be read: {error.strerror}") from error
