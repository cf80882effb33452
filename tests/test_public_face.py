"""The public names: typed as they are loaded, few, and with examples that run; results show themselves and convert."""

from __future__ import annotations

import ast
import doctest
import json
import re
import shutil
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

import geoglot
from geoglot import api
from geoglot.archive.answers import SearchResult, flat, format_answer
from geoglot.errors import StorageError
from geoglot_sandbox.samples import draw_sample

ROOT = Path(__file__).resolve().parents[1]
SIDE = 300


def _write_scene(path: Path, kind: str, seed: int, *, placed: bool = True) -> None:
    pixels = draw_sample(kind, seed, SIDE, gsd_m=0.6).rgb
    path.parent.mkdir(parents=True, exist_ok=True)
    where = {"crs": "EPSG:32710", "transform": from_origin(500_000, 4_590_000, 0.6, 0.6)} if placed else {}
    with rasterio.open(path, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8", **where) as out:
        out.write(np.moveaxis(pixels, 2, 0))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, an archive of them, a tiny benchmark set and a recipe's settings."""
    folder = tmp_path_factory.mktemp("world")
    for kind in ("harbor", "forest"):
        _write_scene(folder / "scenes" / f"{kind}.tif", kind, 3)
    _write_scene(folder / "nowhere <b>.tif", "harbor", 3, placed=False)
    for name in ("Airport", "Forest"):
        for number in range(2):
            _write_scene(folder / "data" / "WHU-RS19" / name / f"{number}.tif", name.lower(), number)
    shutil.copy(ROOT / "configs" / "contrastive.toml", folder)
    geoglot.index(folder / "made", folder / "scenes")
    return folder


# --- names ---------------------------------------------------------------------------------------


def _declared() -> dict[str, str]:
    """Name -> module of the imports under TYPE_CHECKING."""
    tree = ast.parse(Path(str(geoglot.__file__)).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_type_checkers_see_what_is_loaded() -> None:
    assert _declared() == geoglot._PUBLIC
    assert set(geoglot.__all__) == {"__version__", *geoglot._PUBLIC}


def test_about_thirty_names() -> None:
    assert 25 <= len(geoglot._PUBLIC) <= 35
    for name in geoglot._PUBLIC:
        assert (getattr(geoglot, name).__doc__ or "").strip(), name


# --- examples ------------------------------------------------------------------------------------

VERBS = [name for name, module in geoglot._PUBLIC.items() if module == "geoglot.api"]


def test_each_verb_has_an_example() -> None:
    assert [name for name in VERBS if ">>>" not in (getattr(api, name).__doc__ or "")] == []


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "train" else n for n in VERBS])
def test_examples_run(name: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "train" and find_spec("torch") is None:
        pytest.skip("training needs PyTorch")
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    if name != "index":
        (tmp_path / "made").rename(tmp_path / "my-archive")
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder(recurse=False).find(getattr(api, name), name, globs={"geoglot": geoglot})
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    results = [runner.run(test, out=told.append) for test in found]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0, "".join(told)


# --- results -------------------------------------------------------------------------------------


class _Seen(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def answer(world: Path) -> SearchResult:
    return geoglot.search(world / "made", "boats in a harbour")


def test_an_answer_shows_itself(answer: SearchResult) -> None:
    seen = _Seen(answer._repr_html_())
    assert seen.tags.count("img") == len(answer.matches) > 0
    assert "harbor.tif" in seen.text
    assert f"{len(answer.matches)} match" in seen.text
    assert "script" not in seen.tags


def test_an_answer_without_its_scenes_says_so(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "scenes", tmp_path / "gone <i>")
    geoglot.index(tmp_path / "archive", tmp_path / "gone <i>")
    asked = geoglot.search(tmp_path / "archive", "boats in a harbour")
    shutil.rmtree(tmp_path / "gone <i>")
    seen = _Seen(asked._repr_html_())
    assert "img" not in seen.tags
    assert "cannot be read" in seen.text
    assert seen.tags.count("i") == len(asked.matches)  # "no picture"; the name's <i> is escaped


def test_an_answer_converts(answer: SearchResult, tmp_path: Path) -> None:
    """Against the slow way: each match by hand."""
    geopandas = pytest.importorskip("geopandas")
    collection = answer.to_geojson()
    assert json.dumps(collection["features"]) in json.dumps(json.loads(format_answer(answer, "q", "geojson")))
    frame = answer.to_geodataframe()
    assert frame.crs.to_epsg() == 4326
    assert len(frame) == len(answer.matches) == answer.to_arrow().num_rows == len(collection["features"])
    for row, feature, match in zip(frame.itertuples(), collection["features"], answer.matches, strict=True):
        assert row.geometry.equals(shapely.Polygon(match.chip.footprint_lonlat[0]))
        assert shapely.geometry.shape(feature["geometry"]).equals(row.geometry)
        expected = flat(match)
        assert (row.rank, row.scene, row.chip_id) == (expected["rank"], expected["scene"], expected["chip_id"])
        assert row.score == expected["score"]
    pq.write_table(answer.to_arrow(), tmp_path / "answer.parquet")
    assert geopandas.read_parquet(tmp_path / "answer.parquet").geometry.equals(frame.geometry)


def test_a_segmentation_shows_itself_and_converts(world: Path, tmp_path: Path) -> None:
    areas = geoglot.segment(world / "scenes" / "harbor.tif", ["water <b>", "building,roof"], tmp_path / "out")
    seen = _Seen(areas._repr_html_())
    assert seen.tags.count("img") == 1
    assert "b" not in seen.tags
    values = areas.class_map()
    assert values.shape == (SIDE, SIDE)
    pytest.importorskip("geopandas")
    frame = areas.to_geodataframe()
    assert frame.crs.to_epsg() == 4326
    assert set(frame["value"]) == set(np.unique(values).tolist()) - {0, 255}
    metres = frame.to_crs("EPSG:32710").area.groupby(frame["value"]).sum()
    for value, area in metres.items():
        assert area == pytest.approx((values == value).sum() * 0.36, rel=0.01)


def test_a_scene_without_a_place_converts_in_pixels(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("geopandas")
    areas = geoglot.segment(world / "nowhere <b>.tif", ["water", "building"], tmp_path / "out")
    frame = areas.to_geodataframe()
    assert frame.crs is None
    west, south, east, north = frame.total_bounds
    assert 0 <= west < east <= SIDE
    assert -SIDE <= south < north <= 0
    assert "<b>" not in areas._repr_html_()


def test_a_localization_shows_itself_and_converts(world: Path, tmp_path: Path) -> None:
    places = geoglot.localize(world / "scenes" / "harbor.tif", ["boats at a pier", "a forest"], tmp_path / "out")
    seen = _Seen(places._repr_html_())
    assert seen.tags.count("img") == 2
    assert "boats at a pier" in seen.text
    assert places.heat().shape[0] == 2
    regions = [region for row in places.report["sentences"] for region in row["regions"]]
    assert places.to_arrow().num_rows == len(regions) == len(places.to_geojson()["features"])
    assert places.to_arrow().column("sentence").to_pylist() == [region["sentence"] for region in regions]
    (tmp_path / "out" / "regions.geojson").unlink()
    with pytest.raises(StorageError):
        places.to_geojson()


def test_the_version_is_written_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", geoglot.__version__)
    version = re.compile(r'^\W*version\W+"?\d', re.MULTILINE)
    others = (ROOT / "pyproject.toml", ROOT / "web" / "package.json")
    assert [path.name for path in others if version.search(path.read_text("utf-8"))] == []
