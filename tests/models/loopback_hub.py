"""A web server on this machine that answers as the hub does: HEAD with commit and checksum, GET with ranges."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class LoopbackHub:
    """What it serves, and what it was asked for.

    Attributes:
        url: Where it listens.
        files: Path -> content; a file of the hub stands at `/org/repo/resolve/main/name`.
        asked: (method, path, Range header) of every request.
        cut: Break the next answer off after so many bytes.
        claim: Path -> the checksum to claim instead of the true one.
        move: Path -> address to redirect to.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    cut: int | None = None
    claim: dict[str, str] = field(default_factory=dict)
    move: dict[str, str] = field(default_factory=dict)

    def put(self, repo: str, file: str, content: bytes | Path) -> None:
        """Keep a file in a repository."""
        self.files[f"/{repo}/resolve/main/{file}"] = content if isinstance(content, bytes) else content.read_bytes()


@contextmanager
def serve() -> Iterator[LoopbackHub]:
    """The server, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = LoopbackHub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.path = unquote(self.path)
        self.hub.asked.append((self.command, self.path, self.headers.get("Range", "")))
        if self.path in self.hub.move:
            self.send_response(302)
            self.send_header("Location", self.hub.move[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.hub.files.get(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        tag = f'"{self.hub.claim.get(self.path) or hashlib.sha256(content).hexdigest()}"'
        start = 0
        if self.headers.get("Range") and self.headers.get("If-Range") == tag:
            start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if with_body:
            body, self.hub.cut = content[start:][: self.hub.cut], None
            with suppress(BrokenPipeError, ConnectionResetError):  # the client may hang up early
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""
