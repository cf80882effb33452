"""The contact sheet and the map page: what they hold, and what they do without."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from geoglot.archive.map_page import Question, write_map_page
from geoglot.archive.pictures import Section, contact_sheet, latin, thumbnail
from geoglot.errors import StorageError, UsageError
from geoglot.imagery.scene import open_scene
from geoglot.types import Match, Window

RED, BLUE = (200, 30, 20), (10, 40, 210)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Left half red, right half blue, 100 x 50 px at 10 m."""
    pixels = np.empty((3, 50, 100), np.uint8)
    pixels[:, :, :50], pixels[:, :, 50:] = np.array(RED)[:, None, None], np.array(BLUE)[:, None, None]
    path = tmp_path / "halves <b>.tif"
    place = {"crs": "EPSG:32636", "transform": from_origin(5e5, 1e5, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", width=100, height=50, count=3, dtype="uint8", **place) as out:
        out.write(pixels)
    return path


def match_of(path: Path, window: Window, rank: int = 1) -> Match:
    with open_scene(path) as opened:
        return Match(rank, 0.3, 0.9, opened.chip(window), opened.info)


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text("utf-8"), re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_a_thumbnail_shows_its_window(scene: Path) -> None:
    with open_scene(scene) as opened:
        left, whole = thumbnail(opened, Window(0, 0, 50, 50), 20), thumbnail(opened, Window(0, 0, 100, 50), 40)
    assert (left.size, whole.size) == ((20, 20), (40, 20))
    assert left.getpixel((10, 10)) == (*RED, 255)
    assert whole.getpixel((35, 10)) == (*BLUE, 255)


def test_the_sheet_holds_every_chip(scene: Path, tmp_path: Path) -> None:
    matches = [match_of(scene, Window(0, 0, 50, 50)), match_of(scene, Window(50, 0, 100, 50), 2)]
    out = tmp_path / "sheet.png"
    assert contact_sheet(out, [Section("red", matches), Section("储油罐", [])], side_px=100) == ()
    colours = {colour for _, colour in Image.open(out).getcolors(1 << 24)}
    assert {RED, BLUE} <= colours


def test_a_scene_that_is_gone_is_named_and_framed(scene: Path, tmp_path: Path) -> None:
    match = match_of(scene, Window(0, 0, 50, 50))
    gone = replace(match, scene=replace(match.scene, uri=str(tmp_path / "gone.tif"), name="gone.tif"))
    assert [u.scene for u in contact_sheet(tmp_path / "sheet.png", [Section("x", [gone])])] == ["gone.tif"]
    assert {u.scene for u in write_map_page(tmp_path / "map.html", [Question("x", [gone])])} == {"gone.tif"}
    data = data_of(tmp_path / "map.html")
    assert data["questions"][0]["matches"][0]["image"] is None
    assert data["scenes"][0]["rings"]


def test_a_scene_that_has_another_size_now_is_named(scene: Path, tmp_path: Path) -> None:
    match = match_of(scene, Window(50, 0, 100, 50))
    with rasterio.open(scene, "w", driver="GTiff", width=20, height=20, count=3, dtype="uint8") as out:
        out.write(np.ones((3, 20, 20), np.uint8))
    (unread,) = contact_sheet(tmp_path / "sheet.png", [Section("x", [match])])
    assert "100 x 50 pixels when it was indexed" in unread.reason
    assert write_map_page(tmp_path / "map.html", [Question("x", [match])])


def test_the_page_holds_questions_scenes_and_chips(scene: Path, tmp_path: Path) -> None:
    match, out = match_of(scene, Window(0, 0, 50, 50)), tmp_path / "map.html"
    assert write_map_page(out, [Question("储油罐 </script>", [match], language="zh")], note="synthetic imagery") == ()
    data = data_of(out)
    assert data["questions"][0]["text"] == "储油罐 </script>"
    picture = Image.open(io.BytesIO(base64.b64decode(data["questions"][0]["matches"][0]["image"].partition(",")[2])))
    assert np.abs(np.subtract(picture.convert("RGB").getpixel((96, 96)), RED)).max() < 12
    (top_left, top_right, bottom_left), box = data["scenes"][0]["corners"], match.scene.bbox_lonlat
    assert box
    assert top_left[0] < top_right[0]
    assert top_left[1] > bottom_left[1]
    assert top_left == pytest.approx((box.west, box.north), abs=1e-4)


def test_the_page_needs_no_network(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.html"
    write_map_page(out, [Question("x", [match_of(scene, Window(0, 0, 50, 50))])])
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?https?:|@import|url\(", out.read_text("utf-8"))
    assert "default-src 'none'" in out.read_text("utf-8")


def test_what_cannot_be_written_is_told(scene: Path, tmp_path: Path) -> None:
    sections = [Section("x", [match_of(scene, Window(0, 0, 50, 50))])]
    with pytest.raises(UsageError, match="not a picture's name"):
        contact_sheet(tmp_path / "out.xyz", sections)
    with pytest.raises(StorageError, match="cannot write"):
        contact_sheet(tmp_path / "nowhere" / "out.png", sections)
    with pytest.raises(StorageError, match="cannot write"):
        write_map_page(tmp_path / "nowhere" / "map.html", [])


@pytest.mark.parametrize(("text", "drawn"), [("río", "rio"), ("储油罐", ""), ("мост", ""), ("plain", "plain")])
def test_titles_the_font_lacks_are_left_out(text: str, drawn: str) -> None:
    assert latin(text) == drawn
