"""WebDataset shards as a set of pairs: tars whose neighbouring members share a key.

Read: `KEY.jpg` (png, webp, tif ...) beside `KEY.txt` or `KEY.json`, and the keys of RS5M (`KEY.img_name`,
`KEY.img_content`, `KEY.caption`). The `webdataset` package is not used: it streams, so it can neither resume within an
epoch nor keep two captions of one image apart, and it imports torch; the reader in `tars` is a page long.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from geoglot.data.pairs import LARGEST_FILE, Pair, clean, identity, stamp
from geoglot.data.tars import Member, TarDamage, open_tar, tar_members
from geoglot.errors import SampleError, SourceError

IMAGES = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "img_content")
TEXTS = ("txt", "caption", "captions", "json")
NAME = "img_name"
LARGEST_TEXT = 1 << 20
CAPTION_KEYS = ("captions", "caption", "text", "title")
BLOCK = 1024
"""Records read together: about 50 MB of a shard, so that a disk reads on instead of seeking."""


class ShardPairs:
    """Pairs in uncompressed tars. Keeps about 60 bytes and the key of a record."""

    def __init__(self, name: str, shards: Sequence[Path]) -> None:
        """List every shard: one small read a member.

        Raises:
            SourceError: No shard can be read, or none holds a pair.
        """
        self.name, self.shards = name, list(shards)
        with ThreadPoolExecutor(8) as pool:
            listed = list(pool.map(_list_shard, self.shards))
        self.skipped: list[tuple[str, str]] = [line for _, _, skipped in listed for line in skipped]
        counts = [len(rows) for rows, _, _ in listed]
        if not sum(counts):
            why = f" (the first: {self.skipped[0][0]}: {self.skipped[0][1]})" if self.skipped else ""
            raise SourceError(f"{name}: no image with a caption in {len(self.shards)} tars{why}")
        self._shard = np.repeat(np.arange(len(counts)), counts)
        self._rows: NDArray[np.int64] = np.concatenate([np.array(r, np.int64).reshape(-1, 5) for r, _, _ in listed])
        self._keys = [key for _, keys, _ in listed for key in keys]
        self.image_ids = self._rows[:, 4]
        starts = np.cumsum([0, *counts])
        edges = [np.arange(a, b, BLOCK) for a, b in pairwise(starts)]
        self.blocks: NDArray[np.int64] = np.append(np.concatenate(edges), starts[-1])

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, record: int) -> Pair:
        shard = int(self._shard[record])
        image_at, image_size, text_at, text_size, _ = (int(v) for v in self._rows[record])
        name = f"{self.shards[shard].name}:{self._keys[record]}"
        captions = read_captions(self._bytes(shard, text_at, text_size, name), name)
        return Pair(name, self._bytes(shard, image_at, image_size, name), captions)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(self._rows.tobytes(), digest_size=8)
        for path in self.shards:
            digest.update(f"{path.name}:{stamp(path)}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _bytes(self, shard: int, offset: int, size: int, name: str) -> bytes:
        """Opening costs a few microseconds beside milliseconds of decoding; so no file stays open, no thread waits."""
        try:
            with self.shards[shard].open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise SampleError(f"{name} cannot be read: {error.strerror}") from error
        if len(data) != size:
            raise SampleError(f"{name} breaks off")
        return data


Listing = tuple[list[tuple[int, int, int, int, int]], list[str], list[tuple[str, str]]]


def _list_shard(path: Path) -> Listing:
    """(image offset and size, text offset and size, image id) of each pair; their keys; what was left out."""
    rows, keys, skipped = [], [], []
    with open_tar(path) as file:
        members = tar_members(file, path.name)
        try:
            for key, fields in _by_key(members):
                picked = _pick(fields)
                if isinstance(picked, str):
                    skipped.append((f"{path.name}:{key}", picked))
                    continue
                image, text = picked
                named = fields.get(NAME)
                told = _read(file, named) if named else b""
                name = f"{NAME}:{told.decode('utf-8', 'surrogateescape')}" if told else f"{path.name}:{key}"
                rows.append((image.offset, image.size, text.offset, text.size, identity(name)))
                keys.append(key)
        except TarDamage as damage:
            skipped.append((path.name, str(damage)))
    return rows, keys, skipped


def _read(file: BinaryIO, member: Member) -> bytes:
    """A name; what is longer than any is cut."""
    file.seek(member.offset)
    return file.read(min(member.size, 4096))


def _by_key(members: Iterator[Member]) -> Iterator[tuple[str, dict[str, Member]]]:
    """Neighbours that share a key; the key ends at the first dot of the file name. What was whole survives damage."""
    key, fields = "", dict[str, Member]()
    try:
        for member in members:
            folder, slash, file = member.name.rpartition("/")
            stem, _, extension = file.partition(".")
            mine = folder + slash + stem
            if mine != key and fields:
                yield key, fields
                fields = {}
            key = mine
            fields[extension.lower()] = member
    except TarDamage:
        if fields and not isinstance(_pick(fields), str):
            yield key, fields
        raise
    if fields:
        yield key, fields


def _pick(fields: dict[str, Member]) -> tuple[Member, Member] | str:
    """Image and text of a sample, or why there is none."""
    image = next((fields[e] for e in IMAGES if e in fields), None)
    text = next((fields[e] for e in TEXTS if e in fields), None)
    if image is None or text is None:
        return f"no {'image' if image is None else 'caption'} among {', '.join(sorted(fields))}"
    if image.size > LARGEST_FILE or text.size > LARGEST_TEXT:
        return f"{max(image.size, text.size):,} bytes are over the limit"
    return image, text


def read_captions(raw: bytes, name: str) -> tuple[str, ...]:
    """Captions of a sample: JSON (an object, a list, a string) or plain text, one caption a line.

    Raises:
        SampleError: Not UTF-8, no JSON where it looks like it, or no caption.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SampleError(f"{name}: the caption is not UTF-8 (byte {error.start})") from error
    said: object = text.splitlines()
    if text.lstrip()[:1] in ("{", "["):
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            if text.lstrip().startswith("{"):
                raise SampleError(f"{name}: the caption is broken JSON: {error}") from error
    if isinstance(said, dict):
        said = next((said[key] for key in CAPTION_KEYS if said.get(key)), None)
    captions = clean(said if isinstance(said, list) else [said])
    if not captions:
        raise SampleError(f"{name}: no caption")
    return captions
