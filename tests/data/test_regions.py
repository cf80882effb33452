"""Region readers: what is right comes out in one frame, what is wrong is refused or counted, never dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geoglot.data.regions import Region, RegionSource, open_regions
from geoglot.errors import GeoglotError, SampleError, SourceError, UnknownNameError, UsageError


def picture(file: Path, width: int = 100, height: int = 80) -> Path:
    """A plain picture on disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(file)
    return file


def coco(folder: Path, **changes: Any) -> Path:
    """A small COCO set; `changes` replace its lists."""
    picture(folder / "images" / "a.png")
    picture(folder / "images" / "b.png")
    raw = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 100, "height": 80, "split": "train"},
            {"id": 2, "file_name": "b.png", "split": "test"},
        ],
        "annotations": [
            {"id": 7, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40]},
            {"id": 8, "image_id": 1, "category_id": 5, "segmentation": [[0, 0, 4, 0, 4, 4], [50, 50, 70, 50, 70, 75]]},
        ],
        "categories": [{"id": 5, "name": "ship"}, {"id": 3, "name": " storage  tank "}],
    } | changes
    (folder / "instances.json").write_text(json.dumps(raw))
    return folder


def box(*xywh: float, category: int = 3, image: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": 9, "image_id": image, "category_id": category, "bbox": list(xywh), **more}


# --- schema --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [(5, 0, 5, 9), (9, 0, 5, 9), (0, 9, 5, 9), (0, 0, float("nan"), 9), (0, 0, 5, 1e999)])
def test_a_region_has_an_upright_finite_box(bad: tuple[float, float, float, float]) -> None:
    with pytest.raises(UsageError, match="box"):
        Region(bad, "ship")


def test_a_region_has_something_to_be_called() -> None:
    assert Region((0, 0, 2, 3), "", "a red roof").area_px == 6
    with pytest.raises(UsageError, match="neither a category nor a text"):
        Region((0, 0, 2, 3), "  ")
    with pytest.raises(UsageError, match="fewer than three points"):
        Region((0, 0, 2, 3), "ship", None, ((0, 0), (1, 1)))


@pytest.mark.parametrize(
    ("more", "said"),
    [({"layout": "coca"}, "layout 'coca'"), ({"bad": "drop"}, "refuse"), ({"texts": {"a": " "}}, "without text: a")],
)
def test_a_source_is_checked(more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        RegionSource(**({"path": "x", "layout": "coco"} | more))


# --- COCO ----------------------------------------------------------------------------------------


def test_coco(tmp_path: Path) -> None:
    found = open_regions(RegionSource("set", "coco", texts={"ship": "a large ship"}), coco(tmp_path / "set").parent)
    assert found.categories == ("ship", "storage tank")
    assert [len(found.record(i).regions) for i in range(len(found))] == [2, 0]
    tank, ship = found.record(0).regions
    assert tank == Region((10, 20, 40, 60), "storage tank")
    assert list(ship.box_px) == [0, 0, 70, 75]  # around both parts
    assert list(ship.rings[0]) == [(50, 50), (70, 50), (70, 75)]  # the larger part
    assert len(ship.further_px) == 1
    assert ship.text == "a large ship"
    assert (found.record(1).width, found.record(1).height) == (100, 80)  # from the file's header
    assert found.image(0).shape == (80, 100, 3)
    assert "image 1 a.png" in found.record(0).source


def test_coco_splits(tmp_path: Path) -> None:
    coco(tmp_path)
    found = open_regions(RegionSource("instances.json", "coco", "test"), tmp_path)
    assert [Path(r.image).name for r in found.records] == ["b.png"]
    with pytest.raises(UnknownNameError, match="split of instances"):
        open_regions(RegionSource("instances.json", "coco", "tset"), tmp_path)


def test_coco_in_its_own_folders(tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "instances.json").rename(tmp_path / "annotations" / "instances_val2017.json")
    assert len(open_regions(RegionSource(".", "coco", "val"), tmp_path)) == 2
    with pytest.raises(SourceError, match="no one COCO file"):
        open_regions(RegionSource(".", "coco", "train"), tmp_path)


BAD_BOXES = [
    (box(10, 10, -5, 5), "empty or inverted"),
    (box(10, 10, 0, 5), "empty or inverted"),
    (box(100, 10, 5, 5), "outside the image of 100 x 80"),
    (box(10, 10, 5), "a box of 3 values"),
    (box(10, 10, 5, float("nan")), "not finite"),
    (box(10, 10, 5, 10**400), "no list of numbers"),
    (box(10, 10, 5, 5, category=99), "category 99"),
    (box(10, 10, 5, 5, image=99), "image 99"),
    (box(10, 10, 5, 5) | {"bbox": "10 10 5 5"}, "no list of numbers"),
    (box(10, 10, 5, 5, segmentation=[[1, 2, 3]]), "no pairs"),
    (box(10, 10, 5, 5, segmentation=[[1, 2, 3, 4]]), "polygon of 2 points"),
    (box(10, 10, 5, 5, segmentation="x"), "neither polygons nor run-length"),
    ({"id": 9, "image_id": 1, "category_id": 3}, "neither a box nor a polygon"),
]


@pytest.mark.parametrize(("entry", "said"), BAD_BOXES, ids=[said for _, said in BAD_BOXES])
def test_bad_boxes_are_refused_or_counted(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    coco(tmp_path, annotations=[box(1, 2, 3, 4), entry])
    with pytest.raises(SourceError, match=said):
        open_regions(RegionSource(".", "coco"), tmp_path)
    found = open_regions(RegionSource(".", "coco", bad="skip"), tmp_path)
    assert len(found.record(0).regions) == 1
    assert len(found.skipped) == 1
    assert found.skipped[0][0] == "annotation 9"
    assert said in found.skipped[0][1]


def test_boxes_over_the_edge_are_cut_and_said(tmp_path: Path) -> None:
    coco(tmp_path, annotations=[box(-4, 70, 10, 20)])
    found = open_regions(RegionSource(".", "coco"), tmp_path)
    assert found.record(0).regions[0].box_px == (0, 70, 6, 80)
    assert found.notes == ("1 boxes cut at the image's edge",)


def test_crowds_and_run_length_code_are_counted(tmp_path: Path) -> None:
    code = {"counts": [3, 4], "size": [80, 100]}
    coco(tmp_path, annotations=[box(1, 2, 3, 4, segmentation=code), box(1, 2, 9, 9, iscrowd=1)])
    found = open_regions(RegionSource(".", "coco"), tmp_path)
    assert found.record(0).regions[0].polygon_px is None
    assert found.notes == ("1 masks in run-length code: boxes kept, no polygons",)
    assert found.skipped == (("annotation 9", "a crowd: its box is around many"),)


def two(key: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {key: list(rows)}


BAD_FILES = [
    (two("categories", {"id": 3, "name": ""}), "has no name"),
    (two("categories", {"id": 3, "name": "Ship"}, {"id": 4, "name": "ship "}), "a category twice"),
    (two("categories", {"id": 3, "name": "a"}, {"id": 3, "name": "b"}), "same id"),
    (two("categories"), "names no category"),
    ({"categories": {"3": "ship"}}, "no list of objects"),
    (two("images", {"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.png"}), "same id or file name"),
    (two("images", {"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}), "same id or file name"),
    (two("images", {"id": 1, "file_name": "../secret.png"}), "no path inside"),
    (two("images", {"id": 1, "file_name": "/etc/passwd"}), "no path inside"),
    (two("images", {"id": 1, "file_name": "c.png"}), "missing or not a file"),
]


@pytest.mark.parametrize(("changes", "said"), BAD_FILES, ids=[said for _, said in BAD_FILES])
def test_bad_files_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    coco(tmp_path, **changes)
    with pytest.raises(SourceError, match=said):
        open_regions(RegionSource(".", "coco"), tmp_path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[1]", "\xff", "{}", "null"])
def test_hostile_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "instances.json").write_text(text, "latin-1")
    with pytest.raises(SourceError):
        open_regions(RegionSource(".", "coco"), tmp_path)


def test_images_must_be_those_the_regions_were_drawn_on(tmp_path: Path) -> None:
    found = open_regions(RegionSource(".", "coco"), coco(tmp_path))
    picture(tmp_path / "images" / "a.png", 50, 40)
    with pytest.raises(SampleError, match="50 x 40 px; its regions were drawn on 100 x 80 px"):
        found.image(0)


def test_the_fingerprint_follows_regions_and_images(tmp_path: Path) -> None:
    def now() -> str:
        return open_regions(RegionSource(".", "coco"), tmp_path).fingerprint()

    coco(tmp_path)
    first = now()
    assert now() == first
    coco(tmp_path, annotations=[box(1, 2, 3, 4)])
    second = now()
    picture(tmp_path / "images" / "a.png", 60, 60)
    assert len({first, second, now()}) == 3


def test_vhr10(real_data: Path) -> None:
    train, test = (open_regions(RegionSource("vhr10", "coco", s), real_data) for s in ("train", "test"))
    assert (len(train), len(test)) == (454, 98)
    assert len(train.categories) == 10
    assert sum(len(r.regions) for found in (train, test) for r in found.records) == 3371
    assert train.skipped == ()
    assert all(region.polygon_px for r in test.records for region in r.regions)


def test_errors_are_of_the_tree() -> None:
    with pytest.raises(GeoglotError, match="no one COCO file"):
        open_regions(RegionSource("nowhere", "coco"), Path())
