"""Look again, closer: rank the best chips anew by the evidence inside them, and say where in each it lies.

A chip's vector averages over all that the chip shows, and at the model's input size what is small has a few pixels.
Here each candidate is read again from its scene, larger, and every place of it is compared with the question
(`evidence`), at several sizes: the finest has places that a small thing fills. Candidates are ranked by

    z(chip) + weight * z(peak)

with z over the candidates: chip is the cosine, peak the score of the chip's best place at the
coarser two sizes. The spot is the best place with the finest size counted in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.evidence import CELL_PX, Judge, Peak, Scores, peak_of, zoom_maps
from geoglot.archive.pictures import open_again
from geoglot.errors import SourceError
from geoglot.imagery.reach import PUBLIC, Reach
from geoglot.imagery.scene import Pixels, Scene
from geoglot.models.encoder import DenseEncoder, Images, Vectors
from geoglot.types import Match, SceneInfo, Spot, Window

CANDIDATES = 50
"""How many of the best chips are looked at again; about 8 s for geoglot-mini on one core."""
WEIGHT = 4.0
"""Of the peak; chosen, like the sizes, on NWPU VHR-10 train (benchmarks/pointing.py --choose)."""
SMALL_INPUT_PX = 128
BATCH = 8
FLAT = 1e-6
"""A standard deviation below this tells nothing apart."""


def closer_px(encoder: DenseEncoder) -> int:
    """Side at which chips are read again: three times the model's input for small inputs, else twice."""
    side = encoder.card.image_px
    return side * (3 if side <= SMALL_INPUT_PX else 2)


def sizes_px(encoder: DenseEncoder) -> tuple[int, ...]:
    """Sides at which a chip is looked at, ascending: half of `closer_px`, and it, and for small inputs twice.

    geoglot-mini's places then are 57, 28 and 14 px of a chip of 256 px. In the first two a car is lost; other models
    take larger images, cut finer, and pay for more places by their square.
    """
    closer = closer_px(encoder)
    return (closer // 2, closer, *([2 * closer] if encoder.card.image_px <= SMALL_INPUT_PX else []))


def closer_maps(encoder: DenseEncoder, chips: Images, judge: Judge) -> tuple[Scores, Scores]:
    """Maps of square chips read at the largest of `sizes_px`: to rank by, and to point by.

    The first is the mean over the first two sizes, the second over all. On objects that a model has not learned from,
    the finest size finds the place, and its chance peaks spoil the order (docs/results/pointing-small.md).
    """
    sizes = sizes_px(encoder)
    maps = zoom_maps(encoder, chips, judge, [size / sizes[-1] for size in sizes])
    return np.asarray(maps[:2].mean(0)), np.asarray(maps.mean(0))


def pointed(
    matches: Sequence[Match], query: Vectors, encoder: DenseEncoder, reach: Reach = PUBLIC, *, weight: float = WEIGHT
) -> list[Match]:
    """Matches ranked anew, each with its spot; ranks go on from the lowest of the given ones.

    Args:
        matches: Candidates; their scores are the chips' cosines.
        query: Unit vector [D].
        encoder: The archive's model.
        reach: Where the scenes may lie.
        weight: Of the peak beside the chip.

    Raises:
        SourceError: The file of a scene is gone.
        SceneError: It cannot be read, or has changed its size.
    """
    if not matches:
        return []
    spots = _spots(matches, Judge.of(encoder, query[None]), encoder, reach)
    found = [replace(match, spot=spots[match.chip.chip_id]) for match in matches]
    scores = fused(
        np.array([match.score for match in matches]),
        np.array([spots[match.chip.chip_id].score for match in matches]),
        weight,
    )
    first = min(match.rank for match in matches)
    order = np.argsort(-scores, kind="stable").tolist()
    return [replace(found[at], rank=first + i) for i, at in enumerate(order)]


def fused(chips: NDArray[np.float64], peaks: NDArray[np.float64], weight: float = WEIGHT) -> NDArray[np.float64]:
    """z(chips) + weight * z(peaks), both [N]."""
    return _standard(chips) + weight * _standard(peaks)


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values - values.mean()) / max(float(values.std()), FLAT))


def _spots(matches: Sequence[Match], judge: Judge, encoder: DenseEncoder, reach: Reach) -> dict[str, Spot]:
    """Chip id -> spot; every scene is opened once."""
    found: dict[str, Spot] = {}
    by_scene = sorted(matches, key=lambda match: match.scene.scene_id)
    for _, group in groupby(by_scene, key=lambda match: match.scene.scene_id):
        mine = list(group)
        with _opened(mine[0].scene, reach) as scene:
            for at in range(0, len(mine), BATCH):
                batch = mine[at : at + BATCH]
                windows = [match.chip.window for match in batch]
                for match, spot in zip(batch, _look(scene, windows, judge, encoder), strict=True):
                    found[match.chip.chip_id] = spot
    return found


def _opened(scene: SceneInfo, reach: Reach) -> Scene:
    try:
        return open_again(scene, reach)
    except SourceError as error:
        raise SourceError(
            f"looking closer needs the scenes, and {scene.uri!r} cannot be had: {error}",
            hint="Bring it back, take it out of the archive (geoglot index remove), or search without pointing.",
        ) from error


def _look(scene: Scene, windows: Sequence[Window], judge: Judge, encoder: DenseEncoder) -> list[Spot]:
    side = sizes_px(encoder)[-1]
    pixels = [scene.read(window, (side, side)) for window in windows]
    ranking, pointing = closer_maps(encoder, np.stack([p.rgb for p in pixels]), judge)
    return [
        _spot(scene, window, float(_known(ranking[i, ..., 0], p).max()), peak_of(_known(pointing[i, ..., 0], p)))
        for i, (window, p) in enumerate(zip(windows, pixels, strict=True))
    ]


def _known(heat: NDArray[np.float32], pixels: Pixels) -> NDArray[np.float32]:
    """The map, lowest where the centre of a cell is nodata."""
    middles = [np.minimum(np.arange(n) * CELL_PX + CELL_PX // 2, side - 1)
               for n, side in zip(heat.shape, pixels.valid.shape, strict=True)]  # fmt: skip
    valid = pixels.valid[np.ix_(*middles)]
    return heat if valid.all() else np.where(valid, heat, heat.min())


def _spot(scene: Scene, window: Window, score: float, peak: Peak) -> Spot:
    x, y = window.x0 + peak.at[0] * window.width, window.y0 + peak.at[1] * window.height
    x0, y0, x1, y1 = peak.box
    box = Window(
        window.x0 + int(x0 * window.width),
        window.y0 + int(y0 * window.height),
        window.x0 + max(int(x0 * window.width) + 1, round(x1 * window.width)),
        window.y0 + max(int(y0 * window.height) + 1, round(y1 * window.height)),
    )
    place = scene.chip(box)
    return Spot(score, x, y, box, _on_earth(scene, x, y), place.bbox_lonlat, place.footprint_lonlat)


def _on_earth(scene: Scene, x: float, y: float) -> tuple[float, float] | None:
    found = scene.lonlat(np.array([x]), np.array([y]))
    if found is None:
        return None
    lon, lat = (float(values[0]) for values in found)
    return (lon, lat) if abs(lon) <= 180 and abs(lat) <= 90 else None
