"""The members of an uncompressed tar and where their bytes lie: enough for random access to WebDataset shards.

Nothing is extracted, no link followed, no name used as a path. The standard library's reader ends in silence at a
header that is damaged or cut off, and reads an extended header of any size into memory. Layout: POSIX.1-1988 ustar, GNU
long names ("L") and binary sizes, POSIX.1-2001 extended headers ("x", only path and size are read).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from geoglot.errors import SourceError

BLOCK = 512
EXTRA_LIMIT = 1 << 20
"""Bytes of a long name or extended header; real ones are a few hundred. More is an attack on memory."""

REGULAR, LONG_NAME, LONG_LINK, EXTENDED, GLOBAL = (b"0", b"\0", b"7"), b"L", b"K", b"x", b"g"
NOTES = (LONG_NAME, LONG_LINK, EXTENDED, GLOBAL)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar.

    Attributes:
        name: As stored, undecodable bytes as surrogates.
        offset: Of its first byte in the tar.
        size: Bytes.
    """

    name: str
    offset: int
    size: int


class TarDamage(SourceError):
    """A tar that breaks off or whose headers are wrong; members before the damage are good."""


def tar_members(file: BinaryIO, name: str) -> Iterator[Member]:
    """Walk the headers, skipping over contents: one small read a member.

    Args:
        file: Open for reading, seekable.
        name: For messages.

    Raises:
        TarDamage: At the first header that is wrong, or where the file breaks off.
    """
    end = file.seek(0, 2)
    at, renamed, resized = 0, "", -1
    while True:
        file.seek(at)
        header = file.read(BLOCK)
        if not header.strip(b"\0"):
            if at < end or at == end == 0:
                return  # the end mark, or an empty file
            raise TarDamage(f"{name} has no end mark at byte {at}: it was cut off", hint="Copy it again.")
        kind, stored = _checked(header, name, at), _number(header[124:136], name, at)
        size = resized if resized >= 0 and kind not in NOTES else stored
        start = at + BLOCK
        if start + size > end:
            raise TarDamage(f"{name} breaks off within the member at byte {at}", hint="Copy it again.")
        at = start + -(-size // BLOCK) * BLOCK
        if kind in (LONG_NAME, EXTENDED):
            extra = _extra(file, start, size, name)
            if kind == LONG_NAME:
                renamed = _text(extra)
            else:
                renamed, resized = _read_extended(extra, renamed, name)
        elif kind not in NOTES:
            if kind in REGULAR:
                yield Member(renamed or _own_name(header), start, size)
            renamed, resized = "", -1


def _checked(header: bytes, name: str, at: int) -> bytes:
    """The type of the member, if the header's checksum is right."""
    if len(header) < BLOCK:
        raise TarDamage(f"{name} breaks off within the header at byte {at}", hint="Copy it again.")
    if header[:2] == b"\x1f\x8b" or header[:4] in (b"\x28\xb5\x2f\xfd", b"BZh9") or header[:5] == b"\xfd7zXZ":
        raise TarDamage(f"{name} is compressed", hint="Unpack it to a plain .tar: its images are compressed already.")
    told = _number(header[148:156], name, at)
    if told != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise TarDamage(f"{name} is no tar, or damaged, at byte {at}", hint="Copy it again.")
    return header[156:157]


def _number(field: bytes, name: str, at: int) -> int:
    """Octal digits, or GNU's big-endian binary (first bit set)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True) & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            raise TarDamage(f"{name} has a negative size at byte {at}")
        return value
    digits = field.strip(b"\0 ")
    if digits.strip(b"01234567"):
        raise TarDamage(f"{name} has no number where one belongs, at byte {at}")
    return int(digits or b"0", 8)


def _extra(file: BinaryIO, start: int, size: int, name: str) -> bytes:
    if size > EXTRA_LIMIT:
        raise TarDamage(f"{name} has an extended header of {size:,} bytes at byte {start}", hint="Do not trust it.")
    file.seek(start)
    return file.read(size)


def _read_extended(extra: bytes, renamed: str, name: str) -> tuple[str, int]:
    """Path and size from records `LENGTH KEY=VALUE\\n`; size -1 where it is not told."""
    size, at = -1, 0
    while at < len(extra):
        length, space, _ = extra[at : at + 24].partition(b" ")
        if not space or not length.isdigit() or int(length) <= len(length) + 1:
            raise TarDamage(f"{name} has an extended header that is no list of records")
        key, _, value = extra[at + len(length) + 1 : at + int(length) - 1].partition(b"=")
        if key == b"path":
            renamed = _text(value)
        elif key == b"size":
            if not value.isdigit():
                raise TarDamage(f"{name} has an extended header without a number for size")
            size = int(value)
        at += int(length)
    return renamed, size


def _own_name(header: bytes) -> str:
    own, prefix = _text(header[:100]), _text(header[345:500])
    return f"{prefix}/{own}" if prefix and header[257:262] == b"ustar" and header[262:263] == b"\0" else own


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def open_tar(path: Path) -> BinaryIO:
    """Open a tar for reading.

    Raises:
        SourceError: It cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror}", hint="Check the path and its rights.") from error
