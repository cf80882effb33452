"""`geoglot search`: answers in every format, filters, and what wrong use gets."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from colour_world import ColourWords, Shell
from PIL import Image

from geoglot.archive.archive import Archive

KEYS = ["rank", "score", "confidence", "scene", "uri", "box_px", "bbox_lonlat", "footprint", "acquired", "sensor"]
KEYS += ["gsd_m", "chip_id", "ground_m", "merged"]


def answer(shell: Shell, *words: str | Path) -> dict[str, Any]:
    done = shell(*words, "--format", "json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_search_is_the_default_verb(shell: Shell) -> None:
    plain, named = answer(shell, "water"), answer(shell, "search", "water")
    first = answer(shell, "--limit", "20", "water")
    assert plain["matches"] == named["matches"] == first["matches"]
    assert plain["matches"][0]["scene"] == "coast.tif"


def test_words_need_no_quotes(shell: Shell) -> None:
    assert answer(shell, "blue", "water")["query"] == "blue water"


def test_json_is_what_the_archive_answers(shell: Shell, world: Path) -> None:
    found = answer(shell, "water", "--limit", "3")
    assert set(found) == {"query", "nothing_matches", "calibrated", "total", "path", "elapsed_s", "matches"}
    assert all(list(match) == KEYS for match in found["matches"])
    expected = Archive.open(world / ".geoglot", ColourWords()).search("water", limit=3)
    assert [m["chip_id"] for m in found["matches"]] == [m.chip.chip_id for m in expected.matches]
    assert [m["score"] for m in found["matches"]] == pytest.approx([m.score for m in expected.matches], abs=1e-6)
    assert found["total"] == expected.total


def test_all_formats_agree(shell: Shell, tmp_path: Path) -> None:
    matches = answer(shell, "roof")["matches"]
    ids = [match["chip_id"] for match in matches]
    collection = json.loads(shell("roof", "-f", "geojson").stdout)
    rows = list(csv.DictReader(io.StringIO(shell("roof", "-f", "csv").stdout)))
    assert shell("roof", "-o", tmp_path / "Straße 1.parquet").exit_code == 0
    table = pq.read_table(tmp_path / "Straße 1.parquet")
    assert [f["properties"]["chip_id"] for f in collection["features"]] == ids
    assert [row["chip_id"] for row in rows] == table["chip_id"].to_pylist() == ids
    for match, feature, row, wkb in zip(
        matches, collection["features"], rows, table["geometry"].to_pylist(), strict=True
    ):
        if match["footprint"] is None:
            assert (feature["geometry"], row["footprint_wkt"], wkb) == (None, "", None)
            continue
        shape = shapely.geometry.shape(match["footprint"])
        assert shape.is_valid
        for other in (
            shapely.geometry.shape(feature["geometry"]),
            shapely.from_wkt(row["footprint_wkt"]),
            shapely.from_wkb(wkb),
        ):
            assert shapely.hausdorff_distance(shape, other) < 1e-8
        assert shape.bounds == pytest.approx(match["bbox_lonlat"], abs=1e-9)


def test_geojson_properties_are_flat_and_missing_places_are_told(shell: Shell) -> None:
    done = shell("roof", "-f", "geojson")
    collection = json.loads(done.stdout)
    for feature in collection["features"]:
        assert all(value is None or isinstance(value, (str, int, float)) for value in feature["properties"].values())
    nowhere = sum(feature["geometry"] is None for feature in collection["features"])
    assert nowhere
    assert f"{nowhere} of {len(collection['features'])} places have no position" in done.stderr


def test_parquet_says_where_its_geometry_is(shell: Shell) -> None:
    done = shell("roof", "-f", "parquet")
    table = pq.read_table(io.BytesIO(done.stdout_bytes))
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["columns"][geo["primary_column"]]["encoding"] == "WKB"
    empty = pq.read_table(io.BytesIO(shell("roof", "-f", "parquet", "--since", "2050").stdout_bytes))
    assert empty.num_rows == 0
    assert empty.schema.equals(table.schema, check_metadata=False)


def test_table_fits_80_columns_and_notes_go_to_stderr(shell: Shell) -> None:
    done = shell("water")
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "coast.tif" in done.stdout
    assert "searched" in done.stderr
    assert "searched" not in done.stdout
    assert "(" not in done.stdout  # no tuple, no repr


def test_filters_reach_the_archive(shell: Shell, world: Path, tmp_path: Path) -> None:
    def scenes(*words: str | Path) -> set[str]:
        return {match["scene"] for match in answer(shell, "forest", "--all", *words)["matches"]}

    assert scenes() == {"coast.tif", "town_été.tif", "plain.png"}
    assert scenes("--since", "2020") == {"town_été.tif"}
    assert scenes("--until", "2019") == {"coast.tif"}
    assert scenes("--scene", "coast.tif", "--scene", "pl*") == {"coast.tif", "plain.png"}
    assert scenes("--gsd-max", "20") == {"coast.tif", "town_été.tif"}
    assert scenes("--gsd-min", "20") == set()
    place = answer(shell, "water", "--limit", "1")["matches"][0]
    box = [str(degrees) for degrees in place["bbox_lonlat"]]
    assert scenes("--bbox", *box) == {"coast.tif"}
    region = tmp_path / "mein Gebiet.geojson"
    region.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": place["footprint"]}))
    assert scenes("--within", region) == {"coast.tif"}


def test_pages_make_up_the_whole(shell: Shell) -> None:
    whole = answer(shell, "forest", "--no-merge", "--limit", "9")["matches"]
    parts = [answer(shell, "forest", "--no-merge", "--limit", "3", "--page", str(n))["matches"] for n in (1, 2, 3)]
    assert [m for part in parts for m in part] == whole
    assert answer(shell, "forest", "--no-merge", "--limit", "3", "--offset", "3")["matches"] == parts[1]


def test_more_like_a_chip_or_a_picture(shell: Shell, tmp_path: Path) -> None:
    best = answer(shell, "roof", "--limit", "1")["matches"][0]
    like = answer(shell, "--like", best["chip_id"], "--limit", "1")["matches"][0]
    assert like["score"] == pytest.approx(1.0, abs=1e-5)
    picture = tmp_path / "rotes Dach.png"
    Image.fromarray(np.full((32, 32, 3), (200, 40, 40), np.uint8)).save(picture)
    assert answer(shell, "--image", picture, "--limit", "1")["matches"][0]["scene"] in {"town_été.tif", "plain.png"}


def test_nothing_matches_is_said_plainly(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("roof", "--scene", "coast.tif")
    done = shell(*words)
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "Nothing matches. --all shows the nearest misses." in done.stderr
    found = answer(shell, *words)
    assert found["nothing_matches"] is True
    assert found["matches"] == []
    assert answer(shell, *words, "--all")["matches"]


def test_unlikely_places_can_be_left_out(shell: Shell) -> None:
    kept = answer(shell, "water", "--min-confidence", "0.5")["matches"]
    assert kept == [m for m in answer(shell, "water")["matches"] if m["confidence"] >= 0.5] != []


def test_pictures_are_drawn(shell: Shell, tmp_path: Path) -> None:
    done = shell("roof", "--preview", tmp_path / "out.png", "--map", tmp_path / "map.html")
    assert done.exit_code == 0
    assert Image.open(tmp_path / "out.png").width > 400
    assert "town_été.tif" in (tmp_path / "map.html").read_text("utf-8")


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no archive": (("water", "--archive", "nowhere"), "no archive at nowhere"),
    "unknown format": (("water", "--format", "geojsn"), "Did you mean 'geojson'?"),
    "latitudes swapped": (("water", "--bbox", "32", "1", "33", "-1"), "west south east north"),
    "longitude out of range": (("water", "--bbox", "32", "-1", "333", "1"), "[-180, 180]"),
    "dates reversed": (("water", "--since", "2020", "--until", "2019"), "Swap the two dates"),
    "not a date": (("water", "--since", "summer"), "not an ISO 8601 date"),
    "empty question": (("",), "query is empty"),
    "blank question": (("search", "   "), "query is empty"),
    "no question": (("search",), "nothing to search for"),
    "unknown words": (("xyzzy",), "is known to the model"),
    "page and offset": (("water", "--page", "2", "--offset", "3"), "Use one of them"),
    "unknown scene": (("water", "--scene", "cost.tif"), "coast.tif"),
    "unknown sensor": (("water", "--sensor", "sputnik"), "unknown sensor"),
    "gsd reversed": (("water", "--gsd-min", "9", "--gsd-max", "1"), "gsd_m range"),
    "no such region": (("water", "--within", "nowhere.geojson"), "cannot read 'nowhere.geojson'"),
    "no such chip": (("--like", "0-0-0-1-1"), "no chip"),
    "no such picture": (("--image", "nowhere.png"), "no picture"),
    "table into a file": (("water", "-f", "table", "-o", "x.txt"), "not written to a file"),
    "folder that is not there": (("water", "-o", "nowhere/x.csv"), "cannot write"),
    "file of no format": (("water", "-o", "x.gpkg"), "'x.gpkg' does not tell its format"),
    "sign at the end": (('"water" -',), "has nothing after it"),
    "preview of no kind": (("water", "--preview", "out.xyz"), "not a picture's name"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_explained(shell: Shell, case: str) -> None:
    words, expected = WRONG[case]
    done = shell(*words)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert "\nError: " in "\n" + done.stderr
    assert "\nHint:  " in done.stderr
    assert done.stdout == "" or case == "preview of no kind"  # the answer itself is printed before it is drawn


def test_a_folder_is_not_a_question(shell: Shell, world: Path) -> None:
    done = shell(world / "scenes")
    assert done.exit_code == 2
    assert "geoglot index" in done.stderr


@pytest.mark.parametrize("ending", ["", ".png"])
def test_a_question_may_be_longer_than_a_path(shell: Shell, ending: str) -> None:
    done = shell("water/" + "x" * 5000 + ending)
    assert done.exit_code == 2
    assert "Error: " in done.stderr


@pytest.mark.parametrize(
    "content",
    ["not json", "{}", "[]", '{"type": "Point", "coordinates": [1, 2]}', '{"type": "Polygon", "coordinates": 3}'],
)
def test_a_region_must_be_polygons(shell: Shell, tmp_path: Path, content: str) -> None:
    (tmp_path / "r.geojson").write_text(content)
    done = shell("water", "--within", "r.geojson")
    assert done.exit_code == 2
    assert "r.geojson" in done.stderr


@pytest.fixture
def uncalibrated(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The same model, for which nobody fitted a calibration; its vectors, so its fingerprint, are the same."""
    encoder = ColourWords()
    encoder.card = replace(encoder.card, calibrated=False, background=())
    monkeypatch.setattr("geoglot.models.load.load_encoder", lambda *_, **__: encoder)
    return shell


def test_without_calibration_nothing_is_called_likely(uncalibrated: Shell, tmp_path: Path) -> None:
    found = answer(uncalibrated, "water")
    assert found["calibrated"] is False
    assert found["nothing_matches"] is False
    assert {match["confidence"] for match in found["matches"]} == {None}
    scores = [match["score"] for match in found["matches"]]
    assert scores == sorted(scores, reverse=True)
    table = uncalibrated("water", "--preview", tmp_path / "a.png", "--map", tmp_path / "a.html")
    assert "Not calibrated for this model" in table.stderr
    assert "score" in table.stdout
    assert "conf." not in table.stdout
    assert '"confidence":null' in (tmp_path / "a.html").read_text("utf-8").replace(" ", "")
    rows = list(csv.DictReader(io.StringIO(uncalibrated("water", "-f", "csv").stdout)))
    assert {row["confidence"] for row in rows} == {""}
    refused = uncalibrated("water", "--min-confidence", "0.5")
    assert refused.exit_code == 2
    assert "no calibration" in refused.stderr


def test_calibration_changes_no_ranking(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    rated = answer(shell, "forest", "--all")["matches"]
    encoder = ColourWords()
    encoder.card = replace(encoder.card, calibrated=False, background=())
    monkeypatch.setattr("geoglot.models.load.load_encoder", lambda *_, **__: encoder)
    assert [match["chip_id"] for match in answer(shell, "forest")["matches"]] == [match["chip_id"] for match in rated]


@pytest.mark.parametrize("words", [("forest",), ("task", "classify", "--labels", "forest", "--labels", "water")])
def test_definitions_reach_the_model(shell: Shell, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    seen: list[Any] = []

    def load(name: str, *, definitions: Any = None) -> ColourWords:
        seen.append(definitions)
        return ColourWords()

    monkeypatch.setattr("geoglot.models.load.load_encoder", load)
    chip = answer(shell, "forest", "--limit", "1")["matches"][0]["chip_id"]
    picture = ("--chip", chip) if words[0] == "task" else ()
    done = shell(*words, *picture, "--definitions", "coarse")
    assert done.exit_code == 0, done.stderr
    assert seen == [None, "coarse"]
    assert shell(*words, "--definitions", "near").exit_code == 2
