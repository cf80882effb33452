"""Fetch the files of a model. The only module of geoglot's models that touches the network.

The hub's client says where a file is and what its checksum is; the bytes come through one loop that goes on where an
earlier run broke off, whoever serves them (the client itself, from version 2, begins anew). What arrives is compared
with the published checksum, with the hub's own, and with the length that the server promised. Plain http is refused,
except on this machine.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from geoglot.errors import DownloadError, StorageError
from geoglot.files import replacing, sha256
from geoglot.models.zoo.origin import Source

BLOCK = 1 << 20
TIMEOUT_S = 30.0
HEX = frozenset("0123456789abcdef")
OnProgress = Callable[[str, int, int | None], None]
"""Called with what is fetched, bytes so far, and bytes in all where known."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that arrived and was checked.

    Attributes:
        path: Where it lies now.
        address: Where it came from, with the commit for a file of the hub.
        sha256: What was seen, before anything was unpacked.
        checked: Against whose checksum: "published", "hub" or "nothing" (nobody publishes one).
    """

    path: Path
    address: str
    sha256: str
    checked: str


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file somewhere: `sha256` and `size` as its keeper states them, empty and None where not."""

    url: str
    address: str
    headers: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    size: int | None = None


def fetch(source: Source, folder: Path, on_progress: OnProgress | None = None) -> Fetched:
    """Fetch the file of a source into a folder; goes on where an earlier call broke off.

    Raises:
        DownloadError: No address, no network, nothing there, too large, or not what its checksum says.
        StorageError: The folder cannot be written.
    """
    if not source.address:
        raise DownloadError("there is no public address for this file", hint=source.note)
    _refuse_offline(source.address)
    remote = _hub_file(source.repo, source.file) if source.repo else _Remote(source.url, source.url)
    path = folder / PurePosixPath(source.file or urlsplit(source.url).path).name
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _download(remote, path, source.max_bytes, on_progress or (lambda *_: None))
        seen = sha256(path)
        checked = _check(remote, source, path, seen)
        inner = _member(path, source.member, folder, source.max_bytes) if source.member else path
    return Fetched(inner, remote.address, seen, checked)


def list_repository(repo: str) -> list[str]:
    """Names of the files of a hub repository.

    Raises:
        DownloadError: It cannot be listed.
    """
    _refuse_offline(repo)
    from huggingface_hub import list_repo_files

    with _hub(repo):
        return sorted(list_repo_files(repo))


def _refuse_offline(address: str) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise DownloadError(
            f"HF_HUB_OFFLINE is set, so {address} is not fetched",
            hint="Unset it to pull, or bring the model from another machine: geoglot models bundle NAME",
        )


def _hub_file(repo: str, file: str) -> _Remote:
    """Ask the hub for a file's place, size, commit and checksum (for large files its ETag is their sha256)."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    with _hub(f"{repo}/{file}"):
        url = hf_hub_url(repo, file)
        found = get_hf_file_metadata(url)
        headers = {name: str(value) for name, value in build_hf_headers().items()}
    if urlsplit(found.location).netloc != urlsplit(url).netloc:
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    stated = (found.etag or "").lower()
    checksum = stated if len(stated) == 64 and set(stated) <= HEX else ""
    return _Remote(found.location, f"hf-hub:{repo}/{file}@{found.commit_hash}", headers, checksum, found.size)


@contextmanager
def _hub(what: str) -> Iterator[None]:
    """The client's errors as ours."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"the hub gives {what} only to those who asked for it",
            hint="Ask on the repository's page, then log in with: hf auth login",
        ) from error
    except (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError) as error:
        raise DownloadError(
            f"the hub has no {what}", hint="It was moved, renamed or made private. Give the file by path instead."
        ) from error
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.FileMetadataError, errors.HTTPError, OSError) as e:
        raise DownloadError(
            f"the hub cannot be asked for {what}: {e}", hint="Check the network (and HF_ENDPOINT, if it is set)."
        ) from e


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A full disk or a folder without rights as ours; errors of the network are told by those who make them."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write in {folder}: {error.strerror or error}", hint="Make room, or set GEOGLOT_HOME elsewhere."
        ) from error


def _download(remote: _Remote, path: Path, most: int, on_progress: OnProgress) -> None:
    """Fetch into `<path>.part` and rename; a part of the same file is gone on with."""
    part, notes = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    if path.is_file():
        return  # whole since an earlier run; its checksum is compared again
    held = part.stat().st_size if part.is_file() else 0
    known = _notes(notes)
    if held and not (known.get("etag") and known.get("address") == remote.address):
        held = 0
    if not (held and held == remote.size):
        _transfer(remote, part, notes, held, known.get("etag", ""), most, on_progress)
    part.replace(path)
    notes.unlink(missing_ok=True)


def _notes(path: Path) -> dict[str, str]:
    """The record of a partial download; empty where there is none."""
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _transfer(
    remote: _Remote, part: Path, notes: Path, held: int, etag: str, most: int, on_progress: OnProgress
) -> None:
    headers = {"Accept-Encoding": "identity", "User-Agent": "geoglot", **remote.headers}
    if held:
        headers |= {"Range": f"bytes={held}-", "If-Range": etag}
    with _request(remote, headers) as answer:
        goes_on = held > 0 and answer.status == http.client.PARTIAL_CONTENT
        start = held if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else remote.size
        _refuse_large(remote, total, most)
        tag = etag if goes_on else answer.headers.get("ETag") or ""
        notes.write_text(json.dumps({"address": remote.address, "etag": "" if tag.startswith("W/") else tag}), "utf-8")
        with part.open("ab" if goes_on else "wb") as stream:
            done = _copy(answer, remote, stream, start, total, most, on_progress)
    if total is not None and done != total:
        raise _broken_off(remote, done, total)


def _copy(
    answer: Any, remote: _Remote, stream: Any, done: int, total: int | None, most: int, on_progress: OnProgress
) -> int:
    while True:
        try:
            block = answer.read(BLOCK)
        except (http.client.HTTPException, OSError) as error:
            raise _broken_off(remote, done, total) from error
        if not block:
            return done
        stream.write(block)
        done += len(block)
        _refuse_large(remote, done, most)
        on_progress(remote.address, done, total)


def _broken_off(remote: _Remote, done: int, total: int | None) -> DownloadError:
    return DownloadError(
        f"the download of {remote.address} broke off after {done:,} of {total or 'unknown'} bytes",
        hint="What arrived is kept. Run the same command again to go on.",
    )


def _refuse_large(remote: _Remote, size: int | None, most: int) -> None:
    if size is not None and size > most:
        raise DownloadError(f"{remote.address} has {size:,} bytes or more; the limit is {most:,}")


@contextmanager
def _request(remote: _Remote, headers: dict[str, str]) -> Iterator[Any]:
    _refuse_plain(remote.url)
    opener = urllib.request.build_opener(_Redirects)
    try:
        answer = opener.open(urllib.request.Request(remote.url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise DownloadError(f"{remote.address} answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(f"{remote.address} cannot be reached: {reason}", hint="Check the network.") from error
    with answer:
        yield answer


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows only to https, and hands no login on to another host."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _refuse_plain(newurl)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


def _refuse_plain(url: str) -> None:
    parts = urlsplit(url)
    here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not here:
        raise DownloadError(f"{url} is not an https address")


def _check(remote: _Remote, source: Source, path: Path, seen: str) -> str:
    """Compare; a file that is wrong is deleted, since going on with it would never mend it."""
    for expected, whose in ((source.sha256, "published"), (remote.sha256, "hub")):
        if expected and not seen.startswith(expected):
            path.unlink()
            raise DownloadError(
                f"{remote.address} is not what its publisher says: sha256 {seen[:16]}…, {whose}: {expected[:16]}…",
                hint="The file was deleted. Run it again; if it stays wrong, the file was replaced: do not use it.",
            )
    return "published" if source.sha256 else "hub" if remote.sha256 else "nothing"


def _member(archive: Path, member: str, folder: Path, most: int) -> Path:
    """Take one file out of a zip, whatever paths the zip names; only its plain name is used."""
    target = folder / PurePosixPath(member).name
    try:
        with zipfile.ZipFile(archive) as packed:
            if packed.getinfo(member).file_size > most:
                raise DownloadError(f"{member} in {archive.name} unpacks to more than {most:,} bytes")
            with replacing(target) as part, packed.open(member) as inner, part.open("wb") as outer:
                shutil.copyfileobj(inner, outer, BLOCK)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as e:
        raise DownloadError(f"{archive} does not hold {member}: {e}", hint="Delete it and pull again.") from e
    return target
