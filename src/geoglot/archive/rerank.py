"""Look again, closer: rank the best chips anew by the evidence inside them, and say where in each it lies.

A chip's vector averages over all that the chip shows, and at the model's input size what is small has a few pixels.
Here each candidate is read again from its scene, larger, and every place of it is compared with the question
(`geoglot.scoring.places`), at several sizes: the finest has places that a small thing fills. Candidates are ranked by

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

from geoglot.archive.pictures import open_again
from geoglot.errors import SourceError
from geoglot.imagery.reach import PUBLIC, Reach
from geoglot.imagery.scene import Pixels, Scene
from geoglot.models.encoder import DenseEncoder, Images, Vectors, background_prompts
from geoglot.scoring.calibration import Scorer, standardised
from geoglot.scoring.places import CELL_PX, Peak, Scores, cell_scores, peak_of
from geoglot.types import Match, SceneInfo, Spot, Window

CANDIDATES = 50
"""How many of the best chips are looked at again; about 8 s for geoglot-mini on one core."""
WEIGHT = 4.0
"""Of the peak; chosen, like the sizes, on NWPU VHR-10 train (benchmarks/pointing.py --choose)."""
SMALL_INPUT_PX = 128
BATCH = 8
ZOOMS = (0.5, 1.0)
"""Sizes of the image that `place_maps` averages; chosen on NWPU VHR-10 train (benchmarks/pointing.py --choose)."""
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


def place_maps(
    encoder: DenseEncoder, images: Images, scorer: Scorer, queries: Vectors, zooms: Sequence[float] = ZOOMS
) -> Scores:
    """Maps of where each question holds: the mean of `zoom_maps`, float32 [N, h, w, K]."""
    return np.asarray(zoom_maps(encoder, images, scorer, queries, zooms).mean(0))


def zoom_maps(
    encoder: DenseEncoder, images: Images, scorer: Scorer, queries: Vectors, zooms: Sequence[float]
) -> Scores:
    """Maps of where each question holds, at several sizes of the images.

    Args:
        encoder: The model.
        images: uint8 [N, H, W, 3] of any size.
        scorer, queries: The questions [K, D], and what speaks against them.
        zooms: Sizes of the image, as factors; never below one patch.

    Returns:
        float32 [Z, N, ceil(H / CELL_PX), ceil(W / CELL_PX), K]. Cost: the encoder on zoom² H W pixels, for each zoom.
    """
    height, width = images.shape[1:3]
    grid = (-(-height // CELL_PX), -(-width // CELL_PX))
    maps = np.zeros((len(zooms), len(images), *grid, len(queries)), np.float32)
    for at, zoom in enumerate(zooms):
        size = tuple(max(encoder.patch_px, round(side * zoom)) for side in (height, width))
        scores = scorer.place_scores(encoder.patch_features(_resized(images, (size[0], size[1]))), queries)
        scale = (encoder.patch_px * height / size[0], encoder.patch_px * width / size[1])
        maps[at] = cell_scores(scores, scale, grid)
    return maps


def _resized(images: Images, size: tuple[int, int]) -> Images:
    """To (height, width), bicubic; smoothed first where they get smaller."""
    from PIL import Image

    if images.shape[1:3] == size or not len(images):
        return images if len(images) else np.zeros((0, *size, 3), np.uint8)
    width_height = (size[1], size[0])
    return np.stack([np.asarray(Image.fromarray(i).resize(width_height, Image.Resampling.BICUBIC)) for i in images])


def closer_maps(encoder: DenseEncoder, chips: Images, scorer: Scorer, queries: Vectors) -> tuple[Scores, Scores]:
    """Maps of square chips read at the largest of `sizes_px`: to rank by, and to point by.

    The first is the mean over the first two sizes, the second over all. On objects that a model has not learned from,
    the finest size finds the place, and its chance peaks spoil the order (docs/results/pointing-small.md).
    """
    sizes = sizes_px(encoder)
    maps = zoom_maps(encoder, chips, scorer, queries, [size / sizes[-1] for size in sizes])
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
    spots = _spots(matches, query[None], encoder, reach)
    spotted = [replace(match, spot=spots[match.chip.chip_id]) for match in matches]
    scores = fused(
        np.array([match.score for match in matches]),
        np.array([spots[match.chip.chip_id].score for match in matches]),
        weight,
    )
    first = min(match.rank for match in matches)
    order = np.argsort(-scores, kind="stable").tolist()
    return [replace(spotted[at], rank=first + i) for i, at in enumerate(order)]


def fused(chips: NDArray[np.float64], peaks: NDArray[np.float64], weight: float = WEIGHT) -> NDArray[np.float64]:
    """z(chips) + weight * z(peaks), both [N]."""
    return standardised(chips, least_std=FLAT) + weight * standardised(peaks, least_std=FLAT)


def _spots(matches: Sequence[Match], queries: Vectors, encoder: DenseEncoder, reach: Reach) -> dict[str, Spot]:
    """Chip id -> spot; every scene is opened once."""
    scorer = Scorer.unmeasured(background_prompts(encoder), encoder.card.calibration)
    spots: dict[str, Spot] = {}
    by_scene = sorted(matches, key=lambda match: match.scene.scene_id)
    for _, group in groupby(by_scene, key=lambda match: match.scene.scene_id):
        in_scene = list(group)
        with _opened(in_scene[0].scene, reach) as scene:
            for at in range(0, len(in_scene), BATCH):
                batch = in_scene[at : at + BATCH]
                windows = [match.chip.window for match in batch]
                for match, spot in zip(batch, _look(scene, windows, scorer, queries, encoder), strict=True):
                    spots[match.chip.chip_id] = spot
    return spots


def _opened(scene: SceneInfo, reach: Reach) -> Scene:
    try:
        return open_again(scene, reach)
    except SourceError as error:
        raise SourceError(
            f"looking closer needs the scenes, and {scene.uri!r} cannot be had: {error}",
            hint="Bring it back, take it out of the archive (geoglot index remove), or search without pointing.",
        ) from error


def _look(
    scene: Scene, windows: Sequence[Window], scorer: Scorer, queries: Vectors, encoder: DenseEncoder
) -> list[Spot]:
    side = sizes_px(encoder)[-1]
    pixels = [scene.read(window, (side, side)) for window in windows]
    ranking, pointing = closer_maps(encoder, np.stack([p.rgb for p in pixels]), scorer, queries)
    return [
        _spot(scene, window, float(_masked(ranking[i, ..., 0], p).max()), peak_of(_masked(pointing[i, ..., 0], p)))
        for i, (window, p) in enumerate(zip(windows, pixels, strict=True))
    ]


def _masked(heat: NDArray[np.float32], pixels: Pixels) -> NDArray[np.float32]:
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
    position = scene.lonlat(np.array([x]), np.array([y]))
    if position is None:
        return None
    lon, lat = (float(values[0]) for values in position)
    return (lon, lat) if abs(lon) <= 180 and abs(lat) <= 90 else None
