"""What strangers send: hostile rasters by every way in, foreign pages, wrong keys, too much, too slow, forged names."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from colour_world import GRID, ColourWords

from conftest import Client, Serve
from geoglot.archive.ingest import ingest
from geoglot.server.connections import Book, site_of
from hostile_rasters import FORMS, INERT, Trap, build, trap, write_plain


def wait_for(api: Client, job: str, seconds: float = 30) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        body: dict[str, Any] = api.get(f"/jobs/{job}").json()
        if body["state"] in ("done", "failed", "cancelled"):
            return body
        time.sleep(0.05)
    raise AssertionError(body)


@pytest.fixture
def laid(tmp_path: Path) -> Iterator[Trap]:
    with trap(tmp_path) as made:
        yield made


linux = pytest.mark.skipif(sys.platform != "linux", reason="files are watched by inotify")


@linux
def test_uploads_of_every_form_reach_nothing(client: Client, laid: Trap, tmp_path: Path) -> None:
    for number, form in enumerate(FORMS):
        content = build(form, tmp_path / f"given-{number}", laid.aims).read_bytes()
        laid.sprung()
        answer = client.post("/pictures", files={"file": ("scene.tif", content)})
        assert answer.status_code in (200, 422), (form, answer.text)
        if form.startswith(("tag", "inline", "keys")):
            assert answer.status_code == 422, form
        assert laid.sprung() == [], form


@linux
def test_index_segment_pictures_tiles_and_tasks_of_every_form_reach_nothing(
    serve: Serve, laid: Trap, tmp_path: Path
) -> None:
    """Each form is indexed; and each takes the place of an ordinary scene that had been indexed before."""
    folder = tmp_path / "scenes"
    for number in range(len(FORMS)):
        (folder / str(number)).mkdir(parents=True)
        write_plain(folder / str(number) / "scene.tif")
    ingest(tmp_path / "archive", folder, ColourWords(), GRID)
    api = serve({"one": tmp_path / "archive"}, max_jobs=100)
    ids = {}
    for scene in api.get("/collections/one/scenes?limit=1000").json()["features"]:
        record = api.app.state.context.scene("one", scene["id"])  # type: ignore[attr-defined]
        ids[Path(record.uri).parent.name] = scene["id"]
    for number, form in enumerate(FORMS):
        shutil.rmtree(folder / str(number))
        build(form, folder / str(number), laid.aims)
    laid.sprung()
    report = ingest(tmp_path / "fresh", folder, ColourWords(), GRID)
    assert laid.sprung() == []
    assert len(report.failed) >= len(FORMS) - len(INERT)
    for number, form in enumerate(FORMS):
        here = f"/collections/one/scenes/{ids[str(number)]}"
        answers = [
            api.get(f"{here}/thumbnail.webp"),
            api.get(f"{here}/tiles/WebMercatorQuad/10/873/398.png"),
            api.post("/tasks/localize", json={"collection": "one", "scene": ids[str(number)], "text": ["water"]}),
        ]
        if answers[2].status_code == 202:
            wait_for(api, answers[2].json()["id"])
        assert laid.sprung() == [], form
        if form not in INERT:
            assert [answer.status_code for answer in answers[:2]] == [403, 403], form


ELSEWHERE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://testserver.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_pages_of_other_origins_may_not_ask(client: Client, headers: dict[str, str]) -> None:
    assert client.post("/search", json={"q": "water"}, headers=headers).status_code == 403
    assert client.get("/search?q=water", headers=headers).status_code == 403
    assert client.get("/health", headers=headers).status_code == 200


HERE = [
    {},
    {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
]


@pytest.mark.parametrize("headers", HERE)
def test_the_own_page_programs_and_links_may(client: Client, headers: dict[str, str]) -> None:
    assert client.get("/search?q=water", headers=headers).status_code == 200


def test_cors_names_who_else_may(serve: Serve) -> None:
    api = serve(cors=("https://friend.example",))
    assert api.get("/search?q=water", headers={"Origin": "https://friend.example"}).status_code == 200
    assert api.get("/search?q=water", headers={"Origin": "https://evil.example"}).status_code == 403
    public = serve(public_url="https://eo.example/api")
    assert public.get("/search?q=water", headers={"Origin": "https://eo.example"}).status_code == 200
    assert public.get("/search?q=water", headers={"Origin": "http://eo.example"}).status_code == 403


def test_wrong_keys_are_paced_and_logged_with_their_address(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    api = serve(api_keys=("right",), wrong_keys_per_min=3)
    with caplog.at_level(logging.WARNING, "geoglot.server.access"):
        states = [api.get("/search", headers={"X-API-Key": f"guess {n}"}).status_code for n in range(5)]
    assert states == [401, 401, 401, 429, 429]
    wrong = [record for record in caplog.records if record.getMessage() == "wrong key"]
    assert [record.address for record in wrong] == ["testclient"] * 3  # type: ignore[attr-defined]
    assert all("guess" not in json.dumps(record.__dict__, default=str) for record in wrong)
    assert api.get("/search", headers={"X-API-Key": "right"}).status_code == 429  # or guessing would go on
    assert api.get("/search").status_code == 401  # no key is no guess
    assert serve(api_keys=("right",)).get("/search", headers={"X-API-Key": "right"}).status_code == 200


def test_forwarded_addresses_are_believed_of_named_proxies_only(serve: Serve) -> None:
    def passes(api: Client) -> list[int]:
        return [api.get("/search", headers={"X-Forwarded-For": f"93.184.216.{n}"}).status_code for n in range(3)]

    assert passes(serve(rate_per_min=2)) == [200, 200, 429]
    assert passes(serve(rate_per_min=2, proxies=("testclient",))) == [200, 200, 200]
    assert passes(serve(rate_per_min=2, proxies=("10.0.0.1",))) == [200, 200, 429]


def test_a_key_has_a_share_of_the_queue_and_its_files_to_itself(serve: Serve, tmp_path: Path) -> None:
    api = serve(api_keys=("one", "two"), max_jobs=4, job_threads=0, state=tmp_path / "state")
    body = {"collection": "north", "q": "water"}

    def ask(key: str) -> int:
        return int(api.post("/tasks/export", json=body, headers={"X-API-Key": key}).status_code)

    assert [ask("one") for _ in range(3)] == [202, 202, 429]
    assert ask("two") == 202
    files = list((tmp_path / "state" / "jobs").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if path.is_file()} == {0o600}


def test_results_are_readable_by_the_owner_alone(serve: Serve, tmp_path: Path) -> None:
    api = serve(state=tmp_path / "state")
    job = api.post("/tasks/export", json={"collection": "north", "q": "water"}).json()["id"]
    assert wait_for(api, job)["state"] == "done"
    files = list((tmp_path / "state" / "jobs" / job / "files").iterdir())
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "state" / "jobs").stat().st_mode) == 0o700


def test_uploads_under_way_are_limited_in_number_and_bytes() -> None:
    from geoglot.errors import TooManyError
    from geoglot.server.middleware import Room

    room = Room(2, 100)
    with room.take(60):
        with pytest.raises(TooManyError):
            room.take(60).__enter__()
        with room.take(40), pytest.raises(TooManyError):
            room.take(0).__enter__()
    with room.take(100):
        pass


def test_visitors_are_told_apart_by_address_or_network() -> None:
    assert site_of("93.184.216.34") == site_of("::ffff:93.184.216.34") == "93.184.216.34"
    assert site_of("2001:db8:1:2::5") == site_of("2001:db8:1:2:ffff::9") != site_of("2001:db8:1:3::5")


def test_the_oldest_that_waits_makes_room() -> None:
    closed: list[str] = []

    class Line:
        def __init__(self, name: str, waits: bool = True) -> None:
            self.name, self.waits = name, waits

        def hang_up(self) -> None:
            closed.append(self.name)

    def enter(book: Book, line: Line, site: str) -> None:
        book.enter(line, site)  # type: ignore[arg-type]

    book = Book(("10.0.0.0/8",), each=2, most=6)
    lines = [Line("busy", waits=False), Line("a"), Line("b")]
    for line in lines:
        enter(book, line, "x")
    assert closed == ["a"]
    for number in range(4):
        enter(book, Line(f"p{number}"), "10.1.2.3")
    assert closed == ["a", "p0"]  # over all: the largest crowd gives way


@pytest.fixture
def listening(served: Path, tmp_path: Path) -> Iterator[int]:
    """A server on a real socket, with a short deadline for headers; its port."""
    import uvicorn

    from geoglot.server.app import create_app, transport_options
    from geoglot.server.archives import ArchivePool
    from geoglot.server.connections import raise_file_limit
    from geoglot.server.settings import Settings

    raise_file_limit()
    settings = Settings(state=tmp_path / "state", headers_s=2.0)
    app = create_app(ArchivePool({"north": served / "north"}, lambda name: ColourWords()), settings)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, **transport_options(settings)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(timeout=10)


def health(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return line.recv(200)


def test_health_answers_under_1500_half_open_connections(listening: int) -> None:
    lines = []
    for _ in range(1500):
        line = socket.create_connection(("127.0.0.1", listening), timeout=5)
        line.sendall(b"GET /search HTTP/1.1\r\nHost: x\r\n")
        lines.append(line)
    before = time.monotonic()
    assert health(listening).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - before < 5
    time.sleep(2.5)
    lines[-1].settimeout(2)
    with contextlib.suppress(ConnectionResetError):
        assert lines[-1].recv(10) == b""  # the deadline for headers has passed
    for line in lines:
        line.close()


@linux
def test_mutated_rasters_and_bombs_end_in_an_answer(client: Client, laid: Trap, tmp_path: Path) -> None:
    """A small run of benchmarks/hostile.py."""
    from random import Random

    from bombs import many_bands, png

    rng = Random(13)
    made = [build(form, tmp_path / form[:3], laid.aims).read_bytes() for form in ("tag: raster", "jp2: crs by address")]
    for number, bomb in enumerate((many_bands, png)):
        bomb(tmp_path / f"bomb-{number}.tif")
        made.append((tmp_path / f"bomb-{number}.tif").read_bytes())
    laid.sprung()
    for number in range(40):
        content = bytearray(made[number % len(made)])
        for _ in range(number // len(made)):
            content[rng.randrange(min(len(content), 2048))] = rng.randrange(256)
        assert client.post("/pictures", files={"file": ("x.tif", bytes(content))}).status_code in (200, 413, 422)
    assert laid.sprung() == []
