"""Query and filter are declared once: a filter added to the declaration alone stands at every door, and is applied."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geoglot.archive.request import FilterRequest, SearchRequest
from geoglot.errors import UsageError
from geoglot.types import Bbox, TimeRange

TESTS = Path(__file__).resolve().parents[1]

WITH_A_FIELD_MORE = """
import json, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import geoglot.archive

path = Path(geoglot.archive.__file__).with_name("request.py")
head = "class FilterRequest:"
field = '''
    coarser_than: float | None = option(
        "only scenes coarser than so many metres", keeps=lambda metres, snapshot: snapshot.arrays.gsd_m > metres
    )
'''
source = path.read_text("utf-8")
at = source.index("    bbox:", source.index(head))
module = module_from_spec(spec_from_file_location("geoglot.archive.request", path))
sys.modules["geoglot.archive.request"] = geoglot.archive.request = module
exec(compile(source[:at] + field.lstrip("\\n") + source[at:], str(path), "exec"), module.__dict__)

sys.path.insert(0, sys.argv[1])
from colour_world import GRID, ColourWords, Shell, paint
from fastapi.testclient import TestClient

import geoglot.models.load
from geoglot.archive.ingest import ingest
from geoglot.server.app import create_app
from geoglot.server.archives import ArchivePool
from geoglot.server.settings import Settings

geoglot.models.load.load_encoder = lambda *_, **__: ColourWords()
paint(Path("placed.tif"), ("water", "forest", "desert", "roof"))
paint(Path("plain.png"), ("water", "forest", "desert", "roof"), placed=False)
ingest(Path("a"), Path(), ColourWords(), GRID)
shell, said = Shell(), {}
for words in (["search"], ["task", "export"], ["task", "segment"]):
    said["help of " + " ".join(words)] = shell(*words, "--help").stdout
for name, more in (("search", []), ("search with it", ["--coarser-than", "0"])):
    answer = json.loads(shell(*"search water --archive a --format json --all --limit 100".split(), *more).stdout)
    said[name] = sorted({match["scene"] for match in answer["matches"]})
shell(*"task export --archive a --q water --all --format json --coarser-than 0 --output out".split())
said["task"] = sorted({match["scene"] for match in json.loads(Path("out/result.json").read_text("utf-8"))["matches"]})
pool = ArchivePool({"a": Path("a")}, lambda name: ColourWords())
with TestClient(create_app(pool, Settings(state=Path("s")))) as http:
    api, tasks = http.get("/api").json(), http.get("/tasks").json()
    get = {one["name"]: one["description"] for one in api["paths"]["/search"]["get"]["parameters"]}
    body = api["paths"]["/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    said["GET"] = get["coarser_than"]
    said["POST"] = api["components"]["schemas"][body.rpartition("/")[2]]["properties"]["coarser_than"]["description"]
    said["bodies"] = [one["name"] for one in tasks["tasks"] if "coarser_than" in one["body"]["properties"]]
    for name, reply in {
        "asked by GET": http.get("/search?q=water&all=true&coarser_than=0&limit=100"),
        "asked by POST": http.post("/search", json={"q": "water", "all": True, "coarser_than": 0, "limit": 100}),
        "listed": http.get("/search?coarser_than=0&limit=100"),
        "all": http.get("/search?limit=100"),
    }.items():
        links = [link for item in reply.json()["features"] for link in item["links"]]
        said[name] = sorted({link["title"] for link in links if link["rel"] == "scene"})
    said["refused"] = http.get("/search?coarser_than=x").status_code
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a geoglot says whose request.py has one field more and that is otherwise this one."""
    done = subprocess.run(
        [sys.executable, "-c", WITH_A_FIELD_MORE, str(TESTS / "cli")],
        cwd=tmp_path_factory.mktemp("toy"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_new_filter_is_explained_at_every_door(said: dict[str, Any]) -> None:
    for command in ("search", "task export", "task segment"):
        assert "--coarser-than" in said[f"help of {command}"]
        assert "Only scenes coarser than so many metres." in said[f"help of {command}"]
    assert said["GET"] == said["POST"] == "Only scenes coarser than so many metres."
    assert said["bodies"] == ["classify-area", "export", "heat", "segment"]


def test_a_new_filter_is_applied_at_every_door(said: dict[str, Any]) -> None:
    assert said["search"] == said["all"] == ["placed.tif", "plain.png"]
    for door in ("search with it", "task", "asked by GET", "asked by POST", "listed"):
        assert said[door] == ["placed.tif"], door
    assert said["refused"] == 400


def test_the_filter_of_plain_values() -> None:
    request = FilterRequest(
        bbox=(1, 2, 3, 4), datetime="2019-01-01T00:00:00Z/..", gsd_min=0.5, sensor=("S2",), scene=("a*",)
    )
    made = request.filter()
    assert made.bbox == Bbox(1.0, 2.0, 3.0, 4.0)
    assert made.gsd_m == (0.5, float("inf"))
    assert made.time == TimeRange.parse("2019-01-01", None)
    assert (made.sensors, made.scenes, made.chips, made.conditions) == (("S2",), ("a*",), None, ())
    with pytest.raises(UsageError, match="given together"):
        FilterRequest(bbox=(1, 2, 3, 4), intersects={"type": "Point", "coordinates": [0, 0]}).filter()


def test_a_question_of_spaces_is_none() -> None:
    assert not SearchRequest(q="  ").has_question
    assert SearchRequest(like=("a",)).has_question
