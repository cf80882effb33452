"""YOLO, DOTA, VOC and MGRS: hand-written files with their traps, and one world told in all five layouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geoglot.data.regions import RegionSet, RegionSource, open_regions
from geoglot.errors import SourceError, UnknownNameError

WIDTH, HEIGHT = 200, 100


def draw(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(file)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def boxes(found: RegionSet, i: int = 0) -> list[tuple[str, tuple[float, ...]]]:
    return [(r.category, tuple(round(v, 3) for v in r.box_px)) for r in found.record(i).regions]


# --- YOLO ----------------------------------------------------------------------------------------


def yolo(folder: Path, labels: str = "1 0.5 0.5 0.2 0.4\n", config: str = "names: [ship, plane]\n") -> Path:
    draw(folder / "images" / "train" / "a.png")
    draw(folder / "images" / "val" / "b.png")
    write(folder / "labels" / "train" / "a.txt", labels)
    (folder / "labels" / "val").mkdir(parents=True, exist_ok=True)
    write(folder / "data.yaml", config + "train: images/train\nval: images/val\n")
    return folder


def test_yolo(tmp_path: Path) -> None:
    found = open_regions(RegionSource(".", "yolo"), yolo(tmp_path))
    assert found.categories == ("ship", "plane")
    assert boxes(found) == [("plane", (80, 30, 120, 70))]
    assert found.record(1).regions == ()
    assert found.notes == ("1 images without a label file: no objects",)
    assert len(open_regions(RegionSource("data.yaml", "yolo", "val"), tmp_path)) == 1
    with pytest.raises(UnknownNameError, match="split"):
        open_regions(RegionSource(".", "yolo", "test"), tmp_path)


def test_yolo_oriented(tmp_path: Path) -> None:
    corners = "0 0.1 0.5 0.2 0.3 0.3 0.5 0.2 0.7\n"
    found = open_regions(RegionSource(".", "yolo"), yolo(tmp_path, corners))
    assert boxes(found) == [("ship", (20, 30, 60, 70))]
    ring = found.record(0).regions[0].polygon_px
    assert ring is not None
    assert np.allclose(ring, [(20, 50), (40, 30), (60, 50), (40, 70)])


def test_yolo_with_a_list_of_classes(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "a.png")
    write(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5\n\n")
    write(tmp_path / "classes.txt", "ship\nplane\n\n")
    assert boxes(open_regions(RegionSource(".", "yolo"), tmp_path)) == [("ship", (50, 25, 150, 75))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 0.5 0.5 0.2 0.4", "class 2 is none of 0 to 1"),
        ("-1 0.5 0.5 0.2 0.4", "class -1"),
        ("ship 0.5 0.5 0.2 0.4", "class ship"),
        ("0 0.5 0.5 0.2", "3 numbers"),
        ("0 0.5 0.5 0.2 0.4 0.99", "5 numbers"),
        ("0 0.5 0.5 0 0.4", "empty or inverted"),
        ("0 0.5 0.5 -0.2 0.4", "empty or inverted"),
        ("0 100 50 20 40", "outside the image"),
        ("0 nan 0.5 0.2 0.4", "not finite"),
        ("0 x 0.5 0.2 0.4", "no list of numbers"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", "without area"),
    ],
)
def test_bad_yolo_lines(tmp_path: Path, line: str, said: str) -> None:
    yolo(tmp_path, f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(SourceError, match=said):
        open_regions(RegionSource(".", "yolo"), tmp_path)
    found = open_regions(RegionSource(".", "yolo", bad="skip"), tmp_path)
    assert len(found.record(0).regions) == 1
    assert [where.rpartition(":")[2] for where, _ in found.skipped] == ["2"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("names: {0: ship, 2: plane}\n", "must be 0 to 1"),
        ("names: [ship, '']\n", "has no name"),
        ("names: [ship, ship]\n", "twice"),
        ("names: [ship]\nnc: 2\n", "announces 2"),
        ("names: ship\n", "no list of names"),
        ("names: [ship\n", "not YAML"),
        ("names: !!python/object/apply:os.system ['true']\n", "not YAML"),
        ("names: [ship]\npath: ../..\n", "leads out"),
        ("- a\n", "not YAML"),
    ],
)
def test_bad_yolo_descriptions(tmp_path: Path, config: str, said: str) -> None:
    yolo(tmp_path, config=config)
    with pytest.raises(SourceError, match=said):
        open_regions(RegionSource(".", "yolo"), tmp_path)


def test_yolo_labels_without_an_image_are_noticed(tmp_path: Path) -> None:
    write(yolo(tmp_path) / "labels" / "train" / "gone.txt", "0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(SourceError, match="no image of that name"):
        open_regions(RegionSource(".", "yolo"), tmp_path)
    with pytest.raises(SourceError, match=r"neither data\.yaml"):
        open_regions(RegionSource("labels", "yolo"), tmp_path)


# --- DOTA ----------------------------------------------------------------------------------------

HEAD = "imagesource:GoogleEarth\ngsd:0.146343590398\n"
PLANE = "20 50 40 30 60 50 40 70 plane 0\n"


def dota(folder: Path, text: str, name: str = "labelTxt") -> Path:
    draw(folder / "images" / "P0001.png")
    write(folder / name / "P0001.txt", text)
    return folder


def test_dota(tmp_path: Path) -> None:
    dota(tmp_path / "train", HEAD + PLANE + "10 10 30 10 30 20 10 20 large-vehicle 1\n")
    draw(tmp_path / "train" / "images" / "P0002.png")
    found = open_regions(RegionSource(".", "dota", "train", texts={"large-vehicle": "a lorry"}), tmp_path)
    assert found.categories == ("large-vehicle", "plane")
    assert boxes(found) == [("plane", (20, 30, 60, 70)), ("large-vehicle", (10, 10, 30, 20))]
    assert found.record(0).gsd_m == pytest.approx(0.146343590398)
    assert found.record(0).regions[0].polygon_px == ((20, 50), (40, 30), (60, 50), (40, 70))
    assert found.record(0).regions[1].text == "a lorry"
    assert [reason for _, reason in found.skipped] == ["no label file"]
    easy = open_regions(RegionSource(".", "dota", "train", difficult=False), tmp_path)
    assert len(easy.record(0).regions) == 1
    assert [reason for _, reason in easy.skipped] == ["difficult", "no label file"]


@pytest.mark.parametrize("head", ["", "imagesource:GoogleEarth\ngsd:null\n", "imagesource:\ngsd:\n", "gsd:-1\n"])
def test_dota_heads_may_say_nothing(tmp_path: Path, head: str) -> None:
    found = open_regions(RegionSource(".", "dota"), dota(tmp_path, head + PLANE))
    assert found.record(0).gsd_m is None
    assert len(found.record(0).regions) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("20 50 40 30 60 50 40 plane 0\n", "no list of numbers"),
        ("20 50 40 30 plane 0\n", "6 words"),
        ("20 50 40 30 60 50 40 70 plane yes\n", "difficult is 'yes'"),
        ("20 50 20 50 20 50 20 50 plane 0\n", "without area"),
        ("220 50 240 30 260 50 240 70 plane 0\n", "outside"),
        ("inf 50 40 30 60 50 40 70 plane 0\n", "without area|not finite"),
    ],
)
def test_bad_dota_lines(tmp_path: Path, line: str, said: str) -> None:
    dota(tmp_path, HEAD + PLANE + line)
    with pytest.raises(SourceError, match=said):
        open_regions(RegionSource(".", "dota"), tmp_path)
    found = open_regions(RegionSource(".", "dota", bad="skip"), tmp_path)
    assert len(found.record(0).regions) == len(found.skipped) == 1


def test_dota_versions_are_told_apart(tmp_path: Path) -> None:
    dota(dota(tmp_path, PLANE, "labelTxt-v1.0"), PLANE + PLANE, "labelTxt-v1.5")
    with pytest.raises(SourceError, match=r"labelTxt-v1.0, labelTxt-v1.5"):
        open_regions(RegionSource(".", "dota"), tmp_path)
    found = open_regions(RegionSource(".", "dota", labels="labelTxt-v1.5"), tmp_path)
    assert len(found.record(0).regions) == 2


# --- VOC -----------------------------------------------------------------------------------------


def thing(name: str = "ship", edges: tuple[object, ...] = (1, 1, 200, 100), more: str = "") -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, edges, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{inner}</bndbox></object>"


def voc(folder: Path, inner: str, head: str = "") -> Path:
    draw(folder / "JPEGImages" / "a.jpg")
    size = "<size><width>200</width><height>100</height></size>"
    write(folder / "Annotations" / "a.xml", f"{head}<annotation>{size}{inner}</annotation>")
    return folder


def test_voc_counts_from_one_and_includes_the_last(tmp_path: Path) -> None:
    found = open_regions(RegionSource(".", "voc"), voc(tmp_path, thing() + thing("plane", (11, 21, 30, 40))))
    assert boxes(found) == [("ship", (0, 0, 200, 100)), ("plane", (10, 20, 30, 40))]
    assert found.notes == ()
    zero = open_regions(RegionSource(".", "voc", origin=0), tmp_path)
    assert boxes(zero)[1] == ("plane", (11, 21, 31, 41))


def test_voc_oriented_difficult_and_split(tmp_path: Path) -> None:
    corners = (20, 50, 40, 30, 60, 50, 40, 70)
    keys = ("left_top", "right_top", "right_bottom", "left_bottom")
    inner = "".join(
        f"<{axis}_{key}>{corners[2 * i + j]}</{axis}_{key}>"
        for i, key in enumerate(keys)
        for j, axis in enumerate("xy")
    )
    oriented = f"<object><name>plane</name><robndbox>{inner}</robndbox></object>"
    voc(tmp_path, oriented + thing(more="<difficult>1</difficult>"))
    draw(tmp_path / "JPEGImages" / "b.jpg")
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "a\n")
    found = open_regions(RegionSource(".", "voc", "train", difficult=False), tmp_path)
    assert boxes(found) == [("plane", (20, 30, 60, 70))]
    assert found.skipped[0][1] == "difficult"
    assert open_regions(RegionSource(".", "voc"), tmp_path).skipped[0][1] == "no XML file"
    with pytest.raises(SourceError, match="no list of the split"):
        open_regions(RegionSource(".", "voc", "val"), tmp_path)
    with pytest.raises(SourceError, match="is no name"):
        open_regions(RegionSource(".", "voc", "../../x"), tmp_path)


def test_dior_names_its_folders_otherwise(tmp_path: Path) -> None:
    draw(tmp_path / "JPEGImages-trainval" / "00001.jpg")
    text = f"<annotation>{thing()}</annotation>"
    write(tmp_path / "Annotations" / "Horizontal Bounding Boxes" / "00001.xml", text)
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "00001\n")
    labels = "Annotations/Horizontal Bounding Boxes"
    found = open_regions(RegionSource(".", "voc", "train", "JPEGImages-trainval", labels), tmp_path)
    assert boxes(found) == [("ship", (0, 0, 200, 100))]


def test_voc_sizes_are_not_trusted(tmp_path: Path) -> None:
    voc(tmp_path, thing(edges=(1, 1, 10, 10)))
    file = tmp_path / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<width>200", "<width>0"))
    found = open_regions(RegionSource(".", "voc"), tmp_path)
    assert (found.record(0).width, found.record(0).height) == (200, 100)
    assert found.notes == ("1 sizes in XML that the image contradicts",)


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
STEAL = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("inner", "head", "said"),
    [
        (thing("&b;"), BOMB, "document type"),
        (thing("&a;"), STEAL, "document type"),
        (thing("&a;"), "", "not XML"),
        ("<object>", "", "not XML"),
        (thing(edges=(30, 1, 20, 9)), "", "empty or inverted"),
        (thing(edges=(300, 1, 320, 9)), "", "outside"),
        (thing(edges=("x", 1, 20, 9)), "", "no list of numbers"),
        (thing(""), "", "neither a category nor a text"),
        ("<object><name>a</name></object>", "", "no bndbox"),
        ("<object><name>a</name><bndbox><xmin>1</xmin></bndbox></object>", "", "lacks one"),
    ],
)
def test_bad_xml(tmp_path: Path, inner: str, head: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_regions(RegionSource(".", "voc"), voc(tmp_path, inner, head))


def test_xml_cannot_hide_a_document_type_in_another_encoding(tmp_path: Path) -> None:
    voc(tmp_path, "")
    file = tmp_path / "Annotations" / "a.xml"
    file.write_bytes((BOMB + "<annotation/>").encode("utf-16"))
    with pytest.raises(SourceError, match="not UTF-8"):
        open_regions(RegionSource(".", "voc"), tmp_path)
    text = b'<?xml version="1.0" encoding="cp037"?>' + (BOMB + "<annotation/>").encode("cp037")
    file.write_bytes(text)
    with pytest.raises(SourceError):
        open_regions(RegionSource(".", "voc"), tmp_path)


def test_xml_of_nothing_but_depth_is_survived(tmp_path: Path) -> None:
    found = open_regions(RegionSource(".", "voc"), voc(tmp_path, "<a>" * 100_000 + "</a>" * 100_000 + thing()))
    assert len(found.record(0).regions) == 1


def test_large_label_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoglot.data.regions.voc.LARGEST_XML", 64)
    with pytest.raises(SourceError, match="the limit is 64"):
        open_regions(RegionSource(".", "voc"), voc(tmp_path, thing() * 9))


# --- MGRS-200k -----------------------------------------------------------------------------------


def segment(*values: float, category: str = "ship", number: int = 3, **more: Any) -> dict[str, Any]:
    keys = ("y9", "k", "x1", "a", "W", "H")  # any names: the order counts
    return {"bbox": dict(zip(keys, values, strict=False)), "category": category, "category_id": number, **more}


def mgrs(folder: Path, *segments: dict[str, Any], **more: Any) -> Path:
    draw(folder / "global_imgs" / "x" / "1.png")
    row = {"global_filepath": "x/1.png", "segment": list(segments)} | more
    write(folder / "text_info.json", json.dumps([row]))
    return folder


def test_mgrs_reads_boxes_by_order(tmp_path: Path) -> None:
    plane = segment(4, 5, 6, 7, 200, 100, category="plane", number=1, cap=" a  white plane ")
    mgrs(tmp_path, segment(10, 20, 30, 40, 200, 100), plane)
    found = open_regions(RegionSource(".", "mgrs"), tmp_path)
    assert found.categories == ("plane", "ship")  # by their ids
    assert boxes(found) == [("ship", (10, 20, 30, 40)), ("plane", (4, 5, 6, 7))]
    assert found.record(0).regions[1].text == "a white plane"


def test_mgrs_captions_come_in_the_loaders_order(tmp_path: Path) -> None:
    mgrs(tmp_path, brief_caption="short", detailed_caption="long", global_caption=" ")
    found = open_regions(RegionSource(".", "mgrs"), tmp_path)
    assert found.record(0).captions == ("long", "short")
    assert (found.record(0).width, found.record(0).height) == (WIDTH, HEIGHT)  # no box tells it


def test_mgrs_minus_one_is_no_category(tmp_path: Path) -> None:
    mgrs(tmp_path, segment(1, 2, 3, 4, 200, 100, category="", number=-1, cap="two boats"))
    found = open_regions(RegionSource(".", "mgrs"), tmp_path)
    assert found.categories == ()
    assert (found.record(0).regions[0].category, found.record(0).regions[0].text) == ("", "two boats")
    mgrs(tmp_path, segment(1, 2, 3, 4, 200, 100), segment(1, 2, 3, 9, 200, 100, number=-1, cap="two boats"))
    assert open_regions(RegionSource(".", "mgrs"), tmp_path).categories == ("ship",)


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([segment(10, 20, 30, 40)], "six values"),
        ([segment(10, 20, 30, 40, 200, 100) | {"bbox": [10, 20, 30, 40, 200, 100]}], "six values"),
        ([segment(30, 20, 10, 40, 200, 100)], "empty or inverted"),
        ([segment(300, 20, 310, 40, 200, 100)], "outside"),
        ([segment(10, 20, 30, 40, 200, -1)], "an image of"),
        ([segment(1, 2, 3, 4, 200, 100), segment(1, 2, 3, 4, 100, 200)], "different sizes"),
        ([segment(1, 2, 3, 4, 200, 100, category=" ")], "neither a category nor a text"),
        ([segment(1, 2, 3, 4, 200, 100, cap=7)], "cap 7 is no text"),
        ([segment(1, 2, 3, 4, 200, 100), segment(1, 2, 3, 4, 200, 100, number=4)], "the ids 3 and 4"),
        ([segment(1, 2, 3, 4, 200, 100), segment(1, 2, 3, 4, 200, 100, category="b")], "gives the id 3"),
    ],
)
def test_bad_mgrs_records(tmp_path: Path, segments: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_regions(RegionSource(".", "mgrs"), mgrs(tmp_path, *segments))


def test_mgrs_names_no_file_outside(tmp_path: Path) -> None:
    mgrs(tmp_path, global_filepath="../../etc/passwd")
    with pytest.raises(SourceError, match="no path inside"):
        open_regions(RegionSource(".", "mgrs"), tmp_path)
    with pytest.raises(SourceError, match="one split"):
        open_regions(RegionSource(".", "mgrs", "val"), tmp_path)


# --- one world in five layouts -------------------------------------------------------------------

Box = tuple[int, int, int, int, str]


def as_coco(folder: Path, world: list[Box]) -> None:
    draw(folder / "images" / "a.png")
    things = [
        {"id": i, "image_id": 0, "category_id": 0 if n == "ship" else 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for i, (x0, y0, x1, y1, n) in enumerate(world)
    ]
    names = [{"id": 0, "name": "ship"}, {"id": 1, "name": "plane"}]
    raw = {"images": [{"id": 0, "file_name": "a.png"}], "annotations": things, "categories": names}
    write(folder / "instances.json", json.dumps(raw))


def as_yolo(folder: Path, world: list[Box]) -> None:
    shares = ((x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT, n) for x0, y0, x1, y1, n in world)
    lines = [f"{n != 'ship':d} {(a + c) / 2} {(b + d) / 2} {c - a} {d - b}" for a, b, c, d, n in shares]
    yolo(folder, "\n".join(lines))


def as_dota(folder: Path, world: list[Box]) -> None:
    dota(folder, HEAD + "".join(f"{x0} {y0} {x1} {y0} {x1} {y1} {x0} {y1} {n} 0\n" for x0, y0, x1, y1, n in world))


def as_voc(folder: Path, world: list[Box]) -> None:
    voc(folder, "".join(thing(n, (x0 + 1, y0 + 1, x1, y1)) for x0, y0, x1, y1, n in world))


def as_mgrs(folder: Path, world: list[Box]) -> None:
    mgrs(folder, *(segment(*b[:4], WIDTH, HEIGHT, category=b[4], number=int(b[4] != "ship")) for b in world))


WRITERS: dict[str, Callable[[Path, list[Box]], None]] = {
    "coco": as_coco, "yolo": as_yolo, "dota": as_dota, "voc": as_voc, "mgrs": as_mgrs,
}  # fmt: skip


@st.composite
def worlds(choose: st.DrawFn) -> list[Box]:
    def one() -> Box:
        x0, y0 = choose(st.integers(0, WIDTH - 1)), choose(st.integers(0, HEIGHT - 1))
        x1, y1 = choose(st.integers(x0 + 1, WIDTH)), choose(st.integers(y0 + 1, HEIGHT))
        return x0, y0, x1, y1, choose(st.sampled_from(["ship", "plane"]))

    return [one() for _ in range(choose(st.integers(0, 5)))]


@settings(max_examples=15, deadline=None)
@given(worlds())
def test_all_layouts_tell_the_same_world(tmp_path_factory: pytest.TempPathFactory, world: list[Box]) -> None:
    for layout, tell in WRITERS.items():
        folder = tmp_path_factory.mktemp(layout)
        tell(folder, world)
        found = open_regions(RegionSource(".", layout), folder)  # type: ignore[arg-type]
        assert [(name, np.round(box).tolist()) for name, box in boxes(found)] == [(b[4], list(b[:4])) for b in world]
        assert found.skipped == ()
