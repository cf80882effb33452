"""The country on disk: files, coordinates, catalogue and truth; and the plan at several resolutions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from pyproj import Geod, Transformer

from geoglot.errors import StorageError, UnknownNameError
from geoglot_sandbox.captions import LANGUAGES
from geoglot_sandbox.concepts import CONCEPTS
from geoglot_sandbox.country import CountryReport, draw_country, render_scene
from geoglot_sandbox.materials import Style
from geoglot_sandbox.painter import Painted, Sun, View, paint
from geoglot_sandbox.plan import Country
from geoglot_sandbox.rasters import EAST_0, NORTH_0, place
from geoglot_sandbox.scenes import SCENES, UTM, SceneSpec, scene_set

SMALL = scene_set("small")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> CountryReport:
    return draw_country(tmp_path_factory.mktemp("country") / "Land & Meer ü", 7, scenes="small")


def _scene(name: str) -> SceneSpec:
    return next(s for s in SMALL if s.name == name)


@pytest.mark.parametrize("spec", SMALL, ids=lambda s: s.name)
def test_scene_files(drawn: CountryReport, spec: SceneSpec) -> None:
    with rasterio.open(drawn.folder / "scenes" / f"{spec.name}.tif") as file:
        assert file.crs.to_string() == spec.crs
        assert (file.width, file.height) == spec.size_px
        assert file.dtypes[0] == spec.sensor.dtype
        assert file.descriptions == spec.sensor.bands
        assert file.tags()["GEOGLOT_SYNTHETIC"] == "true"
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.read(1).std() > 1
        to_degrees = Transformer.from_crs(file.crs, "EPSG:4326", always_xy=True)
        start, end = (to_degrees.transform(*file.xy(spec.size_px[1] // 2, column)) for column in (0, spec.size_px[0]))
        across = Geod(ellps="WGS84").inv(*start, *end)[2] / spec.size_px[0]
        assert across == pytest.approx(spec.sensor.gsd_m, rel=2e-3)


def test_three_coordinate_systems_and_four_sensors() -> None:
    assert {s.crs for s in SCENES} == {"EPSG:32710", "EPSG:4326", "EPSG:3857"}
    assert len({s.sensor.platform for s in SCENES}) == 4
    assert len({s.acquired for s in SCENES}) == len(SCENES)


@pytest.mark.parametrize("spec", SCENES, ids=lambda s: s.name)
def test_view_and_transform_agree(spec: SceneSpec) -> None:
    """The slow way: every corner of the file, back in world metres, must be where the painter drew it."""
    placement = place(spec)
    to_world = Transformer.from_crs(spec.crs, UTM, always_xy=True)
    a, b, c, d, e, f = placement.view.to_px
    for px in ((0, 0), (spec.size_px[0], 0), (0, spec.size_px[1]), spec.size_px):
        east, north = to_world.transform(*rasterio.transform.xy(placement.transform, px[1], px[0], offset="ul"))
        x, y = east - EAST_0, north - NORTH_0
        assert (a * x + b * y + c, d * x + e * y + f) == pytest.approx(px, abs=0.3)


def test_catalogue(drawn: CountryReport) -> None:
    catalog = pystac.Catalog.from_file(str(drawn.catalog))
    items = {item.id: item for item in catalog.get_items()}
    assert set(items) == {s.name for s in SMALL}
    for spec in SMALL:
        item = items[spec.name]
        assert item.datetime == spec.acquired
        assert item.properties["geoglot:synthetic"] is True
        assert item.properties["platform"].startswith("sandbox-")
        assert item.properties["gsd"] == spec.sensor.gsd_m
        for asset in item.assets.values():
            assert not asset.href.startswith("/")
            assert Path(asset.get_absolute_href() or "").is_file()
        west, south, east, north = item.bbox or ()
        assert west < east
        assert south < north < -48


@pytest.mark.parametrize("spec", SMALL, ids=lambda s: s.name)
def test_truth(drawn: CountryReport, spec: SceneSpec) -> None:
    truth = json.loads((drawn.folder / "truth" / f"{spec.name}.json").read_text("utf-8"))
    with rasterio.open(drawn.folder / "truth" / f"{spec.name}.mask.tif") as file:
        mask = file.read(1)
    assert truth["synthetic"] is True
    assert set(truth["captions"]) == set(LANGUAGES)
    assert mask.shape == spec.size_px[::-1]
    named = {CONCEPTS[i] for i in np.unique(mask)}
    assert named == set(truth["classes"])
    for record in truth["instances"]:
        x0, y0, x1, y1 = record["box_px"]
        assert 0 <= x0 < x1 <= spec.size_px[0]
        assert 0 <= y0 < y1 <= spec.size_px[1]
        assert 9 <= record["area_px"] <= (x1 - x0) * (y1 - y0)
    ids = {record["id"] for record in truth["instances"]}
    assert {e["instance"] for e in truth["expressions"]} <= ids
    assert all(set(e["text"]) == set(LANGUAGES) for e in truth["expressions"])


def test_instances_lie_in_their_class(drawn: CountryReport) -> None:
    """Most pixels in the boxes of solid objects carry the class of the object in the mask."""
    for name, concept in (("airport", "airplane"), ("mobile-homes", "mobile_home")):
        _, painted, world, _ = render_scene(Country(7), _scene(name))
        for number in np.unique(painted.objects)[1:]:
            if world.objects[number - 1] == concept:
                assert (painted.mask[painted.objects == number] == CONCEPTS.index(concept)).mean() > 0.9


def test_seeds() -> None:
    spec = _scene("marina")
    one, two, other = (render_scene(Country(seed), spec)[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != other).mean() > 0.3


def _paint(country: Country, centre: tuple[float, float], side_m: float, gsd: float) -> Painted:
    left, top = centre[0] - side_m / 2, centre[1] + side_m / 2
    size = round(side_m / gsd)
    world = country.draw((left, top - side_m, left + side_m, top), gsd, Style())
    return paint(world, View.north_up(left, top, gsd, (size, size)), Sun(), 7)


@pytest.mark.parametrize(
    ("centre", "side_m", "fine", "coarse", "least"),
    [
        ((4800.0, 4900.0), 180.0, 0.5, 1.5, 0.9),
        ((8960.0, 4000.0), 700.0, 1.5, 10.0, 0.9),
        ((2350.0, 1500.0), 700.0, 3.0, 10.0, 0.9),
    ],
)
def test_one_place_at_two_resolutions(
    centre: tuple[float, float], side_m: float, fine: float, coarse: float, least: float
) -> None:
    """The class at the centre of each coarse pixel is that of the fine pixel there, small things aside."""
    country = Country(7)
    sharp, blurred = _paint(country, centre, side_m, fine).mask, _paint(country, centre, side_m, coarse).mask
    at = ((np.arange(blurred.shape[0]) + 0.25) * coarse / fine).astype(int)
    below = sharp[np.ix_(at, at)]
    small = np.isin(below, [CONCEPTS.index(n) for n in ("tree", "car", "house", "building", "warehouse")])
    assert (~small).mean() > 0.4
    assert (below == blurred)[~small].mean() > least


def test_overlapping_windows_show_the_same_ground() -> None:
    country = Country(7)
    whole = _paint(country, (5000.0, 6000.0), 120.0, 0.5)
    part = _paint(country, (5015.0, 6015.0), 60.0, 0.5)
    rows, cols = slice(30, 150), slice(90, 210)
    assert (whole.mask[rows, cols] == part.mask).mean() > 0.99
    assert np.abs(whole.rgb[rows, cols] - part.rgb).mean() < 2


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        draw_country(tmp_path, scenes="huge")  # type: ignore[arg-type]
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StorageError):
        draw_country(blocked, scenes="small")
