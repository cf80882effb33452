"""Files on servers that send parts, for GDAL to read: it makes no requests of its own."""

from __future__ import annotations

import http.client
import io
from collections import OrderedDict
from typing import Any

from geoglot.errors import UnreadableSceneError
from geoglot.imagery.reach import Reach
from geoglot.imagery.remote import ask, connect

CHUNK_BYTES = 64 * 2**10
CHUNKS = 256
"""Parts of a file that are held: 16 MiB."""
AHEAD = 16
"""Parts that are fetched at once when a file is read on from where the last part ended."""


class RemoteFile:
    """A file on a server that sends parts. Not safe to share between threads.

    Cost: one request to begin with; then one per run of parts that are not held. Memory: CHUNKS parts.

    Raises:
        OutOfReachError: It is, or leads, outside the reach.
        SourceError: No answer.
        UnreadableSceneError: The server sends whole files only.
    """

    def __init__(self, url: str, reach: Reach) -> None:
        self.url = url
        self._reach = reach
        self._chunks: OrderedDict[int, bytes] = OrderedDict()
        self._connection: http.client.HTTPConnection | None = None
        self._target = ""
        self._last = -1
        answer = ask(url, reach, headers={"Range": f"bytes=0-{CHUNK_BYTES - 1}"}, most=CHUNK_BYTES)
        total = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
        if answer.status != 206 or not total.isdecimal():
            raise UnreadableSceneError(
                f"the server of {url!r} only sends whole files (no HTTP range requests)",
                hint="Download the file and index it from disk.",
            )
        self.size = int(total)
        self._there = answer.url
        self._chunks[0] = answer.body
        self.mark = (self.size, answer.headers.get("ETag"), answer.headers.get("Last-Modified"))

    @property
    def head(self) -> bytes:
        """The first bytes."""
        return self._chunks[0][:64] if 0 in self._chunks else self.read(0, 64)

    def read(self, start: int, count: int, until: int = 0) -> bytes:
        """Bytes from `start` on, fewer at the end of the file; what is fetched may go on `until`, which is wanted next.

        Raises:
            OSError: The server does not send them.
        """
        stop = min(start + count, self.size)
        if start >= stop:
            return b""
        first, last = start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES
        wanted = max(last, (min(until, self.size) - 1) // CHUNK_BYTES)
        parts = [self._chunk(number, wanted) for number in range(first, last + 1)]
        return b"".join(parts)[start - first * CHUNK_BYTES : stop - first * CHUNK_BYTES]

    def _chunk(self, number: int, last: int) -> bytes:
        """A part; where it is not held, it and those up to `last` that are not held either are fetched at once."""
        if number not in self._chunks:
            stop = number + 1
            end = max(last, number + AHEAD - 1 if number == self._last + 1 else number)
            while stop <= min(end, (self.size - 1) // CHUNK_BYTES, number + CHUNKS // 2) and stop not in self._chunks:
                stop += 1
            self._fetch(number, stop)
        self._chunks.move_to_end(number)
        return self._chunks[number]

    def _fetch(self, first: int, stop: int) -> None:
        start, end = first * CHUNK_BYTES, min(stop * CHUNK_BYTES, self.size)
        content = self._range(start, end)
        for number in range(first, stop):
            at = (number - first) * CHUNK_BYTES
            self._chunks[number] = content[at : at + CHUNK_BYTES]
        while len(self._chunks) > CHUNKS:
            self._chunks.popitem(last=False)
        self._last = stop - 1

    def _range(self, start: int, end: int) -> bytes:
        """Bytes [start, end), over the connection that is open; a second attempt over a new one."""
        fresh = self._connection is None
        try:
            return self._ask_range(start, end)
        except (OSError, http.client.HTTPException):
            self.close()
            if fresh:
                raise
            return self._ask_range(start, end)

    def _ask_range(self, start: int, end: int) -> bytes:
        if self._connection is None:
            self._connection, self._target = connect(self._there, self._reach)
        self._connection.request(
            "GET", self._target, headers={"Range": f"bytes={start}-{end - 1}", "User-Agent": "geoglot"}
        )
        response = self._connection.getresponse()
        content = response.read(end - start + 1) if response.status == 206 else b""
        if response.will_close:
            self.close()
        if len(content) != end - start:
            raise OSError(f"{self.url!r} answers {response.status} with {len(content)} of {end - start} bytes")
        return content

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Cursor(io.RawIOBase):
    """A file with a place in it, as GDAL wants it."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        content = self._file.read(self._at, self._file.size if size is None or size < 0 else size)
        self._at += len(content)
        return content


def _run_ends(offsets: list[int], sizes: list[int]) -> list[int]:
    """Where the run of neighbouring pieces ends that each piece is part of; gaps below a part do not end it."""
    ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
    for i in range(len(ends) - 2, -1, -1):
        if 0 <= offsets[i + 1] - ends[i] < CHUNK_BYTES:
            ends[i] = ends[i + 1]
    return ends


def opener_of(file: RemoteFile) -> Any:
    """What rasterio reads one remote file through; to it there is no other file, so nothing lies beside it."""
    from rasterio.abc import MultiByteRangeResourceContainer

    class OneFile(MultiByteRangeResourceContainer):  # type: ignore[misc]  # rasterio has no types
        def open(self, path: str, mode: str = "r", **options: Any) -> _Cursor:
            self._check(path)
            return _Cursor(file)

        def isfile(self, path: str) -> bool:
            return path == file.url

        def isdir(self, path: str) -> bool:
            return False

        def ls(self, path: str) -> list[str]:
            return []

        def rm(self, path: str) -> None:
            raise PermissionError(path)

        def mtime(self, path: str) -> int:
            return 0

        def size(self, path: str) -> int:
            self._check(path)
            return file.size

        def get_byte_ranges(self, path: str, offsets: list[int], sizes: list[int]) -> list[bytes]:
            self._check(path)
            runs = _run_ends(offsets, sizes)
            return [file.read(*piece) for piece in zip(offsets, sizes, runs, strict=True)]

        def _check(self, path: str) -> None:
            if path != file.url:
                raise FileNotFoundError(path)

    return OneFile()
