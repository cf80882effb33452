"""Metrics of semantic localization: does a map of where a sentence holds point to the regions that people marked?

Yuan et al., "Learning to Evaluate Performance of Multi-modal Semantic Localization", TGRS 2022, arXiv 2209.06515, as
their released code computes them; its constants stand in `Constants`. NumPy only.

    Rsu   how much of the map lies inside the regions, for their size                     0 to 1, higher is better
    Ras   how far the map's centres of attention lie from the regions' centres            0 to 1, lower is better
    Rda   how few centres a region's attention is split into                              0 to 1, higher is better
    Rmi   0.4 Rsu + 0.35 (1 - Ras) + 0.25 Rda                                             0 to 1, higher is better

The neighbourhood in which a centre must be the highest point is 1,000 px wide whatever the map's size: a map smaller
than that has one centre at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.evaluation.map_filters import box_blur, highest
from geoglot.scoring.blobs import blobs

Polygon = Sequence[tuple[float, float]]
"""Vertices (x, y) in pixels of the map."""


@dataclass(frozen=True, slots=True)
class Constants:
    """The released code's.

    Attributes:
        beta, epsilon: Of Rsu.
        expand: A region's radius over the mean distance of its vertices from their mean.
        passes, blur_px: The map is blurred so many times before its centres are looked for.
        neighbourhood_px: Width of the square in which a centre is the highest.
        steepness: Of Ras.
        split: Weight of how close together several centres lie, in Rda.
        least: Least probability of a centre.
        weights: Of Rsu, 1 - Ras and Rda in Rmi.
    """

    beta: float = 0.707
    epsilon: float = 1e-7
    expand: float = 1.5
    passes: int = 5
    blur_px: int = 50
    neighbourhood_px: int = 1000
    steepness: float = 3.0
    split: float = 0.5
    least: float = 0.5
    weights: tuple[float, float, float] = (0.4, 0.35, 0.25)


RELEASED = Constants()


@dataclass(frozen=True, slots=True)
class Circle:
    """Where a region's attention should lie: centre and radius in pixels."""

    x: float
    y: float
    radius: float

    def distances(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of those points [N, 2] that lie inside, edge included."""
        found = np.hypot(points[:, 0] - self.x, points[:, 1] - self.y)
        return np.asarray(found[found <= self.radius])

    def inside(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Those points [N, 2] that lie inside, edge included."""
        return np.asarray(points[np.hypot(points[:, 0] - self.x, points[:, 1] - self.y) <= self.radius])


@dataclass(frozen=True, slots=True)
class SeloScores:
    """The four metrics of one map, each in [0, 1]."""

    rsu: float
    ras: float
    rda: float
    rmi: float


def selo_scores(
    p: NDArray[np.floating], regions: Sequence[Polygon], constants: Constants = RELEASED, *, even_odd: bool = False
) -> SeloScores:
    """All four metrics.

    Args:
        p: The map, probabilities [H, W] in [0, 1].
        regions: What people marked, one polygon at least.
        constants: Of the metrics.
        even_odd: Where an even number of regions overlap there is none, as the released code has it.

    Raises:
        UsageError: No region, one of fewer than three vertices, or regions that cover none or all of the map.
    """
    if not regions or min(len(region) for region in regions) < 3:
        raise UsageError(f"{len(regions)} regions: at least one is needed, and three vertices of each")
    circles = [circle_around(region, constants) for region in regions]
    centres = attention_centres(p, constants)
    rsu = significance(p, filled(regions, p.shape, even_odd=even_odd), constants)
    ras, rda = shift(circles, centres, constants), discrete(circles, centres, constants)
    a, b, c = constants.weights
    return SeloScores(rsu, ras, rda, a * rsu + b * (1 - ras) + c * rda)


def filled(regions: Sequence[Polygon], shape: tuple[int, ...], *, even_odd: bool = False) -> NDArray[np.bool_]:
    """The union of polygons, edges included, vertices cut to whole pixels [H, W].

    With `even_odd` what lies in an even number of them is left out, but for their edges: OpenCV's fillPoly of all at
    once, which the released metrics call.
    """
    from PIL import Image, ImageDraw

    def drawn(region: Polygon, fill: int | None) -> NDArray[np.bool_]:
        image = Image.new("1", (shape[1], shape[0]))
        ImageDraw.Draw(image).polygon([(int(x), int(y)) for x, y in region], fill=fill, outline=1)
        return np.array(image)

    mask, edges = np.zeros(shape[:2], np.bool_), np.zeros(shape[:2], np.bool_)
    for region in regions:
        mask = mask ^ drawn(region, 1) if even_odd else mask | drawn(region, 1)
        edges |= drawn(region, None)
    return mask | edges


def significance(p: NDArray[np.floating], mask: NDArray[np.bool_], constants: Constants = RELEASED) -> float:
    """Rsu: 1 - exp(-beta * (inside / outside) * (pixels outside / pixels inside)).

    Raises:
        UsageError: The mask is empty or full.
    """
    area, size = int(mask.sum()), mask.size
    if not 0 < area < size:
        raise UsageError(f"the regions cover {area:,} of {size:,} px: neither none nor all can be scored")
    inside = float(p[mask].sum(dtype=np.float64))
    outside = float(p.sum(dtype=np.float64)) - inside
    return 1 - math.exp(-constants.beta * inside / (outside + constants.epsilon) * (size - area) / area)


def circle_around(region: Polygon, constants: Constants = RELEASED) -> Circle:
    """Integer mean of the vertices (not of the area), and 1.5 times their mean distance from it; at least 1 px."""
    vertices = np.asarray(region, np.float64)
    x, y = (int(total / len(vertices)) for total in vertices.sum(0).tolist())
    radius = int(constants.expand * float(np.hypot(vertices[:, 0] - x, vertices[:, 1] - y).mean()))
    return Circle(x, y, max(1, radius))


def attention_centres(p: NDArray[np.floating], constants: Constants = RELEASED) -> NDArray[np.float64]:
    """Where the blurred map is the highest of its neighbourhood: whole pixels (x, y) [N, 2], most probable first."""
    grey = (np.asarray(p, np.float64) * 255.0).astype(np.uint8)
    for _ in range(constants.passes):
        grey = box_blur(grey, constants.blur_px)
    tops = (grey == highest(grey, constants.neighbourhood_px)) & (grey > 0)
    points = [(int(blob.centre[0]), int(blob.centre[1])) for blob in blobs(tops)]
    sure = sorted((pt for pt in points if p[pt[1], pt[0]] >= constants.least), key=lambda pt: -float(p[pt[1], pt[0]]))
    return np.array(sure, np.float64).reshape(-1, 2)


def shift(circles: Sequence[Circle], centres: NDArray[np.float64], constants: Constants = RELEASED) -> float:
    """Ras: (exp(3 v) - 1) / (exp(3) - 1), v the mean over regions of distance / radius; 1 where no centre is near."""
    parts = []
    for circle in circles:
        near = circle.distances(centres)
        parts.append(float(near.mean()) / circle.radius if len(near) else 1.0)
    steep = constants.steepness
    return math.expm1(steep * sum(parts) / len(parts)) / math.expm1(steep)


def discrete(circles: Sequence[Circle], centres: NDArray[np.float64], constants: Constants = RELEASED) -> float:
    """Rda: per region 0 without a centre, 1 with one, less with several; the mean."""
    return sum(_whole(circle, circle.inside(centres), constants) for circle in circles) / len(circles)


def _whole(circle: Circle, near: NDArray[np.float64], constants: Constants) -> float:
    if len(near) < 2:
        return float(len(near))
    middle = near.mean(0)
    spread = float(np.hypot(near[:, 0] - middle[0], near[:, 1] - middle[1]).mean()) / circle.radius
    return constants.split * (1 - spread) + math.exp(-0.5 * (len(near) + 2))
