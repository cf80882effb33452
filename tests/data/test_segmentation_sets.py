"""Dense-mask sets: each layout as its authors or the usual preparation leave it on disk, with its traps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geoglot.data.segmentation import IGNORED, open_segmentation
from geoglot.data.segmentation.catalogue import catalogue
from geoglot.data.segmentation.folders import cut, starts, within
from geoglot.data.segmentation.polygons import fill
from geoglot.data.segmentation.sets import Pixels, Scene, by_colour
from geoglot.errors import SampleError, SourceError, UnknownNameError

Colour = tuple[int, int, int]


def image(file: Path, width: int = 8, height: int = 6, value: int = 90, format: str | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(file, format)


def index(file: Path, rows: Any, format: str | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(file, format)


def column(values: Iterable[int], height: int = 6) -> Pixels:
    """A mask whose columns are these numbers."""
    return np.tile(np.array(list(values), np.uint8), (height, 1))


def colours(values: Iterable[Colour], height: int = 6) -> Pixels:
    return np.tile(np.array(list(values), np.uint8), (height, 1, 1))


# --- the catalogue -------------------------------------------------------------------------------


def test_words_are_those_of_the_protocols() -> None:
    """Against the class lists of SegEarth-OV, copied from its description."""
    told = {
        "openearthmap": "background; bareland,barren; grass; pavement; road; tree,forest; water,river; cropland; "
        "building,roof,house",
        "loveda": "background; building,roof,house; road; water; barren; forest; agricultural",
        "potsdam": "road,parking lot; building; low vegetation; tree; car; clutter,background",
        "vaihingen": "impervious surface; building; low vegetation; tree; car; clutter",
        "udd5": "vegetation; building; road; vehicle; background",
        "vdd": "background; facade; road; vegetation; vehicle; roof; water",
        "uavid": "background; building; road; car; tree; vegetation; human",
        "isaid": "background; ship; store tank; baseball diamond; tennis court; basketball court; ground track field; "
        "bridge; large vehicle; small vehicle; helicopter; swimming pool; roundabout; soccer ball field; plane; harbor",
    }
    for name, line in told.items():
        words = tuple(tuple(word.strip() for word in part.split(",")) for part in line.split(";"))
        assert catalogue()[name].classes == words, name
    thresholds = {"openearthmap": 0.1, "loveda": 0.3, "isaid": 0.4, "potsdam": 0.1, "vaihingen": 0.1, "uavid": 0.3}
    thresholds |= {"udd5": 0.4, "vdd": 0.3}
    assert {name: catalogue()[name].threshold for name in thresholds} == thresholds
    backgrounds = {"potsdam": 5, "vaihingen": 5, "udd5": 4}
    assert {name: catalogue()[name].background for name in told} == dict.fromkeys(told, 0) | backgrounds


@pytest.mark.parametrize("name", [name for name, entry in catalogue().items() if entry.page])
def test_absent_sets_say_where_to_get_them(tmp_path: Path, name: str) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SourceError, match="is not in") as caught:
            open_segmentation(name, folder)
        assert catalogue()[name].page in caught.value.hint
        assert str(folder) in caught.value.hint
        assert catalogue()[name].licence in caught.value.hint


def test_unknown_names_and_withheld_masks(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="loveds") as caught:
        open_segmentation("loveds", tmp_path)
    assert "'loveda'" in caught.value.hint
    with pytest.raises(SourceError) as withheld:
        open_segmentation("loveda", tmp_path, "test")
    assert "keep the masks of test to themselves" in withheld.value.hint


# --- prepared layouts ----------------------------------------------------------------------------

PREPARED = {
    "openearthmap": ([0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    "loveda": ([0, 1, 2, 3, 4, 5, 6, 7], [255, 0, 1, 2, 3, 4, 5, 6]),
    "isaid": ([0, 1, 15, 255], [0, 1, 15, 255]),
    "potsdam": ([0, 1, 2, 3, 4, 5, 6], [255, 0, 1, 2, 3, 4, 5]),
    "vaihingen": ([0, 1, 6], [255, 0, 5]),
    "uavid": ([0, 3, 6], [0, 3, 6]),
}


@pytest.mark.parametrize("name", PREPARED)
def test_prepared_layouts(tmp_path: Path, name: str) -> None:
    stored, wanted = PREPARED[name]
    split = catalogue()[name].split
    suffix, end = (".tif", "") if name == "openearthmap" else (".png", "")
    end = "_instance_color_RGB" if name == "isaid" else end
    # iSAID's preparation writes BMP under the name .png
    image(tmp_path / "img_dir" / split / f"a{suffix}", len(stored), format="BMP" if name == "isaid" else None)
    index(tmp_path / "ann_dir" / split / f"a{end}{suffix}", column(stored))
    found = open_segmentation(name, tmp_path)
    assert [scene.name for scene in found.scenes] == ["a"]
    assert found.image(0).shape == (6, len(stored), 3)
    assert found.mask(0).dtype == np.uint8
    assert found.mask(0)[0].tolist() == wanted
    assert len(found.classes) == max(v for v in wanted if v != 255) + 1
    assert (found.split, set(found.ignore)) == (split, {IGNORED})


@pytest.mark.parametrize(("name", "split"), [("udd5", "val"), ("vdd", "test")])
def test_udd_and_vdd(tmp_path: Path, name: str, split: str) -> None:
    image(tmp_path / split / "src" / "DJI_0001.JPG", 5)
    index(tmp_path / split / "gt" / "DJI_0001.png", column(range(5)))
    found = open_segmentation(name, tmp_path)
    assert found.mask(0)[0].tolist() == [0, 1, 2, 3, 4]


def test_a_number_that_is_no_class_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "val" / "src" / "a.jpg", 2)
    index(tmp_path / "val" / "gt" / "a.png", column([0, 5]))
    with pytest.raises(SampleError, match="holds 5"):
        open_segmentation("udd5", tmp_path).mask(0)
    index(tmp_path / "val" / "gt" / "a.png", colours([(0, 0, 0), (9, 9, 9)]))
    with pytest.raises(SampleError, match="coloured picture"):
        open_segmentation("udd5", tmp_path).mask(0)


# --- as their authors leave them -----------------------------------------------------------------


def test_loveda_original(tmp_path: Path) -> None:
    for place, number in (("Urban", 7), ("Rural", 2522)):
        image(tmp_path / "Val" / place / "images_png" / f"{number}.png", 8)
        index(tmp_path / "Val" / place / "masks_png" / f"{number}.png", column(range(8)))
    image(tmp_path / "Val" / "Rural" / "images_png" / "9.png")
    found = open_segmentation("loveda", tmp_path, "val")
    assert [scene.name for scene in found.scenes] == ["Rural/2522", "Urban/7"]
    assert found.mask(1)[0].tolist() == [255, 0, 1, 2, 3, 4, 5, 6]
    assert [reason for _, reason in found.skipped] == ["no mask"]
    assert found.gsd_m == 0.3
    assert len(open_segmentation("loveda", tmp_path, "valid")) == 2


def test_openearthmap_original(tmp_path: Path) -> None:
    for name in ("aachen_1", "aachen_2"):
        image(tmp_path / "aachen" / "images" / f"{name}.tif", 9)
        index(tmp_path / "aachen" / "labels" / f"{name}.tif", column(range(9)))
    (tmp_path / "val.txt").write_text("aachen_2.tif\nchiang_mai_7.tif\n")
    found = open_segmentation("openearthmap", tmp_path)
    assert [scene.name for scene in found.scenes] == ["aachen/aachen_2"]
    assert found.skipped == (("chiang_mai_7", "listed in val.txt, not there"),)
    assert found.mask(0)[0].tolist() == list(range(9))
    assert "unlabelled" in found.notes[0]


ISPRS = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0), (0, 0, 0), (252, 1, 0)]


def isprs(folder: Path, picture: str, mask: str, width: int = 600, height: int = 520) -> None:
    image(folder / picture, width, height)
    row = [ISPRS[x % len(ISPRS)] for x in range(width)]
    index(folder / mask, np.tile(np.array(row, np.uint8), (height, 1, 1)))


def test_potsdam_original(tmp_path: Path) -> None:
    for area in ("2_13", "2_10", "9_9"):
        mask = f"5_Labels_all_noBoundary/top_potsdam_{area}_label_noBoundary.tif"
        isprs(tmp_path, f"2_Ortho_RGB/top_potsdam_{area}_RGB.tif", mask)
    (tmp_path / "2_Ortho_RGB" / "top_potsdam_2_13_RGB.tfw").write_text("0.05")
    found = open_segmentation("potsdam", tmp_path)
    assert len(found) == 4  # chips of one scene
    assert all(scene.name.startswith("top_potsdam_2_13_") for scene in found.scenes)
    assert found.scenes[-1].name.endswith("_8_520_88_600")
    assert found.image(3).shape == (512, 512, 3)
    # boundary and strange colours are ignored; the last chip begins at column 88, which is 0 modulo 8
    assert found.mask(3)[0, :8].tolist() == [0, 1, 2, 3, 4, 5, 255, 255]
    assert len(open_segmentation("potsdam", tmp_path, "train")) == 4
    assert {name for name, reason in found.skipped if reason == "in no split"} == {
        f"top_potsdam_9_9_{w}" for w in ("0_512_0_512", "0_512_88_600", "8_520_0_512", "8_520_88_600")
    }


def test_vaihingen_original_drops_the_mask_without_an_image(tmp_path: Path) -> None:
    for area in (2, 1, 9):
        mask = f"gts_eroded_for_participants/top_mosaic_09cm_area{area}_noBoundary.tif"
        isprs(tmp_path, f"top/top_mosaic_09cm_area{area}.tif", mask, 512, 512)
    (tmp_path / "top" / "top_mosaic_09cm_area9.tif").unlink()
    found = open_segmentation("vaihingen", tmp_path)
    assert [scene.name for scene in found.scenes] == ["top_mosaic_09cm_area2_0_512_0_512"]
    assert [(Path(where).name, reason) for where, reason in found.skipped] == [
        ("top_mosaic_09cm_area9_noBoundary.tif", "no image")
    ]


def test_splits_of_the_isprs_sets() -> None:
    """Every area of the documented lists is in exactly its split."""
    from fnmatch import fnmatchcase

    told = {
        "potsdam": (
            "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 "
            "7_11 7_12",
            "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13",
        ),
        "vaihingen": ("1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37", "2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38"),
    }
    for name, (train, val) in told.items():
        stem = {"potsdam": "top_potsdam_{}_0_512_0_512", "vaihingen": "top_mosaic_09cm_area{}_0_512_0_512"}[name]
        parts = next(layout["parts"] for layout in catalogue()[name].layouts if "parts" in layout)
        for split, areas in (("train", train), ("val", val)):
            for area in areas.split():
                fits = [s for s, patterns in parts.items() if any(fnmatchcase(stem.format(area), p) for p in patterns)]
                assert fits == [split], (name, area)


def test_isaid_original(tmp_path: Path) -> None:
    masks = tmp_path / "val" / "Semantic_masks" / "images"
    image(tmp_path / "val" / "images" / "P0003.png", 16, 4)
    row = [(0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255), (0, 127, 63)]
    row += [(0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127), (0, 127, 191), (0, 127, 255)]
    index(masks / "P0003_instance_color_RGB.png", colours([*row, (0, 100, 155)], 4))
    found = open_segmentation("isaid", tmp_path)
    assert found.scenes[0].name == "P0003_0_896_0_896"
    assert found.mask(0).shape == found.image(0).shape[:2] == (896, 896)
    assert found.mask(0)[0, :16].tolist() == list(range(16))
    assert set(np.unique(found.mask(0)[4:])) == set(np.unique(found.mask(0)[:, 16:])) == {IGNORED}  # padding
    assert not found.image(0)[4:].any()
    assert found.classes[14] == ("plane",)


def test_uavid_original_joins_cars_and_maps_strange_colours_to_background(tmp_path: Path) -> None:
    row = [(0, 0, 0), (128, 0, 0), (128, 64, 128), (192, 0, 192), (64, 0, 128), (0, 128, 0), (128, 128, 0)]
    row += [(64, 64, 0), (1, 2, 3)]
    image(tmp_path / "uavid_test" / "seq21" / "Images" / "000000.png", 9)
    index(tmp_path / "uavid_test" / "seq21" / "Labels" / "000000.png", colours(row))
    found = open_segmentation("uavid", tmp_path)
    assert found.scenes[0].name == "seq21/000000_0_1080_0_1280"
    assert found.mask(0)[0, :9].tolist() == [0, 1, 2, 3, 3, 4, 5, 6, 0]


# --- chips ---------------------------------------------------------------------------------------


def test_chips_of_a_potsdam_scene_are_those_of_the_protocol() -> None:
    at = starts(6000, 512, 512)
    assert len(at) == 12
    assert (at[-2], at[-1]) == (5120, 5488)
    assert (24 * 144, 14 * 144) == (3456, 2016)  # chips of the documented splits


@given(st.integers(1, 3000), st.integers(1, 900), st.integers(1, 900))
def test_chip_starts_against_the_converters_loop(size: int, side: int, step: int) -> None:
    """mmsegmentation's converter walks in steps and shifts what sticks out; equal names overwrite each other."""
    step = min(step, side)
    wanted = sorted({max(0, min(at, size - side)) for at in range(0, size, step)})
    assert starts(size, side, step) == wanted


def test_chips_put_together_are_the_scene(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 255, (37, 50), np.uint8)
    index(tmp_path / "a.png", whole)
    again = np.full((37, 50), 7, np.uint8)
    for chip in cut(Scene("a", tmp_path / "a.png", None), (16, 12), (16, 12)):
        assert chip.window is not None
        w = chip.window
        again[w.y0 : w.y1, w.x0 : w.x1] = within(whole, chip, IGNORED)
    assert np.array_equal(again, whole)


# --- colours and numbers -------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
def test_colours_against_a_slow_twin(seed: int, count: int, refuse: bool) -> None:
    rng = np.random.default_rng(seed)
    palette = [tuple(int(v) for v in c) for c in rng.integers(0, 3, (count, 3))]
    table: dict[Colour, int] = {(c[0], c[1], c[2]): i for i, c in enumerate(palette)}
    mask = rng.integers(0, 3, (5, 7, 3)).astype(np.uint8)
    slow = [[table.get((int(p[0]), int(p[1]), int(p[2]))) for p in row] for row in mask]
    if refuse and any(v is None for row in slow for v in row):
        with pytest.raises(SampleError, match="holds the colour"):
            by_colour(mask, table, "x")
    else:
        wanted = [[9 if v is None else v for v in row] for row in slow]
        assert by_colour(mask, table, "x", 9).tolist() == wanted


# --- folders of one's own ------------------------------------------------------------------------


def own(folder: Path, classes: object = ("unlabeled", "water", "other")) -> Path:
    image(folder / "images" / "a.webp", 4)
    index(folder / "masks" / "a.png", column([0, 1, 2, 255]))
    (folder / "classes.json").write_text(json.dumps(classes))
    return folder


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    image(own(tmp_path) / "images" / "b.png")
    found = open_segmentation("folder", tmp_path)
    assert found.classes == (("water",), ("other",))
    assert found.background == 1
    assert found.mask(0)[0].tolist() == [255, 0, 1, 255]
    assert found.notes == ("ignored: unlabeled",)
    assert [reason for _, reason in found.skipped] == ["no mask"]
    assert found.name == tmp_path.name


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({"0": "water"}, "no list"),
        (["water", ""], "has no name"),
        (["water", "Water"], "twice"),
        (["void"], "no class but void"),
        ([], "names no category"),
        (["a", 2], "no list"),
        ([f"c{i}" for i in range(256)], "at most 255"),
    ],
)
def test_bad_class_lists(tmp_path: Path, classes: object, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_segmentation("folder", own(tmp_path, classes))


def test_damaged_folders(tmp_path: Path) -> None:
    own(tmp_path)
    image(tmp_path / "images" / "a.jpg")
    with pytest.raises(SourceError, match="the same name"):
        open_segmentation("folder", tmp_path)
    (tmp_path / "images" / "a.jpg").unlink()
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "b.png")
    with pytest.raises(SourceError, match="no image of"):
        open_segmentation("folder", tmp_path)
    (tmp_path / "masks" / "b.png").rename(tmp_path / "masks" / "a.png")
    (tmp_path / "masks" / "a.png").write_bytes(b"no picture")
    with pytest.raises(SampleError, match="not a readable"):
        open_segmentation("folder", tmp_path).mask(0)


def test_masks_have_the_size_of_their_pictures(tmp_path: Path) -> None:
    index(own(tmp_path) / "masks" / "a.png", column([0, 1, 2, 0, 0]))
    with pytest.raises(SampleError, match=r"5 x 6 px, its picture 4 x 6 px"):
        open_segmentation("folder", tmp_path).mask(0)


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    before = open_segmentation("folder", own(tmp_path)).fingerprint()
    assert open_segmentation("folder", tmp_path).fingerprint() == before
    index(tmp_path / "masks" / "a.png", column([2, 1, 2, 0], 20))
    assert open_segmentation("folder", tmp_path).fingerprint() != before


# --- polygons ------------------------------------------------------------------------------------


def inside(x: float, y: float, ring: list[tuple[float, float]]) -> bool:
    """Even-odd rule."""
    odd = False
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            odd = not odd
    return odd


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-30, 150), st.integers(-30, 150)), min_size=3, max_size=3, unique=True))
def test_filling_against_a_slow_twin(corners: list[tuple[int, int]]) -> None:
    ring = [(x / 10 + 0.03, y / 10 + 0.07) for x, y in corners]  # off the pixel centres
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))
    if abs(area) < 1e-6:
        return
    mask = np.zeros((12, 11), np.uint8)
    fill(mask, [tuple(ring)], 3)
    slow = [[3 * inside(x + 0.5, y + 0.5, ring) for x in range(11)] for y in range(12)]
    assert mask.tolist() == slow


def coco(folder: Path, things: list[dict[str, Any]]) -> Path:
    image(folder / "images" / "a.png", 20, 10)
    raw = {
        "images": [{"id": 0, "file_name": "a.png", "split": "test"}],
        "annotations": things,
        "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "harbor"}],
    }
    (folder / "instances.json").write_text(json.dumps(raw))
    return folder


def square(x: int, y: int, side: int, category: int) -> dict[str, Any]:
    ring = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {"id": 0, "image_id": 0, "category_id": category, "segmentation": [ring]}


def test_coco_masks_show_small_things_on_large_ones(tmp_path: Path) -> None:
    found = open_segmentation("coco", coco(tmp_path, [square(3, 3, 2, 1), square(0, 0, 8, 2)]))
    assert found.classes == (("background",), ("ship",), ("harbor",))
    mask = found.mask(0)
    assert (mask.shape, found.background) == ((10, 20), 0)
    assert mask[0, 0] == 2
    assert mask[3:5, 3:5].tolist() == [[1, 1], [1, 1]]
    assert (mask == 1).sum() == 4
    assert (mask == 2).sum() == 60
    assert mask[9, 19] == 0


def test_coco_masks_need_polygons(tmp_path: Path) -> None:
    code = {"id": 0, "image_id": 0, "category_id": 1, "bbox": [0, 0, 4, 4], "segmentation": {"counts": "x"}}
    with pytest.raises(SampleError, match="has no polygon"):
        open_segmentation("coco", coco(tmp_path, [code])).mask(0)


def georeferenced(file: Path) -> None:
    import rasterio
    from rasterio.transform import from_origin

    profile = {"driver": "GTiff", "width": 10, "height": 10, "count": 3, "dtype": "uint8", "nodata": 0}
    values = np.full((3, 10, 10), 80, np.uint8)
    values[:, 9] = 0
    with rasterio.open(file, "w", crs="EPSG:4326", transform=from_origin(30, 1, 0.1, 0.1), **profile) as dataset:
        dataset.write(values)


def outline(*rings: list[list[float]], kind: str = "Polygon") -> str:
    geometry = {"type": kind, "coordinates": list(rings)}
    return json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": geometry}]})


def ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def test_building_outlines(tmp_path: Path) -> None:
    for place in ("kampala_1", "nairobi_1"):
        georeferenced(tmp_path / f"{place}.tif")
    file = tmp_path / "kampala_1.buildings.geojson"
    file.write_text(outline(ring(30.1, 0.5, 30.5, 0.9), ring(30.2, 0.6, 30.3, 0.8)))  # with a hole
    found = open_segmentation("oam", tmp_path)
    assert found.classes == (("background",), ("building", "roof", "house"))
    assert found.gsd_m == pytest.approx(11_100, rel=0.01)
    wanted = np.zeros((10, 10), np.uint8)
    wanted[1:5, 1:5] = 1
    wanted[2:4, 2] = 0
    wanted[9] = IGNORED
    assert np.array_equal(found.mask(0), wanted)
    assert found.image(0).shape == (10, 10, 3)
    assert [reason for _, reason in found.skipped] == ["no outlines"]
    file.write_text('{"type": "FeatureCollection", "features": []}')
    assert set(np.unique(found.mask(0))) == {0, IGNORED}
    for text, said in (("{", "no GeoJSON"), (outline([[30, 1]], kind="LineString"), "holds a LineString")):
        file.write_text(text)
        with pytest.raises(SampleError, match=said):
            found.mask(0)
    with pytest.raises(SourceError, match="no scenes of train"):
        open_segmentation("oam", tmp_path, "train")


# --- real data -----------------------------------------------------------------------------------


def test_real_sets(real_data: Path) -> None:
    sizes = {
        ("dubai", "dubai", "train"): 45, ("dubai", "dubai", "valid"): 9, ("dubai", "dubai", "test"): 9,
        ("vhr10", "vhr10", "test"): 98, ("nymaps", "nymaps", "train"): 700, ("korea", "scenes/sentinel2", "all"): 40,
        ("oam", "scenes/oam", "train"): 70, ("oam", "scenes/oam", "valid"): 4, ("oam", "scenes/oam", "test"): 7,
    }  # fmt: skip
    for (name, folder, split), count in sizes.items():
        found = open_segmentation(name, real_data / folder, split)
        assert (len(found), found.skipped) == (count, ()), name
        picture, mask = found.image(0), found.mask(0)
        assert picture.shape[:2] == mask.shape
        assert set(np.unique(mask)) <= {*range(len(found.classes)), IGNORED}
    tiles = [open_segmentation("dubai", real_data / "dubai", s) for s in ("train", "valid", "test")]
    names = [{scene.name.split("_")[0] for scene in found.scenes} for found in tiles]
    assert (sum(map(len, names)), len(set.union(*names))) == (7, 7)  # no tile is in two parts
    with pytest.raises(UnknownNameError, match="split of nymaps"):
        open_segmentation("nymaps", real_data / "nymaps", "test")
