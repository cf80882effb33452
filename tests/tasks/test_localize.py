"""Localization: maps against slow twins, and what is written, on drawn scenes whose truth is known."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin
from typer.testing import CliRunner

from geoglot.errors import EmptyQueryError, TooLargeError, UnknownNameError, UsageError
from geoglot.imagery.grid import ScaleGrid
from geoglot.imagery.scene import open_scene
from geoglot.models.card import Card
from geoglot.models.zoo.origin import Preprocess
from geoglot.scoring.blobs import blobs
from geoglot.tasks.localize import localizer
from geoglot.tasks.localize.localizer import Heat, LocalizeSettings, localize_scene, make_plan
from geoglot.tasks.localize.maps import stretched
from geoglot.tasks.localize.scene import write_heats
from geoglot.types import Calibration, SceneInfo

COLOURS = {"red": (230, 20, 20), "blue": (20, 20, 230), "green": (20, 160, 40), "grey": (120, 120, 120)}


class ColourPlaces:
    """Sees mean colours, of images and of squares of 8 px; counts the images."""

    patch_px = 8

    def __init__(self, preprocess: Preprocess | None = None) -> None:
        calibration = Calibration(10.0, 0.99, 2.0, 0.0, 0.6)
        self.card = Card(
            "colours", "1", 3, 16, ("en",), None, (), ("grey", "green"), calibration, preprocess=preprocess
        )
        self.images = 0

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        self.images += len(images)
        return _unit(images.reshape(len(images), -1, 3).mean(1))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return _unit(np.array([COLOURS[text] for text in texts]))

    def patch_features(self, images: np.ndarray, last_block: None = None) -> np.ndarray:
        height, width = images.shape[1] // 8 * 8, images.shape[2] // 8 * 8
        cut = images[:, :height, :width].reshape(len(images), height // 8, 8, width // 8, 8, 3)
        return _unit(cut.mean((2, 4)))


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64) + 1e-3
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def pixels(height: int = 200, width: int = 260) -> np.ndarray:
    """Grey, with a red field on the left and a blue one on the right."""
    picture = np.full((height, width, 3), COLOURS["grey"], np.uint8)
    picture[60:120, 20:90] = COLOURS["red"]
    picture[100:180, 190:250] = COLOURS["blue"]
    return picture


def write(path: Path, picture: np.ndarray, *, placed: bool = True, nodata: int | None = None) -> Path:
    profile = {"driver": "GTiff", "width": picture.shape[1], "height": picture.shape[0], "count": 3, "dtype": "uint8"}
    profile |= {"nodata": nodata} if nodata is not None else {}
    if placed:
        profile |= {"crs": "EPSG:32652", "transform": from_origin(500_000, 4_100_000, 2, 2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as out:
            out.write(np.moveaxis(picture, 2, 0))
    return path


def heats(
    path: Path, sentences: Sequence[str], settings: LocalizeSettings, encoder: ColourPlaces | None = None
) -> list[Heat]:
    with open_scene(path) as scene:
        plan = make_plan(scene, sentences, settings)
        return list(localize_scene(scene, encoder or ColourPlaces(), sentences, plan))


def slow_mean(picture: np.ndarray, sides: tuple[int, ...], text: str) -> np.ndarray:
    """Window by window, pixel by pixel."""
    total, count = np.zeros(picture.shape[:2]), np.zeros(picture.shape[:2])
    encoder = ColourPlaces()
    for window in ScaleGrid(sides).windows(SceneInfo("", "", "", "", picture.shape[1], picture.shape[0], 3, "uint8")):
        part = picture[window.y0 : window.y1, window.x0 : window.x1]
        score = float(_unit(part.reshape(1, -1, 3).mean(1))[0] @ encoder.encode_texts([text])[0])
        total[window.y0 : window.y1, window.x0 : window.x1] += score
        count[window.y0 : window.y1, window.x0 : window.x1] += 1
    return total / count


def test_fast_means_are_those_of_a_loop(tmp_path: Path) -> None:
    """To what reading windows at the model's size costs: whole model pixels."""
    picture = pixels()
    path = write(tmp_path / "a.tif", picture)
    settings = LocalizeSettings((32, 64), cell_px=1)
    for heat in heats(path, ["red", "blue"], settings):
        expected = slow_mean(picture, (32, 64), heat.sentence)
        assert heat.values.shape == expected.shape
        assert float(np.abs(heat.values - expected).mean()) < 0.01
        assert float(np.corrcoef(heat.values.ravel(), expected.ravel())[0, 1]) > 0.99


def test_cells_take_the_value_of_their_centre(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels())
    fine = heats(path, ["red"], LocalizeSettings((32, 64), cell_px=1))[0].values
    coarse = heats(path, ["red"], LocalizeSettings((32, 64), cell_px=4))[0].values
    assert np.allclose(coarse, fine[2::4, 2::4], atol=1e-5)


def test_sentences_share_one_pass_and_places_are_right(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels())
    encoder = ColourPlaces()
    red, blue = heats(path, ["red", "blue"], LocalizeSettings((32, 64)), encoder)
    with open_scene(path) as scene:
        assert encoder.images == make_plan(scene, ["red", "blue"], LocalizeSettings((32, 64))).windows
    for heat, box in ((red, (20, 60, 90, 120)), (blue, (190, 100, 250, 180))):
        best = heat.places[0]
        assert box[0] <= best.peak_px[0] < box[2]
        assert box[1] <= best.peak_px[1] < box[3]
        assert best.level == 1
        assert best.confidence is not None
        assert best.confidence > 0.6
        assert not heat.nothing_matches


def test_finer_maps_follow_edges(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels())
    truth = np.zeros((200, 260), bool)
    truth[60:120, 20:90] = True

    def overlap(finer: bool) -> float:
        level = heats(path, ["red"], LocalizeSettings((64,), finer=finer, cell_px=4))[0].level
        found = level >= 0.75
        wanted = truth[2::4, 2::4]
        return float((found & wanted).sum() / (found | wanted).sum())

    assert overlap(True) > overlap(False) + 0.1


def test_constant_maps_are_said(tmp_path: Path) -> None:
    flat = write(tmp_path / "flat.tif", np.full((90, 90, 3), 120, np.uint8))
    heat = heats(flat, ["red"], LocalizeSettings((32,)))[0]
    assert heat.places == ()
    assert "constant" in heat.notes[0]
    assert np.isfinite(heat.values).all()


def test_nodata_stays_nodata(tmp_path: Path) -> None:
    picture = pixels()
    picture[:, :100] = 0
    path = write(tmp_path / "a.tif", picture, nodata=0)
    heat = heats(path, ["blue"], LocalizeSettings((32,), cell_px=4))[0]
    assert np.isnan(heat.values[:, :25]).all()
    assert np.isfinite(heat.values[:, 30:]).all()
    assert heat.places[0].window.x0 > 150


def test_sides_are_clamped_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(), placed=False)
    with open_scene(path) as scene:
        plan = make_plan(scene, ["red"], LocalizeSettings())
        assert plan.settings.sides_px == (200,)
        assert any("do not fit 260 x 200" in note for note in plan.notes)
        assert any("regions are in pixels" in note for note in plan.notes)
        with pytest.raises(UsageError, match="metres need a scene with a place"):
            make_plan(scene, ["red"], LocalizeSettings(ground_m=(80.0,)))
    placed = write(tmp_path / "b.tif", pixels())
    with open_scene(placed) as scene:
        assert make_plan(scene, ["red"], LocalizeSettings(ground_m=(80.0, 160.0))).settings.sides_px == (40, 80)


def test_what_is_asked_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", pixels())
    with open_scene(path) as scene:
        for sentences in ([], [" "]):
            with pytest.raises(EmptyQueryError):
                make_plan(scene, sentences, LocalizeSettings())
        with pytest.raises(UsageError, match="asked twice"):
            make_plan(scene, ["red", "red"], LocalizeSettings())
        monkeypatch.setattr(localizer, "MAX_WINDOWS", 3)
        with pytest.raises(TooLargeError, match="windows"):
            make_plan(scene, ["red"], LocalizeSettings((32,)))
    for bad in ({"level": 1.0}, {"most": 0}, {"ground_m": (0.0,)}):
        with pytest.raises(UsageError):
            LocalizeSettings(**bad)


def test_maps_of_huge_scenes_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localizer, "MAX_CELLS", 200)
    path = write(tmp_path / "a.tif", pixels())
    with open_scene(path) as scene:
        plan = make_plan(scene, ["red"], LocalizeSettings((32,)))
    assert plan.width * plan.height <= 200


def test_files(tmp_path: Path) -> None:
    """The heat lies on the scene's grid; regions on the earth hold the field."""
    path = write(tmp_path / "a.tif", pixels())
    out = tmp_path / "out"
    out.mkdir()
    sentences = ["red", "blue"]
    with open_scene(path) as scene:
        plan = make_plan(scene, sentences, LocalizeSettings((32, 64)))
        report = write_heats(scene, plan, localize_scene(scene, ColourPlaces(), sentences, plan), sentences, out)
    with rasterio.open(out / "heat.tif") as heat:
        assert heat.count == 2
        assert heat.descriptions == ("red", "blue")
        assert heat.crs.to_epsg() == 32652
        assert (heat.transform.a, heat.transform.c) == (2 * plan.settings.cell_px, 500_000)
        assert heat.tags()["GEOGLOT_MODE"] == "fast"
        assert np.isnan(heat.nodata)
    places = json.loads((out / "regions.geojson").read_text("utf-8"))["features"]
    first = next(f for f in places if f["properties"]["sentence"] == "blue")
    lon, lat = first["properties"]["peak_lon"], first["properties"]["peak_lat"]
    west, south, east, north = first["bbox"]
    assert west < lon < east
    assert south < lat < north
    assert first["properties"]["confidence"] > 0.6
    assert {file.name for file in out.iterdir()} == {
        "heat.tif", "regions.geojson", "report.json", "picture-1.png", "picture-2.png"
    }  # fmt: skip
    assert max(Image.open(out / "picture-1.png").size) == 512
    assert json.loads((out / "report.json").read_text("utf-8")) == json.loads(json.dumps(report))
    assert report["mode"] == "fast"


def test_a_scene_without_a_place_gives_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(), placed=False)
    with open_scene(path) as scene:
        plan = make_plan(scene, ["red"], LocalizeSettings((32,)))
        write_heats(scene, plan, localize_scene(scene, ColourPlaces(), ["red"], plan), ["red"], tmp_path)
    place = json.loads((tmp_path / "regions.geojson").read_text("utf-8"))["features"][0]
    assert place["geometry"] is None
    assert place["properties"]["peak_lon"] is None
    assert place["properties"]["x1_px"] > 20


def test_the_command(tmp_path: Path) -> None:
    from geoglot.cli.app import app

    path = write(tmp_path / "a.tif", np.tile(pixels(), (2, 2, 1)))
    run = CliRunner()
    dry = run.invoke(app, ["localize", str(path), "sea", "--dry-run", "--json", "--side", "128"])
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.stdout)["sides_px"] == [128]
    out = tmp_path / "out"
    done = run.invoke(app, ["localize", str(path), "sea", "forest", "--side", "128", "--json", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert [row["sentence"] for row in json.loads(done.stdout)["sentences"]] == ["sea", "forest"]
    assert (out / "heat.tif").is_file()


def test_the_task(tmp_path: Path) -> None:
    from geoglot.archive.archive import Archive
    from geoglot.archive.ingest import ingest
    from geoglot.tasks.registry import find_task

    class Stored(ColourPlaces):
        def __init__(self) -> None:
            super().__init__()
            object.__setattr__(self.card, "files", {"image": ("none", "1")})

    path = write(tmp_path / "a.tif", pixels())
    encoder = Stored()
    ingest(tmp_path / "archive", [path], encoder)
    archive = Archive.open(tmp_path / "archive", encoder)
    task = find_task("localize")
    out = tmp_path / "out"
    out.mkdir()
    told: list[float] = []
    request = task.request_type(scene="a.tif", text=("red",), sides_px="32,64")
    task.run_job(archive, request, out, lambda share, words: told.append(share))
    assert (out / "regions.geojson").is_file()
    assert told == sorted(told)
    assert told[-1] == 1
    with pytest.raises(UnknownNameError):
        task.run_job(archive, task.request_type(scene="b.tif", text=("red",)), out, lambda share, words: None)
    with pytest.raises(UsageError, match="whole numbers"):
        task.run_job(archive, task.request_type(scene="a.tif", text=("red",), sides_px="x"), out, lambda s, w: None)


@pytest.mark.parametrize("cell_px", [1, 4])
def test_regions_found_on_the_grid_of_edges_are_those_of_the_pixels(tmp_path: Path, cell_px: int) -> None:
    picture = pixels(203, 262)
    picture[5:40, 120:150] = COLOURS["red"]
    for heat in heats(write(tmp_path / "a.tif", picture), ["red", "blue"], LocalizeSettings((32, 64), cell_px=cell_px)):
        level = stretched(heat.values)
        assert heat.levels.values.size < level.size / 4 or cell_px > 1
        assert np.array_equal(heat.level, level, equal_nan=True)
        expected = [(blob, *localizer._top(blob, level)) for blob in blobs(level >= 0.75) if blob.area >= 4]
        expected.sort(key=lambda found: -level[found[1:]])
        assert len(heat.places) == len(expected) > 0
        for place, (blob, row, column) in zip(heat.places, expected, strict=True):
            assert place.peak_px == ((column + 0.5) * cell_px, (row + 0.5) * cell_px)
            assert (place.level, place.score) == (level[row, column], heat.values[row, column])
            covered, wanted = np.zeros(level.shape, int), np.zeros(level.shape, int)
            for x0, y0, x1, y1 in place.runs_px // cell_px:
                covered[y0:y1, x0:x1] += 1
            for at, start, stop in zip(blob.rows, blob.starts, blob.stops, strict=True):
                wanted[at, start:stop] = 1
            assert (covered == wanted).all()


def test_a_peak_is_its_own_regions(tmp_path: Path) -> None:
    """A region whose box holds another's higher cell still gives its own."""
    level = np.array([[0.8, 0.8, 0.8, 0.8], [0.8, 0, 0, 0], [0.8, 0, 1, 0], [0.9, 0, 0, 0]], np.float32)
    ring, dot = blobs(level >= 0.75)
    assert localizer._top(ring, level) == (3, 0)
    assert localizer._top(dot, level) == (2, 2)
