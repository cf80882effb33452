"""Pictures, tiles, uploads, jobs and operation."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from colour_world import COLOURS, GRID, ColourWords, paint
from fastapi.testclient import TestClient
from PIL import Image
from rasterio.warp import transform

from geoglot.archive.archive import Archive
from geoglot.archive.ingest import ingest
from geoglot.imagery.reach import Reach
from geoglot.server.jobs import JobBoard
from geoglot.server.middleware import Pace
from geoglot.tasks.classify import probabilities
from geoglot.tasks.registry import TASKS

Serve = Callable[..., TestClient]


def picture(reply: Any) -> np.ndarray:
    assert reply.status_code == 200, reply.text
    return np.asarray(Image.open(io.BytesIO(reply.content)).convert("RGBA"))


def coast(client: TestClient) -> dict[str, Any]:
    scenes = client.get("/collections/north/scenes").json()["features"]
    return next(scene for scene in scenes if scene["properties"]["title"] == "coast.tif")


def test_chips_in_full_resolution_are_the_scenes_pixels(client: TestClient, served: Path) -> None:
    found = client.get("/search", params={"limit": 100}).json()["features"]
    item = next(item for item in found if item["properties"]["title"] == "coast.tif")
    x0, y0, x1, y1 = item["properties"]["geoglot:box_px"]
    with rasterio.open(served / "north-scenes" / "coast.tif") as data:
        pixels = data.read()[:, y0:y1, x0:x1].transpose(1, 2, 0)
    shown = picture(client.get(item["assets"]["picture"]["href"]))
    assert np.array_equal(shown[..., :3], pixels)
    small = picture(client.get(item["assets"]["thumbnail"]["href"], params={"side": 16}))
    assert small.shape == (16, 16, 4)


def test_tilejson_and_its_tiles_agree_with_the_scene(client: TestClient, served: Path) -> None:
    scene = coast(client)
    layer = client.get(next(link["href"] for link in scene["links"] if link["rel"] == "tilejson")).json()
    assert layer["tilejson"] == "3.0.0"
    zoom = layer["maxzoom"]
    assert layer["minzoom"] <= zoom
    west, south, east, north = layer["bounds"]
    with rasterio.open(served / "north-scenes" / "coast.tif") as data:
        bounds, crs = data.bounds, data.crs
    corners = transform(crs, "EPSG:4326", [bounds.left, bounds.right], [bounds.bottom, bounds.top])
    assert [west, east] == pytest.approx(corners[0], abs=1e-3)
    assert [south, north] == pytest.approx(corners[1], abs=1e-3)
    quarters = {"water": (0.25, 0.75), "forest": (0.25, 0.25), "desert": (0.75, 0.25)}
    for name, (across, up) in quarters.items():  # each quarter's middle, looked up as a map does
        lon, lat = west + across * (east - west), south + up * (north - south)
        x = (lon + 180) / 360 * 2**zoom
        y = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom
        url = layer["tiles"][0].format(z=zoom, x=int(x), y=int(y))
        tile = picture(client.get(url))
        assert tile.shape == (256, 256, 4)
        assert tuple(tile[int(y % 1 * 256), int(x % 1 * 256)]) == (*COLOURS[name], 255)


def test_heat_is_hot_where_the_colour_is(client: TestClient) -> None:
    layer = client.get("/collections/north/heat/tilejson.json", params={"q": "water", "scene": "coast.tif"}).json()
    west, south, east, north = layer["bounds"]
    zoom = 13

    def alpha(lon: float, lat: float) -> int:
        x = (lon + 180) / 360 * 2**zoom
        y = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom
        tile = picture(client.get(layer["tiles"][0].format(z=zoom, x=int(x), y=int(y))))
        return int(tile[int(y % 1 * 256), int(x % 1 * 256), 3])

    scene = coast(client)
    west, south, east, north = scene["bbox"]
    wet = alpha(west + 0.25 * (east - west), south + 0.9 * (north - south))
    dry = alpha(west + 0.75 * (east - west), south + 0.1 * (north - south))
    assert wet > dry
    assert client.get("/collections/north/heat/tilejson.json").status_code == 400


def uploaded(client: TestClient, colour: str) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), COLOURS[colour]).save(stream, "PNG")
    reply = client.post("/pictures", files={"file": ("a.png", stream.getvalue())})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["picture"])


def test_an_uploaded_picture_is_searched_with_on_any_server(client: TestClient, serve: Serve) -> None:
    token = uploaded(client, "desert")
    want = client.get("/search", params={"q": "desert", "all": True}).json()["features"]
    for server in (client, serve()):
        found = server.get("/search", params={"image": token, "all": True}).json()["features"]
        assert [i["id"] for i in found] == [i["id"] for i in want]
    signed = client.get("/search", params={"q": f'image:{token} - "water"', "all": True})
    assert signed.json()["features"][0]["properties"]["geoglot:score"] > 0.5
    classified = client.post(
        "/tasks/classify", json={"collection": "north", "labels": ["water", "desert"], "picture": token}
    )
    assert classified.json()["labels"][0]["label"] == "desert"


def test_probabilities_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    chips, labels = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    for row, chip in zip(probabilities(chips, labels, 7.0), chips, strict=True):
        odds = [np.exp(7.0 * float(np.dot(chip.astype(float), label.astype(float)))) for label in labels]
        assert row == pytest.approx([value / sum(odds) for value in odds])


def ended(client: TestClient, href: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (job := client.get(href).json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dict(job)


def test_every_task_is_told_and_every_job_leaves_files(client: TestClient) -> None:
    listed = client.get("/tasks").json()["tasks"]
    assert [task["name"] for task in listed] == list(TASKS)
    bodies = {
        "classify-area": {"labels": ["water", "forest", "desert", "roof"], "longest_px": 128},
        "export": {"q": "water", "format": "parquet", "all": True},
        "heat": {"q": "water", "scene": ["coast.tif"], "longest_px": 64},
        "localize": {"scene": "coast.tif", "text": ["water"], "sides_px": "32,64"},
    }
    for name, body in bodies.items():
        reply = client.post(f"/tasks/{name}", json={"collection": "north", **body})
        assert reply.status_code == 202, reply.text
        job = ended(client, reply.headers["location"])
        assert (job["state"], job["progress"], job["problem"]) == ("done", 1.0, None)
        assert job["files"]
        for file in job["files"]:
            content = client.get(file["href"])
            assert len(content.content) == file["bytes"]
            assert content.headers["content-type"].split(";")[0] == file["type"]
        with client.stream("GET", f"/jobs/{job['id']}/events") as events:
            lines = [line for line in events.iter_lines() if line]
        assert lines[0] == "event: job"
        assert json.loads(lines[1].removeprefix("data: "))["state"] == "done"


def test_the_class_map_shows_the_scenes_quarters(client: TestClient, tmp_path: Path) -> None:
    labels = ["water", "forest", "desert", "roof"]
    body = {"collection": "north", "labels": labels, "scene": ["coast.tif"], "longest_px": 256}
    job = ended(client, client.post("/tasks/classify-area", json=body).headers["location"])
    files = {file["name"]: file for file in job["files"]}
    (tmp_path / "classes.tif").write_bytes(client.get(files["classes.tif"]["href"]).content)
    with rasterio.open(tmp_path / "classes.tif") as data:
        classes = data.read(1)
        assert json.loads(data.tags()["GEOGLOT_LABELS"]) == labels
    high, wide = classes.shape
    spots = {"water": (0.25, 0.25), "forest": (0.75, 0.25), "desert": (0.75, 0.75)}
    assert {n: labels[classes[int(y * high), int(x * wide)]] for n, (y, x) in spots.items()} == {n: n for n in spots}
    places = client.get(files["chips.geojson"]["href"]).json()["features"]
    assert {place["properties"]["label"] for place in places} == {"water", "forest", "desert"}
    layer = client.get(files["classes.tif"]["tilejson"]).json()
    west, south, east, north = layer["bounds"]
    x = ((west + east) / 2 + 180) / 360 * 2**12
    y = (1 - np.arcsinh(np.tan(np.radians((south + north) / 2))) / np.pi) / 2 * 2**12
    assert picture(client.get(layer["tiles"][0].format(z=12, x=int(x), y=int(y))))[..., 3].max() == 255


def test_a_localized_sentence_is_a_layer_that_is_hot_where_it_holds(client: TestClient) -> None:
    body = {"collection": "north", "scene": "coast.tif", "text": ["desert", "water"], "sides_px": "32,64"}
    job = ended(client, client.post("/tasks/localize", json=body).headers["location"])
    assert job["state"] == "done", job["problem"]
    file = next(file for file in job["files"] if file["name"] == "heat.tif")
    layers = [client.get(file["tilejson"], params={"band": band}).json() for band in (1, 2)]
    assert [layer["name"] for layer in layers] == ["desert", "water"]
    west, south, east, north = layers[0]["bounds"]

    def alpha(layer: Any, across: float, down: float) -> int:
        z = layer["maxzoom"]
        lon, lat = west + across * (east - west), north - down * (north - south)
        x = (lon + 180) / 360 * 2**z
        y = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**z
        pixels = picture(client.get(layer["tiles"][0].format(z=z, x=int(x), y=int(y))))
        return int(pixels[int(y % 1 * 256), int(x % 1 * 256), 3])

    # Quarters: water, water / forest, desert.
    assert alpha(layers[0], 0.75, 0.75) > 200 > 100 > alpha(layers[0], 0.25, 0.25)
    assert alpha(layers[1], 0.5, 0.2) > 200 > 100 > alpha(layers[1], 0.75, 0.85)
    assert client.get(file["tilejson"], params={"band": 3}).status_code == 404
    regions = next(file for file in job["files"] if file["name"] == "regions.geojson")
    assert client.get(regions["href"]).json()["features"]


def test_a_result_without_a_place_is_no_layer(client: TestClient) -> None:
    body = {"collection": "north", "scene": "plain.png", "text": ["water"], "sides_px": "32,64"}
    job = ended(client, client.post("/tasks/localize", json=body).headers["location"])
    assert job["state"] == "done", job["problem"]
    file = next(file for file in job["files"] if file["name"] == "heat.tif")
    reply = client.get(file["tilejson"])
    assert reply.status_code == 404
    assert "no georeference" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("localize", {"scene": "one.tif", "text": ["water"]}),
        ("segment", {"classes": ["water", "roof"]}),
        ("export", {"q": "water", "point": 3}),
    ],
)
def test_tasks_open_only_scenes_within_reach(serve: Serve, tmp_path: Path, task: str, body: dict[str, Any]) -> None:
    (tmp_path / "scenes").mkdir()
    paint(tmp_path / "scenes" / "one.tif", ("water", "roof", "forest", "desert"))
    ingest(tmp_path / "archive", tmp_path / "scenes", ColourWords(), GRID)
    api = serve({"one": tmp_path / "archive"}, reach=Reach((tmp_path / "archive",)))
    reply = api.post(f"/tasks/{task}", json={"collection": "one", **body})
    assert reply.status_code == 403
    assert "outside" in reply.json()["detail"]


def test_a_job_that_cannot_be_done_says_why(client: TestClient) -> None:
    reply = client.post("/tasks/export", json={"collection": "north", "q": "zebra"})
    job = ended(client, reply.headers["location"])
    assert job["state"] == "failed"
    assert job["problem"]["status"] == 400
    assert client.get(f"/jobs/{job['id']}/files/result.geojson").status_code == 404
    assert client.delete(f"/jobs/{job['id']}").status_code == 204
    assert client.get(f"/jobs/{job['id']}").status_code == 404


def board(folder: Path, run: Any, **changes: Any) -> JobBoard:
    return JobBoard(folder, run, **{"threads": 1, "most": 3, "job_s": 60.0, "keep_s": 60.0, **changes})


def slow(task: str, collection: str, body: Any, folder: Path, report: Any) -> None:
    for step in range(2000):
        report(step / 2000, f"step {step}")
        time.sleep(0.01)


def reaches(jobs: JobBoard, job_id: str, *states: str) -> None:
    deadline = time.monotonic() + 20
    while jobs.get(job_id, "").state not in states:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_jobs_are_cancelled_and_too_many_refused(tmp_path: Path) -> None:
    from geoglot.errors import NotDoneError, NotThereError, TooManyError

    jobs = board(tmp_path, slow)
    first, second, third = (jobs.submit("t", "c", {}, "") for _ in range(3))
    with pytest.raises(TooManyError):
        jobs.submit("t", "c", {}, "")
    reaches(jobs, first.id, "running")
    with pytest.raises(NotDoneError):
        jobs.file(jobs.get(first.id, ""), "x")
    with pytest.raises(NotThereError):
        jobs.get(first.id, "somebody else")
    jobs.remove(second.id, "")
    assert jobs.get(second.id, "").state == "cancelled"
    jobs.remove(first.id, "")
    reaches(jobs, first.id, "cancelled")
    reaches(jobs, third.id, "running")
    jobs.close()


def test_a_job_that_takes_too_long_fails(tmp_path: Path) -> None:
    jobs = board(tmp_path, slow, job_s=0.1)
    job = jobs.submit("t", "c", {}, "")
    reaches(jobs, job.id, "failed")
    assert (jobs.get(job.id, "").problem or {})["status"] == 504
    jobs.close()


def test_expired_jobs_are_told_as_such(serve: Serve) -> None:
    api = serve(job_keep_s=-1.0)
    href = api.post("/tasks/heat", json={"collection": "north", "q": "water"}).headers["location"]
    ended(api, href)
    api.app.state.context.board.tidy()  # type: ignore[attr-defined]
    reply = api.get(href)
    assert reply.status_code == 410
    assert reply.json()["hint"]


CRASH = """
import os, sys, threading, time
from pathlib import Path
from geoglot.server.jobs import JobBoard

submitted = threading.Event()

def run(task, collection, body, folder, report):
    (folder / "half.txt").write_text("half")
    if task == "quick":
        return
    submitted.wait()
    print("working", flush=True)
    time.sleep(60)

board = JobBoard(Path(sys.argv[1]), run, threads=1, most=9, job_s=600, keep_s=600)
quick = board.submit("quick", "c", {"a": 1}, "")
while board.get(quick.id, "").state != "done":
    time.sleep(0.01)
board.submit("long", "c", {"b": 2}, "")
board.submit("waits", "c", {"c": 3}, "")
submitted.set()
time.sleep(60)
"""


def test_kill_nine_loses_no_job(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", CRASH, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()

    def run(task: str, collection: str, body: Any, folder: Path, report: Any) -> None:
        assert list(folder.iterdir()) == []  # nothing of the first attempt is left
        (folder / "whole.txt").write_text(json.dumps(body))

    jobs = board(tmp_path, run)
    by_task = {job.task: job for job in jobs.list("")}
    assert set(by_task) == {"quick", "long", "waits"}
    for name, file in (("quick", "half.txt"), ("long", "whole.txt"), ("waits", "whole.txt")):
        reaches(jobs, by_task[name].id, "done")
        assert [path.name for path in jobs.files(jobs.get(by_task[name].id, ""))] == [file]
    jobs.close()


def test_two_servers_do_not_share_a_state_folder(tmp_path: Path) -> None:
    from geoglot.errors import StorageError

    jobs = board(tmp_path, slow)
    with pytest.raises(StorageError, match="another server"):
        board(tmp_path, slow)
    jobs.close()
    board(tmp_path, slow).close()


def test_a_growing_archive_is_followed_and_pages_stay_on_one_state(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    paint(tmp_path / "scenes" / "one.tif", ("water", "roof", "forest", "desert"))
    ingest(tmp_path / "archive", tmp_path / "scenes", ColourWords(), GRID)
    api = serve({"one": tmp_path / "archive"})
    first = api.get("/search", params={"q": "water", "limit": 1, "all": True, "merge": False}).json()
    before = api.get("/search").json()["numberMatched"]
    paint(tmp_path / "scenes" / "second.tif", ("water", "water", "water", "water"))
    ingest(tmp_path / "archive", tmp_path / "scenes", ColourWords(), GRID)
    deadline = time.monotonic() + 20
    while api.get("/search").json()["numberMatched"] == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    seen = [first["features"][0]["id"]]
    while following := next((link["href"] for link in first["links"] if link["rel"] == "next"), None):
        first = api.get(following).json()
        assert first["geoglot:search"]["moved_on"] is False
        seen += [item["id"] for item in first["features"]]
    assert len(seen) == len(set(seen)) == before


def test_what_draws_tiles_is_imported_before_the_first_request() -> None:
    """Its modules import each other in a ring: two requests that import it at once would see it half made."""
    script = """
import sys
from pathlib import Path
from geoglot.server.app import create_app
from geoglot.server.settings import Settings
from geoglot.server.archives import ArchivePool
create_app(ArchivePool({}), Settings(state=Path(sys.argv[1])))
assert hasattr(sys.modules["rio_tiler.io"], "Reader")
"""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", script, folder], check=True, timeout=300)


def test_operation(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json()["collections"] == {"north": "ok", "south": "ok"}
    client.get("/collections/north")
    text = client.get("/metrics").text
    assert 'geoglot_requests_total{method="GET",route="/collections/{collection}",status="200"}' in text
    assert 'geoglot_archive_usable{collection="north"} 1.0' in text
    api = client.get("/api").json()
    assert api["openapi"].startswith("3.1")
    assert "/search" in client.get("/api.html").text
    assert "http" not in client.get("/api.html").text.replace("http://testserver", "").split("<h1>")[0]


def test_the_pace_recovers() -> None:
    pace = Pace(60)
    assert [pace.take("a", 0.0) == 0 for _ in range(61)] == [True] * 60 + [False]
    assert pace.take("a", 0.5) == pytest.approx(0.5)
    assert pace.take("a", 1.01) == 0


def test_the_task_command_runs_the_registry(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from geoglot.cli.app import app

    monkeypatch.setattr("geoglot.models.load.load_encoder", lambda *_, **__: ColourWords())
    archive = str(served / "north")
    out = tmp_path / "out"
    words = ["task", "export", "-a", archive, "--q", "water", "--format", "csv", "--no-merge", "-o", str(out)]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert (out / "result.csv").read_text().count("\n") > 1
    chip = Archive.open(archive).list_chips(limit=1).chips[0][0].chip_id
    words = ["task", "classify", "-a", archive, "--chip", chip, "--labels", "water", "--labels", "roof"]
    answer = CliRunner().invoke(app, words, catch_exceptions=False)
    assert len(json.loads(answer.stdout)["labels"]) == 2


def test_an_archive_around_the_earth_becomes_a_map_of_the_whole_round(tmp_path: Path) -> None:
    from geoglot.tasks.classify_area import AreaRequest, _frame

    class Around:
        boxes = np.array([[-179.0, -5.0, -178.0, 5.0], [178.0, -5.0, 179.0, 5.0], [0.0, 0.0, np.nan, np.nan]]).T

    Around.boxes[:, 2] = np.nan
    frame = _frame(Around(), AreaRequest(labels=("a", "b"), longest_px=64))  # type: ignore[arg-type]
    assert frame.bbox_lonlat.lonlat == pytest.approx((-180, -5, 180, 5))
    assert (frame.width, frame.height) == (64, 2)
