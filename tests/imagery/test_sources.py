"""Listing scenes: folders, globs, STAC; what is refused and how."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from geoglot.errors import OutOfReachError, SourceError
from geoglot.imagery.addresses import Source, fingerprint
from geoglot.imagery.sources import find_sources


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def _names(sources: list[Source], folder: Path) -> list[str]:
    return [Path(s.uri).relative_to(folder).as_posix() for s in sources]


def test_folder_lists_rasters_only_sorted_and_without_side_images(tmp_path: Path) -> None:
    _touch(tmp_path, "b.tif", "a é ü.TIF", "deep/c.jp2", "b.mask.png", "b.png", "x.vrt", "n.txt", ".hidden.tif")
    _touch(tmp_path, ".git/d.tif", "v1.2.png")
    assert _names(find_sources(tmp_path), tmp_path) == ["a é ü.TIF", "b.png", "b.tif", "deep/c.jp2", "v1.2.png"]
    assert "deep/c.jp2" not in _names(find_sources(tmp_path, recursive=False), tmp_path)


def test_glob_and_file(tmp_path: Path) -> None:
    _touch(tmp_path, "a.tif", "b.tif", "deep/c.tif", "d.txt", "odd.raw", "[x].tif")
    assert _names(find_sources(f"{tmp_path}/?.tif"), tmp_path) == ["a.tif", "b.tif"]
    assert len(find_sources(f"{tmp_path}/**/*.tif")) == 4
    assert _names(find_sources(tmp_path / "odd.raw"), tmp_path) == ["odd.raw"]
    assert _names(find_sources(tmp_path / "[x].tif"), tmp_path) == ["[x].tif"], "a file that exists is no pattern"


@pytest.mark.parametrize("spec", ["missing", "missing.tif", "*.tif", "."])
def test_nothing_found_says_what_to_do(tmp_path: Path, spec: str) -> None:
    with pytest.raises(SourceError) as caught:
        find_sources(tmp_path / spec)
    assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_unreadable_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "a.tif", "locked/b.tif")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(SourceError, match="locked"):
            find_sources(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o755)


def test_folder_that_fails_to_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="Permission denied"):
        find_sources(tmp_path)


def _item(name: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": None,
        "properties": {"datetime": "2020-05-06T07:08:09Z", **properties},
        "links": [],
        "assets": {
            "thumbnail": {"href": f"{name}.png", "type": "image/png", "roles": ["thumbnail"]},
            "meta": {"href": f"{name}.xml", "type": "application/xml", "roles": ["metadata"]},
            "b04": {"href": f"{name}_b04.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]},
            "rgb": {"href": f"./{name}.tif", "type": "image/tiff; application=geotiff", "roles": ["visual"]},
        },
    }


def _catalog(folder: Path) -> Path:
    (folder / "items").mkdir()
    for name in ("two", "one"):
        item = _item(name, platform="sentinel-2a", constellation="Sentinel-2")
        (folder / "items" / f"{name}.json").write_text(json.dumps(item))
    links = [{"rel": "item", "href": f"./items/{n}.json"} for n in ("two", "one")]
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "c", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalog))
    return folder / "catalog.json"


def test_stac_catalog_resolves_links_and_keeps_dates_and_sensors(tmp_path: Path) -> None:
    found = find_sources(_catalog(tmp_path))
    assert _names(found, tmp_path) == ["items/one.tif", "items/two.tif"]
    assert found[0].acquired == datetime(2020, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert found[0].sensor == "sentinel-2"


def test_stac_item_and_item_collection(tmp_path: Path) -> None:
    item = _item("a", datetime=None, start_datetime="2021-01-02T00:00:00Z", end_datetime="2021-01-03T00:00:00Z")
    del item["assets"]["rgb"]
    (tmp_path / "a.json").write_text(json.dumps(item))
    (source,) = find_sources(tmp_path / "a.json")
    assert source == Source(str(tmp_path / "a_b04.tif"), datetime(2021, 1, 2, tzinfo=UTC), None, None)
    (tmp_path / "all.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [item, _item("b")]}))
    assert _names(find_sources(tmp_path / "all.geojson"), tmp_path) == ["a_b04.tif", "b.tif"]


@pytest.mark.parametrize(
    "text",
    ["{}", "[1]", "not json", '{"type": "FeatureCollection", "features": [{"a": 1}]}', '{"stac_version": "1.0.0"}'],
)
def test_not_stac(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SourceError) as caught:
        find_sources(tmp_path / "x.json")
    assert caught.value.hint


def test_broken_stac_link(tmp_path: Path) -> None:
    catalog = _catalog(tmp_path)
    (tmp_path / "items" / "one.json").unlink()
    with pytest.raises(SourceError, match=r"one\.json"):
        find_sources(catalog)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_stac_over_http_and_remote_fingerprint(tmp_path: Path, server: str) -> None:
    _catalog(tmp_path)
    found = find_sources(f"{server}/catalog.json")
    assert [s.uri for s in found] == [f"{server}/items/one.tif", f"{server}/items/two.tif"]
    before = fingerprint(f"{server}/catalog.json")
    assert before == fingerprint(f"{server}/catalog.json")
    (tmp_path / "catalog.json").write_text("longer than it was before, or shorter")
    assert before != fingerprint(f"{server}/catalog.json")
    with pytest.raises(SourceError):
        fingerprint(f"{server}/missing.tif")
    with pytest.raises(SourceError):
        find_sources(f"{server}/missing.json")
    assert find_sources(f"{server}/any.tif") == [Source(f"{server}/any.tif")]


def test_a_document_from_a_server_names_no_local_file(tmp_path: Path, server: str) -> None:
    item = _item("a")
    for href in ("file:///etc/hostname.tif", "/vsicurl/http://127.0.0.1:9/a.tif"):
        item["assets"]["rgb"]["href"] = href
        (tmp_path / "a.json").write_text(json.dumps(item))
        with pytest.raises(SourceError, match=r"names a file of this machine|only files and http"):
            find_sources(f"{server}/a.json")
    item["assets"]["rgb"]["href"] = "/etc/hostname.tif"  # a path on that server
    (tmp_path / "a.json").write_text(json.dumps(item))
    assert [source.uri for source in find_sources(f"{server}/a.json")] == [f"{server}/etc/hostname.tif"]


@pytest.mark.parametrize("href", ["../outside/secret.tif", "file:///etc/hostname.tif", "/etc/hostname.tif"])
def test_a_document_in_a_folder_names_no_file_outside_it(tmp_path: Path, href: str) -> None:
    item = _item("a")
    item["assets"]["rgb"]["href"] = href
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.json").write_text(json.dumps(item))
    with pytest.raises(OutOfReachError, match="lies outside"):
        find_sources(tmp_path / "given" / "a.json")


def test_a_documents_links_lead_to_no_private_server(tmp_path: Path) -> None:
    """A local document may not make this machine ask servers inside its network."""
    links = [{"rel": "item", "href": "http://127.0.0.1:9/item.json"}]
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "c", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    with pytest.raises(OutOfReachError, match="private network"):
        find_sources(tmp_path / "catalog.json")


def test_unreachable_server() -> None:
    with pytest.raises(SourceError):
        find_sources("http://127.0.0.1:9/catalog.json")


def test_local_fingerprint_changes_with_content(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"1")
    first = fingerprint(str(path))
    os.utime(path, ns=(1, 1))
    second = fingerprint(str(path))
    path.write_bytes(b"22")
    assert len({first, second, fingerprint(str(path))}) == 3
    path.unlink()
    with pytest.raises(SourceError):
        fingerprint(str(path))


def test_a_path_that_cannot_be_looked_at() -> None:
    with pytest.raises(SourceError, match="too long") as caught:  # as in a locked folder, but for root too
        find_sources("x" * 5000)
    assert caught.value.hint
