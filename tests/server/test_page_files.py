"""The page's files and settings without a browser: the policy, and a basemap only when one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from geoglot.errors import UsageError
from geoglot.server.webpage import Basemap, policy

URL = "https://tiles.example.org:8443/osm/{z}/{x}/{y}.png?key=k"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Files where the page would be."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<!doctype html><title>page</title>", encoding="utf-8")
    (tmp_path / "page" / "worker.js").write_text("", encoding="utf-8")
    return tmp_path / "page"


def test_without_a_basemap_nothing_but_this_server_may_be_asked(serve: Callable[..., TestClient], page: Path) -> None:
    api = serve(page=page, title="Harbours")
    for path in ("/page/", "/page/worker.js"):
        told = api.get(path).headers["content-security-policy"]
        assert told == policy(None)
        assert "http" not in told
    assert "default-src 'self'" in policy(None)
    assert api.get("/settings").json() == {"title": "Harbours", "basemap": None}


def test_a_basemap_opens_the_policy_for_its_server_alone(serve: Callable[..., TestClient], page: Path) -> None:
    api = serve(page=page, basemap=Basemap(URL, "© Somebody"))
    told = dict(part.split(" ", 1) for part in api.get("/page/").headers["content-security-policy"].split("; "))
    assert told["connect-src"] == "'self' https://tiles.example.org:8443"
    assert told["img-src"] == "'self' data: blob: https://tiles.example.org:8443"
    assert told["default-src"] == told["base-uri"] == "'self'"
    assert api.get("/settings").json()["basemap"] == {"url": URL, "credit": "© Somebody"}


def test_a_basemap_with_a_token_is_told_only_to_who_has_the_key(serve: Callable[..., TestClient], page: Path) -> None:
    api = serve(page=page, basemap=Basemap(URL, "© Somebody"), api_keys=("secret",))
    assert "key=k" not in api.get("/page/").text + str(api.get("/page/").headers)
    assert api.get("/settings").status_code == 401
    assert api.get("/settings", headers={"X-API-Key": "secret"}).status_code == 200


def test_the_key_of_a_user_in_the_address_is_not_in_the_policy() -> None:
    assert Basemap("https://me:pw@t.example/{z}/{x}/{y}", "c").origin == "https://t.example"


@pytest.mark.parametrize(
    ("url", "credit", "says"),
    [
        ("ftp://t.example/{z}/{x}/{y}", "c", "no address"),
        ("/{z}/{x}/{y}", "c", "no address"),
        ("https://{z}.example/{z}/{x}/{y}", "c", "no address"),
        ("https://t.example/{z}/{x}/{y} ; script-src *", "c", "no address"),
        ("https://t.example; script-src *;/{z}/{x}/{y}", "c", "no address"),
        ("https://t.example/{z}/{x}.png", "c", "lacks {y}"),
        ("https://t.example/tiles", "c", "lacks {z} and {x} and {y}"),
        ("https://t.example/{z}/{x}/{y}", " ", "has no credit"),
    ],
)
def test_what_is_no_basemap_is_refused(url: str, credit: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Basemap(url, credit)
