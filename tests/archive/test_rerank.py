"""Looking closer: the best chips ranked anew by what lies inside them, and where in each."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geoglot.archive.answers import format_answer
from geoglot.archive.archive import Archive
from geoglot.archive.ingest import ingest
from geoglot.archive.rerank import closer_maps, fused, place_maps, sizes_px
from geoglot.errors import SceneChangedError, SourceError, UsageError
from geoglot.imagery.grid import ChipGrid
from geoglot.models.card import Card
from geoglot.models.encoder import background_prompts
from geoglot.scoring.calibration import Scorer
from geoglot.scoring.places import CELL_PX, peak_of
from geoglot.types import Calibration, Match

RED, GREEN = (230, 20, 20), (20, 160, 40)


class PlaceEncoder:
    """Sees the mean colour of an image, and of each square of 8 px in it."""

    patch_px = 8

    def __init__(self, background: tuple[str, ...] = ("green", "grey")) -> None:
        self.card = Card(
            "colours", "1", 3, 32, ("en",), None, (), background, Calibration(10.0, 0.99), files={"image": ("-", "1")}
        )

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        return _unit(images.reshape(len(images), -1, 3).mean(1))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        words = {"red": RED, "green": GREEN, "grey": (120, 120, 120)}
        return _unit(np.array([words[text] for text in texts], np.float64))

    def patch_features(self, images: np.ndarray, last_block: None = None) -> np.ndarray:
        down, across = (-(-side // 8) for side in images.shape[1:3])
        found = np.zeros((len(images), down, across, 3))
        for row in range(down):
            for column in range(across):
                found[:, row, column] = images[:, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].mean((1, 2))
        return _unit(found)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64) + 1e-3
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def write(path: Path, spot: tuple[int, int] | None, *, placed: bool = True, haze: int = 0) -> None:
    """Green, 64 x 64, with a red square of 16 px; 10 m pixels from (500000, 4100000) in UTM 52."""
    pixels = np.tile(np.array(GREEN, np.uint8)[:, None, None], (1, 64, 64))
    pixels[0] += haze
    if spot:
        x, y = spot
        pixels[:, y : y + 16, x : x + 16] = np.array(RED)[:, None, None]
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 3, "dtype": "uint8"}
    if placed:
        profile |= {"crs": "EPSG:32652", "transform": from_origin(500_000, 4_100_000, 10, 10)}
    with rasterio.open(path, "w", **profile) as out:
        out.write(pixels)


GRID = ChipGrid(ground_m=(640.0,), overlap=0, min_px=16, max_px=64, plain_px=(64,))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """A hazy scene without the red square ranks before the one with it, chip by chip."""
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    write(scenes / "hazy.tif", None, haze=40)
    write(scenes / "holds.tif", (40, 16))
    write(scenes / "plain.tif", None)
    encoder = PlaceEncoder()
    ingest(tmp_path / "archive", [scenes], encoder, GRID)
    return Archive.open(tmp_path / "archive", encoder)


def names(matches: Sequence[Match]) -> list[str]:
    return [match.scene.name for match in matches]


def test_pointing_ranks_by_what_is_inside(archive: Archive) -> None:
    assert names(archive.search("red").matches)[0] == "hazy.tif"
    pointed = archive.search("red", point=50).matches
    assert names(pointed)[0] == "holds.tif"
    assert [match.rank for match in pointed] == [1, 2, 3]
    spot = pointed[0].spot
    assert spot is not None
    assert 40 <= spot.x_px < 56
    assert 16 <= spot.y_px < 32
    assert spot.window.x0 <= spot.x_px < spot.window.x1
    assert spot.window.width <= 32
    assert spot.lonlat is not None
    assert spot.lonlat == pytest.approx(_lonlat(spot.x_px, spot.y_px), abs=1e-7)
    assert spot.bbox_lonlat is not None
    assert spot.bbox_lonlat.west <= spot.lonlat[0] <= spot.bbox_lonlat.east


def _lonlat(x: float, y: float) -> tuple[float, float]:
    import pyproj

    transformer = pyproj.Transformer.from_crs("EPSG:32652", "EPSG:4326", always_xy=True)
    lon, lat = transformer.transform(500_000 + 10 * x, 4_100_000 - 10 * y)
    return lon, lat


def test_only_candidates_are_looked_at_and_pages_agree(archive: Archive) -> None:
    first = archive.search("red", point=1).matches
    assert names(first)[0] == "hazy.tif"  # the only candidate
    assert [match.spot is not None for match in first] == [True, False, False]
    pages = [archive.search("red", limit=1, offset=at, point=50).matches[0] for at in range(3)]
    assert pages == list(archive.search("red", point=50).matches)


def test_answers_tell_the_spot(archive: Archive) -> None:
    import pyarrow.parquet as pq

    result = archive.search("red", point=50)
    spot = json.loads(format_answer(result, "red", "json"))["matches"][0]["spot"]
    assert set(spot) == {"score", "x_px", "y_px", "box_px", "lonlat", "bbox_lonlat", "footprint"}
    place = json.loads(format_answer(result, "red", "geojson"))["features"][0]["properties"]
    assert [place["spot_lon"], place["spot_lat"]] == spot["lonlat"]
    header, row, *_ = format_answer(result, "red", "csv").decode().splitlines()
    assert row.split(",")[header.split(",").index("spot_x0_px")] == str(spot["box_px"][0])
    table = pq.read_table(io.BytesIO(format_answer(result, "red", "parquet"))).to_pylist()
    assert table[0]["spot_x0_px"] == spot["box_px"][0]
    assert table[0]["spot_score"] == spot["score"]
    mixed = format_answer(archive.search("red", point=1), "red", "csv").decode().splitlines()
    assert len({line.count(",") for line in mixed[1:]} | {mixed[0].count(",")}) <= 2  # footprints hold commas
    assert "spot" not in json.loads(format_answer(archive.search("red"), "red", "json"))["matches"][0]


def test_a_scene_without_a_place_has_pixels_only(tmp_path: Path) -> None:
    write(tmp_path / "bare.tif", (8, 32), placed=False)
    encoder = PlaceEncoder()
    ingest(tmp_path / "archive", [tmp_path / "bare.tif"], encoder, GRID)
    spot = Archive.open(tmp_path / "archive", encoder).search("red", point=5).matches[0].spot
    assert spot is not None
    assert (spot.lonlat, spot.bbox_lonlat) == (None, None)
    assert 8 <= spot.x_px < 24


def test_missing_and_changed_scenes_are_told(archive: Archive, tmp_path: Path) -> None:
    file = tmp_path / "scenes" / "holds.tif"
    file.unlink()
    with pytest.raises(SourceError, match="looking closer needs the scenes") as caught:
        archive.search("red", point=5)
    assert "index remove" in str(caught.value.hint)
    with rasterio.open(file, "w", driver="GTiff", width=70, height=70, count=3, dtype="uint8") as out:
        out.write(np.ones((3, 70, 70), np.uint8))
    with pytest.raises(SceneChangedError):
        archive.search("red", point=5)


def test_models_without_places_are_refused(archive: Archive) -> None:
    class Plain:
        card = archive.encoder.card if archive.encoder else None
        encode_texts = PlaceEncoder.encode_texts
        encode_images = PlaceEncoder.encode_images

    plain = Archive.open(archive.path, Plain())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="none for the places"):
        plain.search("red", point=5)
    with pytest.raises(UsageError, match="point -1"):
        archive.search("red", point=-1)


def scorer_of(encoder: PlaceEncoder) -> Scorer:
    return Scorer.unmeasured(background_prompts(encoder), encoder.card.calibration)


def test_maps_are_those_of_a_loop() -> None:
    """One zoom, images of whole places: a cell is a place, its score the log-odds against the prompts."""
    encoder = PlaceEncoder()
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 16, 3), dtype=np.uint8)
    scorer, queries = scorer_of(encoder), encoder.encode_texts(["red", "green"])
    found = place_maps(encoder, images, scorer, queries, zooms=(1.0,))
    features = encoder.patch_features(images)
    prompts = encoder.encode_texts(["green", "grey"])
    assert found.shape == (2, 3, 2, 2)
    for n in range(2):
        for row in range(3):
            for column in range(2):
                for k, query in enumerate(encoder.encode_texts(["red", "green"])):
                    place = features[n, row, column].astype(np.float64)
                    others = [p for p in prompts if float(p @ query) < 0.99]
                    mass = np.log(sum(np.exp(10 * float(p @ place)) for p in others))
                    assert found[n, row, column, k] == pytest.approx(10 * float(query @ place) - mass, abs=1e-3)


def test_several_zooms_are_averaged() -> None:
    encoder = PlaceEncoder()
    images = np.random.default_rng(1).integers(0, 256, (1, 30, 41, 3), dtype=np.uint8)
    scorer, queries = scorer_of(encoder), encoder.encode_texts(["red"])
    both = place_maps(encoder, images, scorer, queries, zooms=(0.5, 1.0))
    parts = [place_maps(encoder, images, scorer, queries, zooms=(zoom,)) for zoom in (0.5, 1.0)]
    assert both.shape == (1, -(-30 // CELL_PX), -(-41 // CELL_PX), 1)
    assert np.allclose(both, (parts[0] + parts[1]) / 2, atol=1e-5)


def test_small_inputs_are_looked_at_finer() -> None:
    small, large = PlaceEncoder(), PlaceEncoder()
    large.card = replace(large.card, image_px=224)
    assert sizes_px(small) == (48, 96, 192)  # of an input of 32 px
    assert sizes_px(large) == (224, 448)


def test_the_finest_size_points_and_does_not_rank() -> None:
    """The finest size shows a square of 12 px at its place."""
    encoder = PlaceEncoder()
    chip = np.full((1, 192, 192, 3), GREEN, np.uint8)
    chip[:, 136:148, 40:52] = RED
    scorer, queries = scorer_of(encoder), encoder.encode_texts(["red"])
    ranking, pointing = closer_maps(encoder, chip, scorer, queries)
    parts = [place_maps(encoder, chip, scorer, queries, (zoom,)) for zoom in (0.25, 0.5, 1.0)]
    assert np.allclose(ranking, (parts[0] + parts[1]) / 2, atol=1e-5)
    assert np.allclose(pointing, (parts[0] + parts[1] + parts[2]) / 3, atol=1e-5)
    x, y = peak_of(pointing[0, ..., 0]).at
    assert 40 <= x * 192 < 52
    assert 136 <= y * 192 < 148
    assert parts[2].max() > parts[0].max() + 3  # the coarse place is mostly green


def test_the_fusion_by_hand() -> None:
    chips, peaks = np.array([1.0, 3.0]), np.array([10.0, 0.0])
    assert fused(chips, peaks, 1.0).tolist() == [0.0, 0.0]
    assert fused(chips, peaks, 2.0).tolist() == [1.0, -1.0]
    assert np.isfinite(fused(np.ones(3), np.ones(3))).all()


def test_the_table_and_the_task_tell_the_spot(archive: Archive, tmp_path: Path) -> None:
    from rich.console import Console

    from geoglot.cli.screen import match_table
    from geoglot.tasks.registry import find_task

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(match_table(archive.search("red", point=2).matches))
    said = console.export_text()
    assert "spot" in said.splitlines()[0]
    assert "holds.tif" in said
    task = find_task("export")
    task.run_job(archive, task.request_type(q="red", point=3, all=True, format="json"), tmp_path, lambda s, w: None)
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["matches"][0]["spot"]["lonlat"]
    with pytest.raises(UsageError, match="point 201"):
        task.run_job(archive, task.request_type(q="red", point=201), tmp_path, lambda s, w: None)
