"""Building region sets: categories, masks to regions, captions, resuming, and reading the result back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from geoglot.data.regions import Region, RegionRecord, RegionSet, RegionSource, open_regions
from geoglot.data.regions.build import Material, build_regions
from geoglot.data.regions.build_config import load_build, open_materials
from geoglot.data.regions.captions import Captions, TemplateCaptioner, ninth, plural
from geoglot.data.regions.categories import category_ids
from geoglot.data.regions.masks import connected, regions_of_masks
from geoglot.data.segmentation import open_segmentation
from geoglot.errors import SourceError, StorageError, UnknownNameError, UsageError

# --- categories ----------------------------------------------------------------------------------


def test_categories_get_one_numbering() -> None:
    ids = category_ids([["storage-tank", "plane"], ["Storage Tank", "storagetank", "airplane"]], {"airplane": "Plane"})
    assert ids.names == ("storage tank", "Plane")
    assert [ids.of(c) for c in ("storage-tank", "Storage Tank", "storagetank", "plane", "airplane")] == [0, 0, 0, 1, 1]


def test_renaming_what_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'plain'"):
        category_ids([["plane"]], {"plain": "airplane"})
    with pytest.raises(UsageError, match="renamed to nothing"):
        category_ids([["plane"]], {"plane": " "})


# --- captions ------------------------------------------------------------------------------------


def record(*regions: Region) -> RegionRecord:
    return RegionRecord("a.png", 90, 90, (), regions, "x")


def boxes(category: str, *corners: tuple[float, float]) -> list[Region]:
    return [Region((x, y, x + 4, y + 4), category) for x, y in corners]


BLACK: NDArray[np.uint8] = np.zeros((90, 90, 3), np.uint8)


def test_the_template_counts_labels_and_says_so() -> None:
    speak = TemplateCaptioner()
    assert "does not look at pixels" in speak.name
    regions = [*boxes("large-vehicle", (2, 2), (8, 8)), *boxes("harbor", (70, 40)), *boxes("ship", (1, 1), (80, 80))]
    said = speak.caption(BLACK, record(*regions))
    assert said.brief == "an overhead image with 2 large vehicles, 2 ships and 1 harbor"
    assert said.detailed == (
        "An overhead image with 2 large vehicles, 2 ships and 1 harbor. All large vehicles lie in the upper left. "
        "The harbor lies in the middle right."
    )
    assert speak.caption(BLACK, record()).brief == "an overhead image without labelled objects"
    areas = TemplateCaptioner(count=False).caption(
        BLACK, record(*boxes("water", (1, 1)), *boxes("road", (1, 1), (9, 9)))
    )
    assert areas.brief == "an overhead image of road and water"


@pytest.mark.parametrize(
    ("word", "many"),
    [("ship", "ships"), ("bus", "buses"), ("bench", "benches"), ("ferry", "ferries"), ("quay", "quays")],
)
def test_plurals(word: str, many: str) -> None:
    assert plural(word) == many


def test_ninths() -> None:
    at = {
        (1, 1): "upper left",
        (45, 45): "middle",
        (85, 1): "upper right",
        (1, 85): "lower left",
        (45, 1): "upper middle",
    }
    for (x, y), name in at.items():
        assert ninth((x - 1, y - 1, x + 1, y + 1), record()) == name


# --- masks to regions ----------------------------------------------------------------------------


def flood(mask: NDArray[np.uint8]) -> list[tuple[int, int, tuple[int, int, int, int]]]:
    """(index, pixels, box) of areas that touch at edges or corners, pixel by pixel."""
    seen = mask == 255
    found = []
    for y, x in np.ndindex(mask.shape):
        if seen[y, x]:
            continue
        todo, part = [(y, x)], []
        seen[y, x] = True
        while todo:
            v, u = todo.pop()
            part.append((v, u))
            for j in range(max(v - 1, 0), min(v + 2, mask.shape[0])):
                for i in range(max(u - 1, 0), min(u + 2, mask.shape[1])):
                    if not seen[j, i] and mask[j, i] == mask[y, x]:
                        seen[j, i] = True
                        todo.append((j, i))
        ys, xs = zip(*part, strict=True)
        found.append((int(mask[y, x]), len(part), (min(xs), min(ys), max(xs) + 1, max(ys) + 1)))
    return sorted(found)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 3))
def test_connected_areas_against_flooding(seed: int, height: int, width: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([*range(classes), 255], np.uint8), (height, width))
    found = []
    for part in connected(mask):
        xs, ys = zip(*part.ring, strict=True)
        found.append((part.index, round(part.area_px), (min(xs), min(ys), max(xs), max(ys))))
    assert sorted(found) == flood(mask)


def masks(folder: Path, pixels: NDArray[np.uint8]) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    Image.fromarray(np.full((*pixels.shape, 3), 50, np.uint8)).save(folder / "images" / "m.png")
    Image.fromarray(pixels).save(folder / "masks" / "m.png")
    (folder / "classes.json").write_text('["unlabeled", "background", "water", "road"]')
    return folder


def stripes() -> NDArray[np.uint8]:
    pixels = np.ones((20, 30), np.uint8)
    pixels[:, 20:] = 2
    pixels[5, :20] = 3
    pixels[0, 0] = 0
    pixels[10, 10] = 2
    return pixels


def test_masks_become_regions(tmp_path: Path) -> None:
    found = regions_of_masks(open_segmentation("folder", masks(tmp_path / "m", stripes())), min_area_px=4)
    assert found.categories == ("water", "road")
    assert sorted((r.category, r.box_px) for r in found.record(0).regions) == [
        ("road", (0, 5, 20, 6)),
        ("water", (20, 0, 30, 20)),
    ]
    assert found.skipped == (("m", "1 areas smaller than 4 px"),)
    assert "1 areas smaller than 4 px left out" in found.notes
    assert found.record(0).regions[0].polygon_px is not None
    assert found.pixels is None  # a plain file
    everything = regions_of_masks(open_segmentation("folder", tmp_path / "m"), min_area_px=1, background=True)
    assert [r.category for r in everything.record(0).regions].count("background") == 2
    assert everything.categories == ("background", "water", "road")
    with pytest.raises(UsageError, match="must be positive"):
        regions_of_masks(open_segmentation("folder", tmp_path / "m"), min_area_px=0)


# --- building ------------------------------------------------------------------------------------


def detections(folder: Path, count: int = 3) -> Path:
    (folder / "images").mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((80, 100, 3), 10 * i, np.uint8)).save(folder / "images" / f"{i}.png")
    things = [{"id": i, "image_id": i, "category_id": i % 2, "bbox": [10.1, 20.2, 30.3, 40]} for i in range(count)]
    raw = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(count)],
        "annotations": [*things, {"id": 9, "image_id": 0, "category_id": 0, "bbox": [1, 1, 3, 3]}],
        "categories": [{"id": 0, "name": "storage-tank"}, {"id": 1, "name": "plane"}],
    }
    (folder / "instances.json").write_text(json.dumps(raw))
    return folder


def materials(folder: Path) -> list[Material]:
    if not (folder / "d").exists():
        detections(folder / "d")
        masks(folder / "m", stripes())
    texts = {"plane": "a parked plane"}
    found = open_regions(RegionSource("d", "coco", texts=texts), folder)
    areas = regions_of_masks(open_segmentation("folder", folder / "m"), min_area_px=4)
    return [Material("objects", found), Material("areas", areas, TemplateCaptioner(count=False), {"licence": "mine"})]


def test_a_build_is_read_back_whole(tmp_path: Path) -> None:
    parts = materials(tmp_path)
    report = build_regions(parts, tmp_path / "out", rename={"plane": "airplane"})
    assert (report.records, report.regions, report.captioned, report.done_before) == (4, 6, 4, 0)
    assert report.categories == {"storage tank": 3, "airplane": 1, "water": 1, "road": 1}
    assert report.skipped == {"objects": {}, "areas": {"N areas smaller than N px": 1}}
    back = open_regions(RegionSource("out", "mgrs"), tmp_path)
    assert (back.skipped, back.notes) == ((), ())
    assert back.categories == ("storage tank", "airplane", "water", "road")
    told = [r for m in parts for r in m.regions.records]
    for mine, theirs in zip(back.records, told, strict=True):
        assert (mine.width, mine.height) == (theirs.width, theirs.height)
        assert [np.round(r.box_px, 3).tolist() for r in mine.regions] == [
            np.round(r.box_px, 3).tolist() for r in theirs.regions
        ]
    assert back.record(1).regions[0].text == "a parked plane"
    assert back.record(0).captions[0].startswith("An overhead image with 2 storage tanks")
    assert back.record(1).captions[1] == "an overhead image with 1 airplane"  # under the shared name
    for i, theirs in enumerate(told):
        assert np.array_equal(back.image(i), np.asarray(Image.open(theirs.image)))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["global_imgs", "manifest.json", "text_info.json"]


def test_the_layout_is_the_released_loaders(tmp_path: Path) -> None:
    build_regions(materials(tmp_path), tmp_path / "out", images="copy")
    rows = json.loads((tmp_path / "out" / "text_info.json").read_text())
    assert not (tmp_path / "out" / "global_imgs" / rows[1]["global_filepath"]).is_symlink()
    assert list(rows[1]["segment"][0]["bbox"].values()) == [10.1, 20.2, 40.4, 60.2, 100, 80]
    assert rows[1]["segment"][0]["category_id"] == 1
    assert rows[1]["segment"][0]["cap"] == "a parked plane"
    assert "cap" not in rows[0]["segment"][0]
    assert rows[1]["provenance"] == {
        "source": "objects",
        "record": "instances.json image 1 1.png",
        "captions": "template: counts labels, does not look at pixels",
    }
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [s["name"] for s in manifest["sources"]] == ["objects", "areas"]
    assert manifest["sources"][1]["licence"] == "mine"
    assert manifest["sources"][0]["categories"] == {"storage-tank": 0, "plane": 1}
    assert [c["regions"] for c in manifest["categories"]] == [3, 1, 1, 1]


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    dry = build_regions(materials(tmp_path), tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    real = build_regions(materials(tmp_path), tmp_path / "out")
    assert replace(dry, dry_run=False, captioned=4) == real


class Breaking:
    """A captioner that counts its calls and breaks at one of them."""

    name = "breaking"

    def __init__(self, at: int | None) -> None:
        self.at, self.calls = at, 0

    def caption(self, image: NDArray[np.uint8], record: RegionRecord) -> Captions:
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return Captions(f"short {image[0, 0, 0]}", f"long {len(record.regions)}")


def test_a_broken_build_goes_on_where_it_broke(tmp_path: Path) -> None:
    def parts(speaker: Breaking) -> list[Material]:
        return [replace(m, captioner=speaker) for m in materials(tmp_path)]

    build_regions(parts(Breaking(None)), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        build_regions(parts(Breaking(3)), tmp_path / "out")
    assert not (tmp_path / "out" / "text_info.json").exists()
    with (tmp_path / "out" / "records.part.jsonl").open("a") as file:
        file.write('{"global_filepath": "torn')  # as a power cut leaves it
    again = Breaking(None)
    report = build_regions(parts(again), tmp_path / "out")
    assert (report.done_before, report.captioned, again.calls) == (2, 2, 2)
    for name in ("text_info.json", "manifest.json"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert build_regions(parts(Breaking(1)), tmp_path / "out").done_before == 4  # nobody is asked again


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    build_regions(materials(tmp_path), tmp_path / "out")
    for folder, names in (("out", {"plane": "airplane"}), ("d", {})):
        with pytest.raises(StorageError, match="something else"):
            build_regions(materials(tmp_path), tmp_path / folder, rename=names)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        build_regions(materials(tmp_path), tmp_path / "file")


def test_captions_of_a_source_are_kept(tmp_path: Path) -> None:
    parts = materials(tmp_path)
    own = [replace(r, captions=("A long caption of its own.", "short")) for r in parts[0].regions.records]
    material = replace(parts[0], regions=replace(parts[0].regions, records=tuple(own)), captioner=Breaking(1))
    assert build_regions([material], tmp_path / "out").captioned == 0
    rows = json.loads((tmp_path / "out" / "text_info.json").read_text())
    assert (rows[0]["brief_caption"], rows[0]["detailed_caption"]) == ("short", "A long caption of its own.")
    assert rows[0]["provenance"]["captions"] == "source"


def test_renderings_are_written_as_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 5, 3), np.uint8)
    one = RegionRecord("/somewhere/scene.tif", 5, 6, (), (Region((0, 0, 2, 2), "roof"),), "x")
    made = RegionSet("x", (one,), ("roof",), pixels=lambda i: pixels)
    build_regions([Material("x", made)], tmp_path / "out")
    back = open_regions(RegionSource("out", "mgrs"), tmp_path)
    assert back.record(0).image.endswith("x/000000_scene.png")
    assert np.array_equal(back.image(0), pixels)


def test_bad_builds_are_refused(tmp_path: Path) -> None:
    parts = materials(tmp_path)
    with pytest.raises(UsageError, match="nothing to build from"):
        build_regions([], tmp_path / "out")
    with pytest.raises(UsageError, match="share a name"):
        build_regions([parts[0], parts[0]], tmp_path / "out")
    with pytest.raises(UsageError, match="no name of a folder"):
        replace(parts[0], name="../x")

    class Silent(Breaking):
        def caption(self, image: NDArray[np.uint8], record: RegionRecord) -> Captions:
            return Captions("something", " ")

    with pytest.raises(UsageError, match="gave no caption"):
        build_regions([replace(parts[0], captioner=Silent(None))], tmp_path / "out")


# --- config --------------------------------------------------------------------------------------

CONFIG = """
[[source]]
path = "d"
layout = "coco"
name = "objects"
texts = { plane = "a parked plane" }

[[source]]
path = "m"
masks = "folder"
min_area_px = 4

[rename]
plane = "airplane"
"""


def test_a_config(tmp_path: Path) -> None:
    materials(tmp_path)
    (tmp_path / "c.toml").write_text(CONFIG)
    config = load_build(tmp_path / "c.toml")
    opened = open_materials(config, tmp_path)
    assert [m.name for m in opened] == ["objects", "m"]
    assert opened[1].facts["masks"] == "folder"
    report = build_regions(opened, tmp_path / "out", rename=config.rename)
    assert report.categories == {"storage tank": 3, "airplane": 1, "water": 1, "road": 1}
    bad = json.loads((tmp_path / "d" / "instances.json").read_text())
    bad["annotations"].append({"id": 99, "image_id": 0, "category_id": 0, "bbox": [1, 1, -3, 3]})
    (tmp_path / "d" / "instances.json").write_text(json.dumps(bad))
    with pytest.raises(SourceError, match="annotation 99"):
        open_materials(config, tmp_path)
    assert len(open_materials(config, tmp_path, skip_bad=True)[0].regions.skipped) == 1


BAD_CONFIGS: dict[str, Any] = {
    "x = ": "not TOML",
    "": "names no source",
    "[[source]]\nlayout = 'coco'": "lacks path",
    "[[source]]\npath = 'x'": "lacks layout",
    "[[source]]\npath = 'x'\nmask = 'dubai'": r"unknown \[\[source\]\] key 'mask'",
    "[[source]]\npath = 'x'\nlayout = 'coca'": "layout 'coca'",
    "[[source]]\npath = 7\nlayout = 'coco'": "path = 7 is not str",
    "[[source]]\npath = 'x'\nlayout = 'voc'\norigin = true": "origin = True is not int",
    "[[source]]\npath = 'x'\nlayout = 'coco'\ntexts = { a = 1 }": "texts.a = 1 is not str",
    "[[sauce]]\npath = 'x'": "unknown config key 'sauce'",
    "[[source]]\npath = 'x'\nlayout = 'coco'\n[rename]\na = 1": "rename.a = 1 is not str",
}


@pytest.mark.parametrize(("text", "said"), BAD_CONFIGS.items(), ids=list(BAD_CONFIGS.values()))
def test_bad_configs(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        load_build(tmp_path / "c.toml")


def test_real_sets_become_one(real_data: Path, tmp_path: Path) -> None:
    text = '[[source]]\npath = "vhr10"\nlayout = "coco"\nsplit = "test"\n'
    (tmp_path / "c.toml").write_text(text + '[[source]]\npath = "dubai"\nmasks = "dubai"\nsplit = "valid"\n')
    report = build_regions(open_materials(load_build(tmp_path / "c.toml"), real_data), tmp_path / "out", dry_run=True)
    assert (report.records, len(report.categories)) == (98 + 9, 15)
    assert sum(list(report.categories.values())[:10]) == 558
