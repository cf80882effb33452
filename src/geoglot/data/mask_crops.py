"""Chips that show one class of a dense mask and hardly anything else."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoglot.data.segmentation.sets import IGNORED, SegmentationSet
from geoglot.errors import SourceError

PURE = 0.85  # least share of the class in a chip: masks are coarse, and a road is narrow
SIDES_PX = (32, 160)  # of the squares that are cut, in pixels of the scene


def mask_crops(
    scenes: SegmentationSet, seed: int, *, per_scene: int = 30, side_px: int = 128
) -> tuple[NDArray[np.uint8], list[str]]:
    """Up to `per_scene` square chips of every scene; each class of a scene is tried as often as any other.

    Args:
        scenes: Images with a class for each pixel.
        seed: Of classes, sizes and places.
        per_scene: Squares tried for in each scene.
        side_px: S, of the chips.

    Returns:
        uint8 [N, S, S, 3] and the N classes' names (their first words).

    Raises:
        SourceError: No square of any scene lies within one class.
        SampleError: An image or a mask cannot be read.
    """
    rng = np.random.default_rng(seed)
    chips, labels = [], []
    for i in range(len(scenes)):
        image, mask = Image.fromarray(scenes.image(i)), scenes.mask(i)
        there = [c for c in np.unique(mask).tolist() if c not in {IGNORED, scenes.background}]
        sums = {c: np.pad((mask == c).astype(np.int32).cumsum(0).cumsum(1), ((1, 0), (1, 0))) for c in there}
        for at in range(per_scene if there else 0):
            label = there[at % len(there)]
            side = int(math.exp(rng.uniform(*np.log(SIDES_PX))))
            corner = pure_square(sums[label], side, rng)
            if corner is not None:
                x, y = corner
                box = (x, y, x + side, y + side)
                chips.append(np.asarray(image.resize((side_px, side_px), Image.Resampling.BICUBIC, box=box)))
                labels.append(scenes.classes[label][0])
    if not chips:
        raise SourceError(f"no square of {scenes.source} lies within one class of its masks")
    return np.stack(chips), labels


def pure_square(sums: NDArray[np.int32], side: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """Left and top of a square of which at least `PURE` is the class, all such equally likely; None if there is none.

    Args:
        sums: int32 [H + 1, W + 1]: how many pixels of the class lie above and left of a corner.
        side: Of the square, px.
        rng: Source of chance.
    """
    if side >= min(sums.shape):
        return None
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    places = np.flatnonzero(inside >= PURE * side * side)
    if not len(places):
        return None
    top, left = divmod(int(places[rng.integers(len(places))]), inside.shape[1])
    return left, top
