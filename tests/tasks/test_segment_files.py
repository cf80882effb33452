"""What a segmentation leaves: rasters on the scene's grid, polygons that are the raster, legends, reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from patch_colours import PatchColours, quarters
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.features import rasterize
from rasterio.transform import from_origin

from geoglot.archive.archive import Archive
from geoglot.archive.ingest import ingest
from geoglot.errors import StorageError, UnknownNameError, UsageError
from geoglot.imagery.grid import ChipGrid
from geoglot.imagery.polygons import area_polygons, scene_place
from geoglot.imagery.scene import open_scene
from geoglot.imagery.vector_stream import write_stream
from geoglot.imagery.vectors import Feature, to_geojson
from geoglot.tasks.registry import find_task
from geoglot.tasks.segment.classes import AskedClass
from geoglot.tasks.segment.scene import SegmentReport, SegmentRequest, plan_scene, prefixes, segment_scene
from geoglot.tasks.segment.segmenter import Segmenter, SegmentSettings

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
NAMES = ("water", "forest", "sand", "roof")


def write(path: Path, rgb: NDArray[np.uint8], *, crs: str | None = "EPSG:32636", nodata: int | None = None) -> Path:
    profile: dict[str, Any] = {"driver": "GTiff", "width": rgb.shape[1], "height": rgb.shape[0], "nodata": nodata}
    if crs:
        profile |= {"crs": crs, "transform": from_origin(500_000.0, 100_000.0, 2, 2)}
    with rasterio.open(path, "w", count=3, dtype="uint8", **profile) as out:
        out.write(rgb.transpose(2, 0, 1))
    return path


def holed() -> NDArray[np.uint8]:
    """Four quarters, a lake inside the forest, and a corner without data."""
    rgb = quarters(160, NAMES)
    rgb[24:48, 104:128] = rgb[0, 0]
    rgb[130:, 130:] = 0
    return rgb


def run(path: Path, out: Path, **more: Any) -> SegmentReport:
    segmenter = Segmenter(PatchColours(), ["water,sea", "forest", "roof"], SegmentSettings(background=("sand",)))
    with open_scene(path) as scene:
        return segment_scene(segmenter, scene, out, **more)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SegmentReport]:
    folder = tmp_path_factory.mktemp("segmented")
    path = write(folder / "scene.tif", holed())
    return folder / "out", run(path, folder / "out", vectors=("geojson", "gpkg", "parquet"))


def read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as data:
        return np.asarray(data.read(1))


def test_the_class_map_lies_on_the_scene_s_grid(done: tuple[Path, SegmentReport]) -> None:
    out, report = done
    with rasterio.open(out / "classes.tif") as classes, rasterio.open(out.parent / "scene.tif") as scene:
        assert (classes.crs, classes.transform, classes.shape) == (scene.crs, scene.transform, scene.shape)
        assert (classes.dtypes, classes.nodata) == (("uint8",), 255)
        assert classes.colorinterp == (ColorInterp.palette,)
        assert json.loads(classes.tags()["GEOGLOT_LABELS"]) == ["background", "water", "forest", "roof"]
        assert classes.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        values, table = classes.read(1), classes.colormap(1)
    assert [values[20, 20], values[20, 150], values[36, 116], values[140, 20], values[100, 150]] == [1, 2, 1, 0, 3]
    assert ((values == 255) == (holed() == 0).all(axis=-1)).all()
    for entry in report.classes:
        assert "#{:02x}{:02x}{:02x}".format(*table[entry.value][:3]) == entry.colour
        assert entry.pixels == (values == entry.value).sum()
    assert not list(out.glob(".*"))  # no drafts are left


def test_confidence_is_percent_and_nodata_stays(done: tuple[Path, SegmentReport]) -> None:
    classes, confidence = read(done[0] / "classes.tif"), read(done[0] / "confidence.tif")
    assert ((confidence == 255) == (classes == 255)).all()
    held = confidence[classes != 255]
    assert held.max() <= 100
    assert held[0] > 90


def test_polygons_are_the_raster_holes_and_all(done: tuple[Path, SegmentReport]) -> None:
    out, report = done
    values = read(out / "classes.tif")
    with rasterio.open(out / "classes.tif") as data:
        grid, crs = data.transform, data.crs
    body = json.loads((out / "polygons.geojson").read_text())
    assert len(body["features"]) == report.polygons
    assert {f["properties"]["class"] for f in body["features"]} == {"water", "forest", "roof"}  # no background
    from pyproj import Transformer

    back = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    shapes = []
    for feature in body["features"]:
        polygon = shapely.geometry.shape(feature["geometry"])
        assert polygon.exterior.is_ccw
        assert not any(hole.is_ccw for hole in polygon.interiors)
        placed = shapely.transform(polygon, lambda c: np.column_stack(back.transform(c[:, 0], c[:, 1])))
        shapes.append((placed, feature["properties"]["value"]))
        assert feature["properties"]["area_m2"] == pytest.approx(placed.area, rel=0.01)
        assert feature["properties"]["pixels"] == pytest.approx(placed.area / 4, rel=0.001)
    drawn = rasterize(shapes, out_shape=values.shape, transform=grid, fill=0)
    assert (drawn == np.where(values == 255, 0, values)).all()
    assert any(polygon.interiors for polygon, value in shapes if value == 2)  # the lake is a hole of the forest


def test_the_three_formats_agree(done: tuple[Path, SegmentReport]) -> None:
    out, report = done
    import pyogrio.raw

    features = json.loads((out / "polygons.geojson").read_text())["features"]
    table = pq.read_table(out / "polygons.parquet")
    assert json.loads(table.schema.metadata[b"geo"])["version"] == "1.1.0"
    meta, _, wkb, fields = pyogrio.raw.read(out / "polygons.gpkg")
    assert meta["crs"] == "EPSG:4326"
    assert table.num_rows == len(features) == len(wkb) == report.polygons
    named = dict(zip(meta["fields"].tolist(), fields, strict=True))
    for i, feature in enumerate(features):
        shape = shapely.geometry.shape(feature["geometry"])
        for other in (table["geometry"][i].as_py(), wkb[i]):
            assert shapely.from_wkb(other).equals_exact(shapely.MultiPolygon([shape]), 1e-9)
        assert feature["properties"]["class"] == table["class"][i].as_py() == named["class"][i]


def test_legends_and_picture(done: tuple[Path, SegmentReport]) -> None:
    out, report = done
    legend = json.loads((out / "legend.json").read_text())
    assert [entry["name"] for entry in legend["classes"]] == ["background", "water", "forest", "roof"]
    assert legend["classes"][1]["words"] == ["water", "sea"]
    assert sum(entry["share"] for entry in legend["classes"]) == pytest.approx(1, abs=1e-4)
    style = ElementTree.parse(out / "classes.qml")
    entries = [(int(e.get("value", -1)), e.get("label"), e.get("color")) for e in style.iter("paletteEntry")]
    assert entries == [(e.value, e.name, e.colour) for e in report.classes]
    with Image.open(out / "picture.png") as picture:
        assert picture.width > 2 * 160
    assert set(report.files) == {file.name for file in out.iterdir()}
    assert json.loads(json.dumps(report.to_dict()))["windows"] == report.windows
    assert report.nodata == pytest.approx(900 / 160**2, abs=1e-4)


@pytest.mark.parametrize("town", ["Siedlung: roof", AskedClass("Siedlung", ("roof",))], ids=["text", "value"])
def test_a_name_reaches_map_legend_and_polygons_unchanged(tmp_path: Path, town: str | AskedClass) -> None:
    segmenter = Segmenter(PatchColours(), [town, "water"])
    with open_scene(write(tmp_path / "scene.tif", holed())) as scene:
        segment_scene(segmenter, scene, tmp_path / "out")
    names = ["background", "Siedlung", "water"]
    with rasterio.open(tmp_path / "out" / "classes.tif") as data:
        assert json.loads(data.tags()["GEOGLOT_LABELS"]) == names
    legend = json.loads((tmp_path / "out" / "legend.json").read_text())["classes"]
    assert [entry["name"] for entry in legend] == names
    assert legend[1]["words"] == ["roof"]
    areas = json.loads((tmp_path / "out" / "polygons.geojson").read_text())["features"]
    assert {area["properties"]["class"] for area in areas} == {"Siedlung", "water"}


def test_without_a_place_all_is_in_pixels_and_that_is_said(tmp_path: Path) -> None:
    report = run(write(tmp_path / "scene.tif", holed(), crs=None), tmp_path / "out", vectors=("geojson", "gpkg"))
    assert any("no ground sample distance" in note for note in report.notes)
    assert any("no place on the earth" in note for note in report.notes)
    assert report.window_m is None
    assert report.classes[1].area_m2 is None
    with rasterio.open(tmp_path / "out" / "classes.tif") as data:
        assert data.crs is None
    body = json.loads((tmp_path / "out" / "polygons.geojson").read_text())
    assert "not lon/lat" in body["frame"]
    assert "bbox" not in body
    rows = np.concatenate([np.array(f["geometry"]["coordinates"][0]) for f in body["features"]])
    assert (rows[:, 0].min(), rows[:, 0].max()) == (0, 160)
    assert (rows[:, 1].min(), rows[:, 1].max()) == (-160, 0)


def test_a_plan_reads_nothing_and_bad_wishes_are_refused(tmp_path: Path) -> None:
    path, encoder = write(tmp_path / "scene.tif", holed()), PatchColours()
    segmenter = Segmenter(encoder, ["water", "forest"])
    with open_scene(path) as scene:
        plan = plan_scene(segmenter, scene)
        assert (plan.width, plan.windows > 1, plan.files, encoder.seen) == (160, True, (), [])
        with pytest.raises(UnknownNameError, match="geojsn"):
            segment_scene(segmenter, scene, tmp_path / "out", vectors=("geojsn",))
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="cannot make"):
            segment_scene(segmenter, scene, tmp_path / "file")
    assert not (tmp_path / "out").exists()


def test_a_refiner_sees_the_pixels_and_nodata_is_put_back(tmp_path: Path) -> None:
    class Stand:
        """Everything is water where the picture is blue, and nothing anywhere else."""

        def refine(self, image: NDArray[np.uint8], values: NDArray[np.uint8]) -> NDArray[np.uint8]:
            assert image.shape[:2] == values.shape
            return np.where(image[..., 2] > 200, 1, 0).astype(np.uint8)

    path = write(tmp_path / "scene.tif", holed())
    segmenter = Segmenter(PatchColours(), ["water", "forest"], refiner=Stand())
    with open_scene(path) as scene:
        segment_scene(segmenter, scene, tmp_path / "out", vectors=())
    rgb = holed()
    wanted = np.where((rgb == 0).all(axis=-1), 255, rgb[..., 2] > 200)
    assert (read(tmp_path / "out" / "classes.tif") == wanted).all()  # to the pixel, unlike patches


def test_large_scenes_are_written_block_by_block(tmp_path: Path) -> None:
    rgb = np.tile(quarters(160, NAMES), (7, 9, 1))
    report = run(write(tmp_path / "scene.tif", rgb), tmp_path / "out", vectors=())
    values = read(tmp_path / "out" / "classes.tif")
    assert values.shape == (1120, 1440)
    middle = values[40::80, 40::80]
    assert (middle == np.tile([[1, 2], [0, 3]], (7, 9))).all()
    assert sum(entry.pixels for entry in report.classes) == 1120 * 1440


# --- parts ---------------------------------------------------------------------------------------


def test_areas_over_the_antimeridian_are_cut(tmp_path: Path) -> None:
    values = np.full((20, 20), 1, np.uint8)
    values[8:12, 8:12] = 0
    path = tmp_path / "values.tif"
    place = {"crs": "EPSG:4326", "transform": from_origin(179.9, 10, 0.01, 0.01)}
    with rasterio.open(path, "w", driver="GTiff", width=20, height=20, count=1, dtype="uint8", **place) as out:
        out.write(values, 1)
    with open_scene(path) as scene:
        corners, on_earth = scene_place(scene)
        assert on_earth
        (feature,) = area_polygons(path, corners, on_earth, {1: {"class": "x"}})
    assert feature.properties == {"class": "x", "pixels": 384, "area_m2": None}
    assert len(feature.rings) == 2
    assert all(-180 <= lon <= 180 for ring in feature.rings for lon, _ in ring)
    shape = shapely.geometry.shape(to_geojson([feature])["features"][0]["geometry"])
    assert shape.area == pytest.approx(384e-4, rel=1e-6)


def test_streams_of_many_batches_and_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoglot.imagery.vector_stream.BATCH", 3)
    ring = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0))
    paths = {name: tmp_path / f"x.{name}" for name in ("geojson", "parquet", "gpkg")}
    features = [Feature((ring,), {"n": i, "area": float(i) if i else None}) for i in range(8)]
    assert write_stream(iter(features), paths) == 8
    assert [f["properties"]["n"] for f in json.loads(paths["geojson"].read_text())["features"]] == list(range(8))
    assert pq.read_table(paths["parquet"])["n"].to_pylist() == list(range(8))
    import pyogrio.raw

    assert len(pyogrio.raw.read(paths["gpkg"])[2]) == 8
    assert write_stream([], paths) == 0
    assert json.loads(paths["geojson"].read_text()) == {"type": "FeatureCollection", "features": []}
    with pytest.raises(UnknownNameError):
        write_stream([], {"shp": tmp_path / "x.shp"})


# --- over an archive -----------------------------------------------------------------------------


def test_the_job_segments_the_chosen_scenes(tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for name in ("one.tif", "two.tif", "other.tif"):
        write(scenes / name, holed())
    ingest(tmp_path / "archive", [scenes], PatchColours(), ChipGrid(ground_m=(160.0,), min_px=8, overlap=0.0))
    archive = Archive.open(tmp_path / "archive", PatchColours())
    request = SegmentRequest(classes=("water", "forest"), scene=("one.tif", "two.tif"), vectors=())
    task = find_task("segment")
    assert sorted(info.name for info in task.reads(archive, request)) == ["one.tif", "two.tif"]
    told: list[float] = []
    (tmp_path / "out").mkdir()
    task.run_job(archive, request, tmp_path / "out", lambda share, words: told.append(share))
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {f"{s}-{n}" for s in ("one", "two") for n in ("classes.tif", "classes.qml", "legend.json")} <= names
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)
    with pytest.raises(UsageError, match="no class"):
        task.run_job(archive, SegmentRequest(), tmp_path / "out", lambda share, words: None)
    with pytest.raises(UsageError, match="no scene is chosen"):
        SegmentRequest(bbox=(0.0, 0.0, 1.0, 1.0)).reads(archive)


def test_files_of_scenes_with_one_name_are_told_apart(tmp_path: Path) -> None:
    infos = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        with open_scene(write(tmp_path / folder / "Bild für später.tif", quarters(16, NAMES))) as scene:
            infos.append(scene.info)
    assert prefixes(infos[:1]) == ["Bild_für_später-"]
    assert len(set(prefixes(infos))) == 2
