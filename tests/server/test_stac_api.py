"""The STAC side: documents, plain search against a loop over all chips, ranked search against the archive itself."""

from __future__ import annotations

import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pystac
import pystac_client
import pytest
import shapely
import uvicorn
from colour_world import GRID, ColourWords, paint
from fastapi.testclient import TestClient

from geoglot.archive.archive import Archive, ArchiveInfo
from geoglot.archive.filters import Filter
from geoglot.archive.ingest import ingest
from geoglot.server.app import create_app
from geoglot.server.archives import HELD, ArchivePool
from geoglot.server.settings import Settings
from geoglot.types import Bbox


def all_items(client: TestClient, limit: int, **parameters: Any) -> list[dict[str, Any]]:
    """Follow `next` to the end."""
    answer = client.get("/search", params={**parameters, "limit": limit}).json()
    found = answer["features"]
    while following := next((link for link in answer["links"] if link["rel"] == "next"), None):
        answer = client.get(following["href"]).json()
        found += answer["features"]
    return found


def chips_of(folder: Path, wanted: Filter = Filter()) -> list[str]:  # noqa: B008
    return [chip.chip_id for chip, _ in Archive.open(folder).list_chips(wanted, limit=1000).chips]


def test_the_landing_page_leads_everywhere(client: TestClient) -> None:
    page = client.get("/").json()
    assert {"core", "item-search", "collections", "ogcapi-features"} <= {c.split("/")[-1] for c in page["conformsTo"]}
    assert page["conformsTo"] == client.get("/conformance").json()["conformsTo"]
    for link in page["links"]:
        if link.get("method") != "POST":
            reply = client.get(link["href"])
            assert reply.status_code == 200, link
            assert reply.headers["content-type"].split(";")[0] == link["type"].split(";")[0]


def test_collections_say_what_they_hold(client: TestClient) -> None:
    north, south = client.get("/collections").json()["collections"]
    assert (north["id"], south["id"]) == ("north", "south")
    assert (north["geoglot:scenes"], north["geoglot:unplaced"]) == (3, 1)
    assert north["extent"]["temporal"]["interval"][0][0] == "2019-06-01T10:00:00Z"
    assert client.get("/collections/north").json() == north
    pystac.Collection.from_dict(north)


@pytest.mark.parametrize("limit", [1, 5, 10_000])
def test_plain_search_pages_through_every_chip_once(client: TestClient, served: Path, limit: int) -> None:
    ids = [item["id"] for item in all_items(client, limit)]
    assert ids == chips_of(served / "north") + chips_of(served / "south")
    assert client.get("/search").json()["numberMatched"] == len(ids)


def test_plain_search_filters_as_the_archive_does(client: TestClient, served: Path) -> None:
    box = Archive.open(served / "north").info().bbox_lonlat
    assert box is not None
    half = Bbox(box.west, box.south, (box.west + box.east) / 2, box.north)
    inside = chips_of(served / "north", Filter(bbox=half))
    asked = {"bbox": ",".join(map(str, half.lonlat)), "collections": "north"}
    assert [i["id"] for i in all_items(client, 3, **asked)] == inside
    polygon = shapely.geometry.mapping(shapely.box(*half.lonlat))
    body = {"intersects": polygon, "collections": ["north"], "limit": 1000}
    assert [i["id"] for i in client.post("/search", json=body).json()["features"]] == inside
    dated = all_items(client, 100, datetime="2019-01-01T00:00:00Z/2019-12-31T23:59:59Z")
    assert {i["properties"]["title"] for i in dated} == {"coast.tif"}
    wanted = [inside[1], "nothing", inside[0]]
    assert {i["id"] for i in client.post("/search", json={"ids": wanted}).json()["features"]} == set(inside[:2])


def test_a_box_over_the_antimeridian_leaves_out_what_lies_between(client: TestClient) -> None:
    assert client.get("/search", params={"bbox": "170,-80,-170,80"}).json()["features"] == []
    assert client.get("/search", params={"bbox": "30,-80,-170,80"}).json()["numberMatched"] > 0
    assert client.get("/search", params={"bbox": "30,-80,0,-170,80,9"}).json()["numberMatched"] > 0


def test_ranked_search_is_the_archives_own(client: TestClient, served: Path) -> None:
    archive = Archive.open(served / "north", ColourWords())
    for question in ("water", '"water" - "roof"', '"forest" + "desert"'):
        want = archive.search(question, limit=50)
        answer = client.get("/search", params={"q": question, "collections": "north", "limit": 50, "all": True}).json()
        assert [i["id"] for i in answer["features"]] == [m.chip.chip_id for m in want.matches]
        told = [i["properties"] for i in answer["features"]]
        assert [p["geoglot:score"] for p in told] == pytest.approx([m.score for m in want.matches], abs=1e-6)
        assert [p["geoglot:confidence"] for p in told] == pytest.approx([m.confidence for m in want.matches], abs=1e-6)
        assert [p["geoglot:rank"] for p in told] == list(range(1, len(told) + 1))
        assert answer["geoglot:search"]["nothing_matches"] == want.nothing_matches


def test_archives_are_merged_by_score_and_pages_agree(client: TestClient) -> None:
    whole = client.get("/search", params={"q": "water", "limit": 1000, "all": True, "merge": False}).json()["features"]
    paged = all_items(client, 4, q="water", all=True, merge=False)
    scores = [item["properties"]["geoglot:score"] for item in whole]
    assert scores == sorted(scores, reverse=True)
    assert {item["collection"] for item in whole} == {"north", "south"}
    assert [i["id"] for i in paged] == [i["id"] for i in whole]
    assert [i["properties"]["geoglot:rank"] for i in paged] == list(range(1, len(whole) + 1))


def test_post_pages_repeat_the_question(client: TestClient) -> None:
    body = {"q": "roof", "limit": 2, "all": True}
    first = client.post("/search", json=body).json()
    following = next(link for link in first["links"] if link["rel"] == "next")
    assert following["method"] == "POST"
    second = client.post(following["href"], json=following["body"]).json()
    assert {i["id"] for i in first["features"]} & {i["id"] for i in second["features"]} == set()


def test_more_like_a_chip_of_another_archive(client: TestClient, served: Path) -> None:
    chip = chips_of(served / "south")[0]
    north = client.get("/search", params={"like": chip, "collections": "north", "all": True})
    assert north.status_code == 200
    both = client.get("/search", params={"like": chip, "all": True}).json()
    assert both["features"][0]["properties"]["geoglot:score"] == pytest.approx(1, abs=1e-3)  # others look alike
    assert client.get("/search", params={"q": f'"water" + chip:{chip}', "all": True}).status_code == 200


def test_nothing_matches_is_said(client: TestClient) -> None:
    params = {"q": '"water" - "forest"', "scene": "plain.png", "collections": "north"}
    answer = client.get("/search", params={**params, "min_confidence": 1.0}).json()
    assert answer["features"] == []
    assert answer["geoglot:search"]["total"] > 0


def test_an_item_has_what_is_promised(client: TestClient) -> None:
    for item in all_items(client, 100):
        again = client.get(f"/collections/{item['collection']}/items/{item['id']}").json()
        assert again == item
        pystac.Item.from_dict(item)
        rels = {link["rel"] for link in item["links"]}
        placed = item["geometry"] is not None
        assert ("bbox" in item) == placed == ({"tilejson", "xyz"} <= rels)
        assert {"self", "collection", "root", "scene", "similar"} <= rels
        if item["properties"]["datetime"] is None:
            assert item["properties"]["geoglot:undated"]
            assert item["properties"]["start_datetime"] < item["properties"]["end_datetime"]
        assert "/served" not in str(item)  # where files lie on the server is not told


@pytest.fixture(scope="module")
def address(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on a real port."""
    pool = ArchivePool({"north": served / "north"}, lambda name: ColourWords())
    app = create_app(pool, Settings(state=tmp_path_factory.mktemp("live")))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)


def test_pystac_client_searches_pages_and_reads(address: str, served: Path) -> None:
    api = pystac_client.Client.open(address)
    assert [c.id for c in api.get_collections()] == ["north"]
    for method in ("GET", "POST"):
        found = list(api.search(collections=["north"], limit=3, method=method).items())
        assert [item.id for item in found] == chips_of(served / "north")
    ranked = api.search(limit=2, max_items=5, method="GET", datetime=None).items_as_dicts()
    assert len(list(ranked)) == 5
    item = next(iter(api.get_collection("north").get_items()))
    assert httpx2.get(item.assets["thumbnail"].href).headers["content-type"] == "image/webp"
    assert item.get_root().id == "geoglot"


def test_many_at_once_get_what_each_gets_alone(client: TestClient) -> None:
    asked: list[dict[str, str]] = [
        {"q": q, "all": "true", **more}
        for q in ("water", "forest", "roof", "no such word")
        for more in ({}, {"collections": "north"}, {"bbox": "-180,-90,180,90"}, {"datetime": "2021-01-01T00:00:00Z/.."})
    ]

    def ask(params: dict[str, str]) -> tuple[int, Any]:
        answer = client.get("/search", params=params)
        return answer.status_code, answer.json().get("features")

    alone = [ask(params) for params in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(ask, asked * 3))
    assert together == alone * 3
    assert [status for status, _ in alone] == [200] * 12 + [400] * 4  # unknown words, and nobody else is troubled


def test_states_that_are_no_longer_held_are_let_go(served: Path, tmp_path: Path) -> None:
    shutil.copytree(served / "north", tmp_path / "north")
    (tmp_path / "more").mkdir()
    pool = ArchivePool({"north": tmp_path / "north"}, lambda name: ColourWords())
    seen: list[weakref.ref[Archive]] = []
    for number in range(HELD + 3):
        archive = pool.served("north").archive
        assert archive.search("water").matches
        seen.append(weakref.ref(archive))
        del archive
        paint(tmp_path / "more" / f"{number}.tif", ("water", "roof", "roof", "forest"))
        ingest(tmp_path / "north", tmp_path / "more", ColourWords(), GRID, prune=False)
        pool.follow()
    assert [state() is None for state in seen] == [True] * 4 + [False] * (HELD - 1)


def test_an_archives_numbers_are_worked_out_once_however_many_ask(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = client.app.state.context  # type: ignore[attr-defined]
    archive = context.archive("north")
    worked_out, begin = [], threading.Barrier(8)
    original = Archive.info

    def slow(self: Archive) -> ArchiveInfo:
        worked_out.append(self)
        time.sleep(0.05)
        return original(self)

    def ask() -> None:
        begin.wait()
        context.info(archive)

    monkeypatch.setattr(Archive, "info", slow)
    context._infos.pop(archive, None)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worked_out) == 1
