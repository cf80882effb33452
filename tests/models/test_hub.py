"""Fetching: resumed, checked, capped, refused. Against a real server on this machine."""

from __future__ import annotations

import ast
import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from loopback_hub import COMMIT, LoopbackHub

from geoglot.errors import DownloadError, StorageError
from geoglot.models.zoo import hub as downloads
from geoglot.models.zoo.hub import fetch
from geoglot.models.zoo.origin import Source

CONTENT = bytes(range(256)) * 5000  # 1.28 MB: more than one block
SHA = hashlib.sha256(CONTENT).hexdigest()


def web(hub: LoopbackHub, path: str = "/w/tiny.pt", **more: object) -> Source:
    hub.files.setdefault(path, CONTENT)
    return Source(url=hub.url + path, **more)  # type: ignore[arg-type]


def test_a_file_of_the_web(hub: LoopbackHub, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    got = fetch(web(hub), tmp_path / "new", lambda _, done, total: seen.append((done, total)))
    assert got.path.read_bytes() == CONTENT
    assert (got.sha256, got.checked) == (SHA, "nothing")
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(p.name for p in got.path.parent.iterdir()) == ["tiny.pt"]
    assert fetch(web(hub, sha256=SHA), tmp_path / "new").checked == "published"
    assert len(hub.asked) == 1  # what is whole is not fetched again
    assert fetch(web(hub, sha256=SHA[:8]), tmp_path / "other").checked == "published"


def test_a_file_of_the_hub(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.put("org/repo", "deep/tiny.pt", CONTENT)
    got = fetch(Source("org/repo", "deep/tiny.pt"), tmp_path)
    assert got.path == tmp_path / "tiny.pt"
    assert got.path.read_bytes() == CONTENT
    assert got.address == f"hf-hub:org/repo/deep/tiny.pt@{COMMIT}"
    assert got.checked == "hub"


@pytest.mark.parametrize("of_the_hub", [True, False])
def test_half_a_download_is_gone_on_with(hub: LoopbackHub, tmp_path: Path, of_the_hub: bool) -> None:
    hub.put("org/repo", "tiny.pt", CONTENT)
    source = Source("org/repo", "tiny.pt") if of_the_hub else web(hub)
    hub.cut = 500_000
    with pytest.raises(DownloadError, match="broke off after 500,000 of 1280000 bytes") as caught:
        fetch(source, tmp_path)
    assert "run" in caught.value.hint.lower()
    assert fetch(source, tmp_path).path.read_bytes() == CONTENT
    assert [ranged for method, _, ranged in hub.asked if method == "GET"] == ["", "bytes=500000-"]


def test_a_part_of_another_version_is_begun_anew(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.cut = 500_000
    with pytest.raises(DownloadError):
        fetch(web(hub), tmp_path)
    hub.files["/w/tiny.pt"] = CONTENT[::-1]
    assert fetch(web(hub), tmp_path).path.read_bytes() == CONTENT[::-1]


def test_what_is_wrong_is_deleted(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"is not what its publisher says: sha256 .*published: 0000") as caught:
        fetch(web(hub, sha256="0" * 64), tmp_path)
    assert "do not use it" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    hub.put("org/repo", "tiny.pt", CONTENT)
    hub.claim["/org/repo/resolve/main/tiny.pt"] = "1" * 64
    with pytest.raises(DownloadError, match="hub: 1111"):
        fetch(Source("org/repo", "tiny.pt"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_is_not_fetched(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the limit is 1,000"):
        fetch(web(hub, max_bytes=1000), tmp_path)
    assert not (tmp_path / "tiny.pt").exists()


def test_a_zip_gives_one_file(hub: LoopbackHub, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Sky/epoch_20.pt", CONTENT)
        archive.writestr("../../evil.txt", b"no")
    hub.files["/sky.zip"] = packed.getvalue()
    source = Source(url=hub.url + "/sky.zip", member="Sky/epoch_20.pt")
    got = fetch(source, tmp_path / "in")
    assert got.path == tmp_path / "in" / "epoch_20.pt"
    assert got.path.read_bytes() == CONTENT
    assert got.sha256 == hashlib.sha256(packed.getvalue()).hexdigest()
    assert not list(tmp_path.rglob("evil*"))
    with pytest.raises(DownloadError, match="does not hold other"):
        fetch(Source(url=hub.url + "/sky.zip", member="other.pt"), tmp_path / "in")
    with pytest.raises(DownloadError, match="unpacks to more"):
        fetch(Source(url=hub.url + "/sky.zip", member="Sky/epoch_20.pt", max_bytes=len(packed.getvalue())), tmp_path)
    hub.files["/bad.zip"] = b"PK\x03\x04 not a zip"
    with pytest.raises(DownloadError, match="does not hold"):
        fetch(Source(url=hub.url + "/bad.zip", member="x"), tmp_path)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (Source("org/none", "tiny.pt"), "the hub has no org/none/tiny.pt"),
        (Source("not a repository", "tiny.pt"), "the hub cannot be asked"),
        (Source(url="http://example.org/x.pt"), "is not an https address"),
        (Source(url="ftp://example.org/x.pt"), "is not an https address"),
        (Source(url="file:///etc/passwd"), "is not an https address"),
        (Source(url="http://127.0.0.1:9/x.pt"), "cannot be reached"),
        (Source(note="Ask them."), "no public address"),
    ],
)
def test_what_cannot_be_fetched_is_told(hub: LoopbackHub, tmp_path: Path, source: Source, told: str) -> None:
    with pytest.raises(DownloadError, match=told):
        fetch(source, tmp_path)


def test_missing_moved_and_misled(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="answered 404"):
        fetch(Source(url=hub.url + "/gone.pt"), tmp_path)
    hub.files["/new.pt"] = CONTENT
    hub.move = {"/old.pt": hub.url + "/new.pt", "/bad.pt": "http://example.org/x.pt"}
    assert fetch(Source(url=hub.url + "/old.pt"), tmp_path).sha256 == SHA
    with pytest.raises(DownloadError, match=r"http://example\.org/x\.pt is not an https address"):
        fetch(Source(url=hub.url + "/bad.pt"), tmp_path)


def test_offline_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for source in (Source("org/repo", "tiny.pt"), Source(url="https://example.org/x.pt")):
        with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set") as caught:
            fetch(source, tmp_path)
        assert "bundle" in caught.value.hint


def test_the_hub_out_of_reach(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    with pytest.raises(DownloadError, match=r"the hub cannot be asked for org/repo/tiny\.pt") as caught:
        fetch(Source("org/repo", "tiny.pt"), tmp_path)
    assert "HF_ENDPOINT" in caught.value.hint


def test_a_place_that_cannot_be_written(hub: LoopbackHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        fetch(web(hub), tmp_path / "file")


def test_only_one_module_of_the_room_reaches_out() -> None:
    """Nothing else imports what could."""
    reaching = {"urllib.request", "http.client", "huggingface_hub", "socket", "requests", "httpx", "httpx2"}
    room = Path(downloads.__file__).parent
    found = set()
    for path in room.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = {a.name for a in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            if names & reaching:
                found.add(path.name)
    assert found == {"hub.py"}
