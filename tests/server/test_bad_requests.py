"""Each kind of bad input gets its status, as a problem document with a hint."""

from __future__ import annotations

import json
import random
import shutil
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from colour_world import GRID, ColourWords, paint
from fastapi.testclient import TestClient

from geoglot import errors
from geoglot.archive.ingest import ingest
from geoglot.errors import GeoglotError
from geoglot.imagery.reach import Reach
from geoglot.imagery.remote import ask
from geoglot.server.errors import STATUS, status_of, without_paths

Serve = Callable[..., TestClient]


def told(reply: Any, status: int) -> dict[str, Any]:
    """The problem document, checked."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = reply.json()
    assert {"type", "title", "status", "detail", "hint", "instance", "request"} == set(body)
    assert body["status"] == status
    assert body["detail"]
    assert body["request"] == reply.headers["x-request-id"]
    return body


def test_every_error_has_a_status() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, GeoglotError)]
    made = {kind: kind.__new__(kind) for kind in kinds}
    assert all(400 <= status_of(error) <= 504 for error in made.values())
    assert {kind for kind in kinds if status_of(made[kind]) == 500} <= {
        GeoglotError,
        errors.RequestError,
        errors.SampleError,
        errors.TrainingError,
        errors.DivergedError,
        errors.CollapsedError,
        errors.MissingExtraError,
    }
    assert STATUS[errors.UsageError] == 400


BAD_QUERIES = [
    ({"bbox": "1,2,3"}, "4 or 6"),
    ({"bbox": "a,b,c,d"}, "numbers"),
    ({"bbox": "0,10,1,0"}, "south"),
    ({"bbox": "0,0,nan,1"}, "finite"),
    ({"bbox": "0,0,200,1"}, "longitudes"),
    ({"datetime": "2021-01-01T00:00:00Z/2019-01-01T00:00:00Z"}, "after"),
    ({"datetime": "2019"}, "RFC 3339"),
    ({"datetime": "../.."}, "interval"),
    ({"datetime": "2019-02-31T00:00:00Z"}, "RFC 3339"),
    ({"intersects": "{"}, "JSON"),
    ({"intersects": '{"type": "Polygon", "coordinates": [[[0, 0]]]}'}, "GeoJSON"),
    ({"intersects": '{"type": "Polygon"}'}, "GeoJSON"),
    ({"intersects": '{"type": "Feature", "geometry": null}'}, "geometry"),
    ({"intersects": '{"type": "Point", "coordinates": [500, 0]}'}, "degrees"),
    ({"intersects": '{"type": "Point", "coordinates": "x"}'}, "GeoJSON"),
    ({"intersects": "[" * 5000}, "JSON"),
    ({"intersects": '{"type": "Point", "coordinates": [0, 0]}', "bbox": "0,0,1,1"}, "together"),
    ({"limit": "0"}, "limit"),
    ({"limit": "-1"}, "limit"),
    ({"limit": "many"}, "limit"),
    ({"lmit": "3"}, "no field 'lmit'"),
    ({"token": "nonsense"}, "token"),
    ({"token": "W10"}, "token"),
    ({"sensor": "nothing-like-it"}, "sensor"),
    ({"q": "zebra"}, "zebra"),
    ({"q": '"'}, "zebra|word|empty"),
    ({"q": '"water" -'}, "sign"),
    ({"q": "/etc/passwd.png"}, "not a picture that was sent"),
    ({"q": "image:/etc/passwd"}, "not a picture that was sent"),
    ({"image": "../../etc/passwd"}, "not a picture that was sent"),
    ({"image": "0123456789abcdef.AAAA"}, "another model"),
    ({"like": "0-0-0-1-1"}, "no chip"),
    ({"like": "../../x"}, "no chip"),
    ({"gsd_min": "5", "gsd_max": "1"}, "gsd"),
]


@pytest.mark.parametrize(("query", "says"), BAD_QUERIES, ids=lambda v: str(v)[:50])
def test_bad_searches(client: TestClient, query: dict[str, str], says: str) -> None:
    import re

    body = told(client.get("/search", params=query), 400)
    assert re.search(says, body["detail"]), body
    assert body["hint"]


BAD_BODIES: list[tuple[bytes, str]] = [
    (b"{", "JSON"),
    (b"[]", "dict|object"),
    (b'{"limt": 3}', "no field 'limt'"),
    (b'{"bbox": [0, 0, 1]}', "4 or 6"),
    (b'{"bbox": "0,0,1,1"}', "bbox"),
    (b'{"intersects": {"type": "Polygon", "coordinates": [[[0,0],[1,1],[NaN,1],[0,0]]]}}', "finite|JSON"),
    (b'{"collections": "north"}', "collections"),
    (b'{"limit": 0}', "limit"),
]


@pytest.mark.parametrize(("body", "says"), BAD_BODIES, ids=lambda v: str(v)[:40])
def test_bad_bodies(client: TestClient, body: bytes, says: str) -> None:
    import re

    reply = client.post("/search", content=body, headers={"content-type": "application/json"})
    assert re.search(says, told(reply, 400)["detail"])


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "Point", "coordinates": [0, 0]}
    for _ in range(depth):
        inner = {"type": "GeometryCollection", "geometries": [inner]}
    return inner


def test_a_geometry_that_is_nested_too_deeply(client: TestClient) -> None:
    assert client.post("/search", json={"intersects": nested(2)}).status_code == 200
    told(client.post("/search", json={"intersects": nested(60)}), 400)


MISSING = [
    "/nothing",
    "/collections/west",
    "/collections/north/items/x",
    "/collections/north/items/0-0-0-1-1",
    "/collections/north/scenes/x",
    "/collections/north/scenes/..%2f..%2fetc",
    "/collections/..%2f..%2fetc/items",
    "/collections/north/items/..%2f..%2fetc%2fpasswd/thumbnail.webp",
    "/jobs/x",
    "/jobs/..%2f..%2fx/files/job.json",
    "/collections/north/items/99999999999999999999-1-1-2-2",
]


@pytest.mark.parametrize("path", MISSING)
def test_what_is_not_there(client: TestClient, path: str) -> None:
    told(client.get(path), 404)


def test_the_wrong_method(client: TestClient) -> None:
    told(client.put("/search"), 405)


def test_too_large_a_body_is_cut_off_whether_it_says_so_or_not(serve: Serve) -> None:
    small = serve(max_body=1000, max_upload=2000)
    told(small.post("/search", json={"q": "x" * 2000}), 413)

    def drops() -> Any:
        for _ in range(50):
            yield b" " * 100

    told(small.post("/search", content=drops(), headers={"content-type": "application/json"}), 413)
    told(small.post("/pictures", files={"file": b"x" * 5000}), 413)


def png(width: int, height: int, data: bytes) -> bytes:
    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(data)) + part(b"IEND", b"")


VRT = (
    b'<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    b"<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
)
HOSTILE = [
    (png(60_000, 60_000, b"\0" * 100), 413),
    (png(64, 64, b"\0" * 100), 422),
    (VRT, 422),
    (b"", 422),
    (b"GIF89a" + b"\0" * 100, 422),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422),
    (b"II*\0" + random.Random(0).randbytes(500), 422),
    (b"\xff\xd8\xff" + b"\0" * 300, 422),
]


@pytest.mark.parametrize(("content", "status"), HOSTILE, ids=lambda v: str(v)[:30])
def test_hostile_uploads(client: TestClient, content: bytes, status: int) -> None:
    body = told(client.post("/pictures", files={"file": ("../../x.png", content)}), status)
    assert "/tmp" not in body["detail"]


def test_an_upload_without_a_file(client: TestClient) -> None:
    told(client.post("/pictures", data={"file": "text"}), 400)
    told(client.post("/pictures", content=b"x", headers={"content-type": "multipart/form-data"}), 400)


def test_tiles_that_are_not_there(client: TestClient) -> None:
    scene = client.get("/collections/south/scenes").json()["features"][0]["id"]
    home = f"/collections/south/scenes/{scene}/tiles/WebMercatorQuad"
    told(client.get(f"{home}/3/9/0.png"), 400)
    told(client.get(f"{home}/30/0/0.png"), 400)
    told(client.get(f"{home}/3/0/0.png"), 404)
    told(client.get(f"{home}/x/0/0.png"), 400)


def test_keys(serve: Serve) -> None:
    guarded = serve(api_keys=("right", "other"))
    assert guarded.get("/health").status_code == 200
    assert "Bearer" in guarded.get("/search").headers["www-authenticate"]
    told(guarded.get("/search"), 401)
    told(guarded.get("/search", headers={"x-api-key": "wrong"}), 401)
    told(guarded.get("/metrics"), 401)
    for headers in ({"x-api-key": "right"}, {"authorization": "Bearer other"}, {"cookie": "geoglot_key=right"}):
        assert guarded.get("/search", headers=headers).status_code == 200


def test_the_pace_of_each_key(serve: Serve) -> None:
    paced = serve(api_keys=("a", "b"), rate_per_min=3)
    replies = [paced.get("/conformance", headers={"x-api-key": "a"}).status_code for _ in range(5)]
    assert replies == [200, 200, 200, 429, 429]
    reply = paced.get("/conformance", headers={"x-api-key": "a"})
    assert 1 <= int(reply.headers["retry-after"]) <= 21
    told(reply, 429)
    assert paced.get("/conformance", headers={"x-api-key": "b"}).status_code == 200


def test_a_foreign_name_is_refused_on_loopback(serve: Serve) -> None:
    local = serve(allowed_hosts=frozenset({"127.0.0.1", "localhost", "::1"}))
    told(local.get("/", headers={"host": "evil.example"}), 403)
    for name in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
        assert local.get("/", headers={"host": name}).status_code == 200


def test_other_sites_may_not_ask_unless_told(client: TestClient, serve: Serve) -> None:
    origin = {"origin": "https://maps.example"}
    assert "access-control-allow-origin" not in client.get("/", headers=origin).headers
    allowed = serve(cors=("https://maps.example",)).get("/", headers=origin)
    assert allowed.headers["access-control-allow-origin"] == "https://maps.example"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An archive of one scene, to be broken."""
    (tmp_path / "scenes").mkdir()
    paint(tmp_path / "scenes" / "one.tif", ("water", "roof", "forest", "desert"))
    ingest(tmp_path / "archive", tmp_path / "scenes", ColourWords(), GRID)
    return tmp_path


def wait(check: Any) -> None:
    import time

    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_archive_that_disappears_and_comes_back(serve: Serve, small: Path, served: Path) -> None:
    api = serve({"gone": small / "archive", "south": served / "south"})
    assert api.get("/ready").status_code == 200
    (small / "archive").rename(small / "elsewhere")
    wait(lambda: api.get("/ready").status_code == 503)
    told(api.get("/collections/gone"), 503)
    told(api.get("/search", params={"collections": "gone"}), 503)
    assert api.get("/search", params={"q": "water", "all": True}).json()["numberReturned"] > 0
    assert [c["id"] for c in api.get("/collections").json()["collections"]] == ["south"]
    (small / "elsewhere").rename(small / "archive")
    wait(lambda: api.get("/ready").status_code == 200)
    assert api.get("/collections/gone").status_code == 200


def test_a_scene_that_is_gone_or_has_changed(serve: Serve, small: Path) -> None:
    api = serve({"one": small / "archive"})
    item = api.get("/search").json()["features"][0]
    picture = item["assets"]["picture"]["href"]
    assert api.get(picture).status_code == 200
    (small / "scenes" / "one.tif").write_bytes(b"II*\0 no longer")
    assert "/" not in told(api.get(picture), 422)["detail"].replace("n/a", "")
    (small / "scenes" / "one.tif").unlink()
    told(api.get(picture), 422)


def test_links_that_lead_out_of_the_scenes_folder(serve: Serve, small: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.move(small / "scenes" / "one.tif", outside / "one.tif")
    (small / "scenes" / "one.tif").symlink_to(outside / "one.tif")
    refused = serve({"one": small / "archive"})
    picture = refused.get("/search").json()["features"][0]["assets"]["picture"]["href"]
    told(refused.get(picture), 403)
    assert serve({"one": small / "archive"}, reach=Reach((outside,))).get(picture).status_code == 200
    told(serve({"one": small / "archive"}, reach=Reach((small / "archive",))).get(picture), 403)


PRIVATE = ["127.0.0.1", "[::1]", "169.254.169.254", "10.1.2.3", "localhost:9"]


@pytest.mark.parametrize("url", [f"http://{host}/x.tif" for host in PRIVATE])
def test_private_networks_are_not_read(url: str) -> None:
    with pytest.raises(errors.NotAllowedError):
        Reach().check(url)
    from urllib.parse import urlsplit

    Reach(hosts=(urlsplit(url).hostname or "",)).check(url)


@pytest.fixture
def redirecting() -> Iterator[tuple[str, list[str]]]:
    """A server at 127.0.0.1 that leads `/to/NAME` to the same server as NAME; its address, and the paths asked for."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            name = self.path.removeprefix("/to/") if self.path.startswith("/to/") else ""
            self.send_response(302 if name else 200)
            if name:
                self.send_header("Location", f"http://{name}:{self.server.server_address[1]}/scene.tif")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()


def test_redirects_to_private_networks_are_not_followed(redirecting: tuple[str, list[str]]) -> None:
    home, asked = redirecting
    reach = Reach(hosts=("127.0.0.1",))
    with pytest.raises(errors.NotAllowedError, match="localhost"):
        ask(f"{home}/to/localhost", reach)
    assert asked == ["/to/localhost"]
    ask(f"{home}/to/127.0.0.1", reach)
    assert asked[1:] == ["/to/127.0.0.1", "/scene.tif"]
    ask(f"{home}/to/localhost", Reach(hosts=("127.0.0.1", "localhost")))


def test_names_are_looked_up_at_each_check(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["93.184.216.34", "10.0.0.5"])

    def resolve(host: str, *_: object, **__: object) -> list[Any]:
        return [(2, 1, 6, "", (next(answers), 0))]

    monkeypatch.setattr("geoglot.imagery.reach.socket.getaddrinfo", resolve)
    Reach().check("http://moves.example/x.tif")
    with pytest.raises(errors.NotAllowedError, match=r"moves\.example"):
        Reach().check("http://moves.example/x.tif")


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("cannot read '/data/my scenes/a.tif': no", "cannot read 'a.tif': no"),
        ("no archive at /srv/x/archive", "no archive at archive"),
        ("12 / 5 and a/b", "12 / 5 and a/b"),
    ],
)
def test_paths_of_the_server_are_cut(text: str, bare: str) -> None:
    assert without_paths(text) == bare


def test_tasks_refuse_what_they_cannot_do(client: TestClient) -> None:
    chip = client.get("/search").json()["features"][0]["id"]
    good = {"collection": "north", "labels": ["water", "roof"], "chip": chip}
    assert client.post("/tasks/classify", json=good).status_code == 200
    changes: list[dict[str, Any]] = [{"labels": ["water"]}, {"labels": ["water", "water"]}, {"chip": None}]
    for change in [*changes, {"picture": "x.y"}, {"lable": 1}, {"collection": 3}]:
        told(client.post("/tasks/classify", json={**good, **change}), 400)
    detail = told(client.post("/tasks/classify", json={**good, "labels": 7}), 400)["detail"]
    assert detail.startswith("labels: ")
    assert "list" in detail
    assert "tuple" not in detail
    told(client.post("/tasks/classify", json={**good, "collection": "west"}), 404)
    told(client.post("/tasks/clasify", json=good), 404)
    told(client.post("/tasks/classify", content=b"nonsense"), 400)


def test_bugs_are_told_without_their_inside(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    api = serve()
    monkeypatch.setattr("geoglot.server.routes.stac.list_many", lambda *_, **__: {}["secret"])
    reply = api.get("/search")
    assert reply.status_code == 500
    assert "secret" not in json.dumps(reply.json())
