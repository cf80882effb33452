"""Small random archives, an encoder made of hashes, and the slow obvious twin of a search."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoglot.archive.filters import Filter
from geoglot.archive.manifest import Manifest
from geoglot.archive.snapshot_writer import finish as end_writing
from geoglot.archive.store import Store
from geoglot.errors import EmptyQueryError
from geoglot.models.card import Card
from geoglot.types import Bbox, Calibration, Chip, Ring, SceneInfo, Window, chip_id

DIM = 8
SENSORS = ("sentinel-2", "naip", None)
Vectors = NDArray[np.float32]


def card(version: str = "1", background: tuple[str, ...] = ("sea", "forest", "town", "cloud")) -> Card:
    return Card(
        "hashes",
        version,
        DIM,
        16,
        ("en",),
        (0.1, 30.0),
        (100.0,),
        background=background,
        calibration=Calibration(temperature=10.0),
        files={"image": ("none", version)},
    )


@dataclass
class HashEncoder:
    """Any text is some unit vector, always the same one; a picture is its mean colour."""

    card: Card = field(default_factory=card)
    texts: list[str] = field(default_factory=list)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        if any(not text.strip() for text in texts):
            raise EmptyQueryError("empty")
        self.texts += texts
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        return unit(np.stack([np.random.default_rng(seed).normal(size=DIM) for seed in seeds]))

    def encode_images(self, images: NDArray[np.uint8]) -> Vectors:
        means = images.reshape(len(images), -1, 3).mean(axis=1) / 255 + 0.01
        return unit(np.tile(means, (1, 3))[:, :DIM])


def unit(vectors: NDArray[Any]) -> Vectors:
    wide = np.asarray(vectors, np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=-1, keepdims=True), np.float32)


@dataclass(frozen=True)
class Written:
    """A scene as it goes into an archive."""

    info: SceneInfo
    chips: list[Chip]
    vectors: Vectors


def scene(number: int, seed: int = 0, chips: int = 12, *, fingerprint: str = "1") -> Written:
    """A scene of overlapping chips at two scales. Vectors come from a small pool, so that scores tie often."""
    rng = np.random.default_rng([number, seed])
    scene_id = hashlib.sha256(str(number).encode()).hexdigest()[:16]
    placed, dated = rng.random() < 0.8, rng.random() < 0.8
    west, south = float(rng.uniform(-180, 180)), float(rng.uniform(-85, 80))
    windows = sorted({_window(rng) for _ in range(chips)}) if chips else []
    made = [_chip(scene_id, w, west, south, placed) for w in windows]
    info = SceneInfo(
        scene_id,
        f"/data/räume/scene {number}.tif",
        f"scene {number}.tif",
        fingerprint,
        200,
        200,
        3,
        "uint8",
        crs="EPSG:4326" if placed else None,
        gsd_m=float(rng.choice([0.5, 10.0, 30.0])) if placed else None,
        bbox_lonlat=Bbox(west, south, _wrap(west + 2), south + 2) if placed else None,
        acquired=datetime(2019, 1, 1, tzinfo=UTC) + timedelta(days=int(rng.integers(0, 1000))) if dated else None,
        sensor=SENSORS[int(rng.integers(0, len(SENSORS)))],
    )
    pool = unit(np.random.default_rng(99).normal(size=(10, DIM)))
    picked = pool[rng.integers(0, 10, len(made))]
    own = unit(rng.normal(size=(len(made), DIM))) if made else np.empty((0, DIM), np.float32)
    return Written(info, made, np.where(rng.random((len(made), 1)) < 0.5, picked, own).astype(np.float32))


def _window(rng: np.random.Generator) -> Window:
    side = int(rng.choice([20, 40, 80]))
    x0, y0 = (int(v) * 10 for v in rng.integers(0, 12, 2))
    return Window(x0, y0, x0 + side, y0 + side)


def _wrap(lon: float) -> float:
    return lon - 360 if lon > 180 else lon


def _chip(scene_id: str, w: Window, west: float, south: float, placed: bool) -> Chip:
    if not placed:
        return Chip(chip_id(scene_id, w), scene_id, w)
    box = Bbox(_wrap(west + w.x0 / 100), south + w.y0 / 100, _wrap(west + w.x1 / 100), south + w.y1 / 100)
    return Chip(chip_id(scene_id, w), scene_id, w, 100.0, box, tuple(_ring(part) for part in box.parts()))


def _ring(b: Bbox) -> Ring:
    return ((b.west, b.south), (b.east, b.south), (b.east, b.north), (b.west, b.north), (b.west, b.south))


def build(folder: Path, scenes: Sequence[Written], *, finish: bool = True) -> Path:
    """An archive of these scenes, written in this order."""
    with Store.create(folder, Manifest.of(card(), {"ground_m": [100.0]})) as store:
        for written in scenes:
            store.replace_scene(written.info, written.chips, written.vectors)
        if finish:
            end_writing(store)
    return folder


@dataclass(frozen=True)
class Answer:
    chip_id: str
    score: float
    merged: int = 0


def slow_search(scenes: Sequence[Written], query: Vectors, wanted: Filter, *, merge: bool) -> list[Answer]:
    """Loops and types.py only: filter, score, sort, fold."""
    left = [
        (written.info, chip, float(np.sum(vector.astype(np.float64) * query.astype(np.float64))))
        for written in scenes
        for chip, vector in zip(written.chips, written.vectors, strict=True)
        if lets_through(wanted, written.info, chip)
    ]
    left.sort(key=lambda item: (-item[2], item[0].scene_id, item[1].window))
    if not merge:
        return [Answer(chip.chip_id, score) for _, chip, score in left]
    kept: list[tuple[Chip, float, int]] = []
    for _, chip, score in left:
        for i, (better, its_score, merged) in enumerate(kept):
            if better.scene_id == chip.scene_id and _shared(better.window, chip.window) >= 0.5:
                kept[i] = (better, its_score, merged + 1)
                break
        else:
            kept.append((chip, score, 0))
    return [Answer(chip.chip_id, score, merged) for chip, score, merged in kept]


def _shared(a: Window, b: Window) -> float:
    pixels = {(x, y) for x in range(a.x0, a.x1, 10) for y in range(a.y0, a.y1, 10)}
    others = {(x, y) for x in range(b.x0, b.x1, 10) for y in range(b.y0, b.y1, 10)}
    return len(pixels & others) / min(len(pixels), len(others))


def lets_through(wanted: Filter, info: SceneInfo, chip: Chip) -> bool:
    """What each condition of a filter means, one by one."""
    if wanted.bbox and not (chip.bbox_lonlat and chip.bbox_lonlat.intersects(wanted.bbox)):
        return False
    if wanted.polygon is not None:
        rings = [shapely.Polygon(ring) for ring in chip.footprint_lonlat]
        if not any(ring.intersects(wanted.polygon) for ring in rings):
            return False
    if wanted.time and not (info.acquired and wanted.time.contains(info.acquired)):
        return False
    if wanted.gsd_m and not (info.gsd_m and wanted.gsd_m[0] <= info.gsd_m <= wanted.gsd_m[1]):
        return False
    if wanted.sensors and info.sensor not in wanted.sensors:
        return False
    names = (info.scene_id, info.name, info.uri)
    return not wanted.scenes or any(fnmatchcase(name, pattern) for name in names for pattern in wanted.scenes)
