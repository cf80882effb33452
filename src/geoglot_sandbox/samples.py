"""Training chips: one scene kind per chip, with labels, a mask and captions, varied in every respect."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UnknownNameError, UsageError
from geoglot_sandbox import farms, leisure, nature, town, waterfront, ways
from geoglot_sandbox.captions import describe
from geoglot_sandbox.concepts import CONCEPTS
from geoglot_sandbox.materials import random_style
from geoglot_sandbox.painter import Painted, Sun, View, paint
from geoglot_sandbox.sensors import photograph, random_look
from geoglot_sandbox.world import Plot, World

Layout = Callable[[Plot], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """How to draw a scene kind: its layout, and the range of ground sizes (metres a side) at which it is recognised."""

    layout: Layout
    low_m: float
    high_m: float


_KINDS: dict[str, Kind] = {
    "airplane": Kind(ways.airplane_stand, 55, 220),
    "airport": Kind(ways.airport, 450, 1300),
    "runway": Kind(ways.runway, 75, 700),
    "harbor": Kind(waterfront.harbor, 60, 320),
    "storage_tank": Kind(waterfront.storage_tank, 70, 360),
    "tennis_court": Kind(leisure.tennis_court, 45, 150),
    "basketball_court": Kind(leisure.basketball_court, 40, 120),
    "baseball_field": Kind(leisure.baseball_field, 75, 260),
    "football_field": Kind(leisure.football_field, 110, 280),
    "golf_course": Kind(leisure.golf_course, 75, 600),
    "parking_lot": Kind(town.parking_lot, 45, 130),
    "intersection": Kind(ways.intersection, 60, 180),
    "roundabout": Kind(ways.roundabout, 90, 230),
    "freeway": Kind(ways.freeway, 70, 300),
    "overpass": Kind(ways.overpass, 70, 300),
    "bridge": Kind(ways.bridge, 80, 400),
    "railway": Kind(ways.railway, 50, 250),
    "river": Kind(nature.river, 75, 900),
    "lake": Kind(nature.lake, 250, 1500),
    "pond": Kind(nature.pond, 60, 250),
    "beach": Kind(nature.beach, 70, 400),
    "sea": Kind(nature.sea, 75, 800),
    "island": Kind(nature.island, 150, 1200),
    "forest": Kind(nature.forest, 70, 900),
    "sparse_forest": Kind(nature.sparse_forest, 70, 300),
    "chaparral": Kind(nature.chaparral, 60, 220),
    "farmland": Kind(farms.farmland, 70, 1200),
    "circular_farmland": Kind(farms.circular_farmland, 500, 2400),
    "meadow": Kind(nature.meadow, 70, 500),
    "desert": Kind(nature.desert, 80, 900),
    "bare_land": Kind(nature.bare_land, 70, 500),
    "dense_residential": Kind(town.dense_residential, 65, 260),
    "medium_residential": Kind(town.medium_residential, 70, 260),
    "sparse_residential": Kind(town.sparse_residential, 75, 240),
    "mobile_home_park": Kind(town.mobile_home_park, 60, 200),
    "industrial": Kind(town.industrial, 90, 420),
    "commercial": Kind(town.commercial, 70, 320),
    "solar_farm": Kind(farms.solar_farm, 70, 420),
    "swimming_pool": Kind(town.swimming_pool, 35, 80),
    "greenhouse": Kind(farms.greenhouse, 70, 300),
    "park": Kind(town.park, 80, 240),
    "ship": Kind(nature.ship_at_sea, 50, 220),
    "cars": Kind(town.cars, 35, 110),
    "wind_turbine": Kind(farms.wind_farm, 120, 450),
}
KINDS: tuple[str, ...] = tuple(_KINDS)
"""All scene kinds that `draw_sample` knows."""

_TURNED = frozenset(
    ("dense_residential", "medium_residential", "mobile_home_park", "farmland", "parking_lot", "intersection")
)
"""Kinds whose rows often run along the picture's edges, as in towns that were laid out to the compass."""
_NAMELESS = frozenset(("other", "tree", "road", "house", "building", "pier", "overpass"))
"""Classes that are everywhere; named only when they fill much of the picture."""
_SHOWN, _SHOWN_PLAIN = 0.03, 0.12
"""Least share of the picture at which a class is named."""
LABEL_OF_KIND = {"cars": "car"}


@dataclass(frozen=True, slots=True)
class Sample:
    """A synthetic training chip.

    Attributes:
        rgb: uint8 [S, S, 3].
        labels: Concept ids, the most prominent first; holds the kind.
        mask: uint8 [S, S], indices into `concepts.CONCEPTS`.
        captions: Sentences by language code, in ten languages.
        gsd_m: Metres per pixel.
    """

    rgb: NDArray[np.uint8]
    labels: tuple[str, ...]
    mask: NDArray[np.uint8]
    captions: dict[str, tuple[str, ...]]
    gsd_m: float


def draw_sample(kind: str, seed: int, size_px: int = 160, gsd_m: float | None = None) -> Sample:
    """Draw one chip; equal arguments give equal pixels. Cost: 5 to 40 ms at 160 px.

    Raises:
        UnknownNameError: No such kind.
        UsageError: A size below 8 px, or a ground sample distance that is not above 0.
    """
    if kind not in _KINDS:
        raise UnknownNameError("scene kind", kind, KINDS)
    if size_px < 8 or (gsd_m is not None and not gsd_m > 0):
        raise UsageError(
            f"a sample of {size_px} px at {gsd_m} m per pixel cannot be drawn", hint="At least 8 px, above 0 m."
        )
    rng = Random(f"geoglot sample {kind} {seed}")
    spec = _KINDS[kind]
    gsd = gsd_m or math.exp(rng.uniform(math.log(spec.low_m), math.log(spec.high_m))) / size_px
    painted, world = _paint_kind(kind, spec.layout, rng, size_px, gsd)
    labels = _labels(kind, painted.mask)
    counts = _counts(painted, world)
    captions = describe(labels, counts, rng)
    return Sample(photograph(painted, random_look(rng), rng.getrandbits(32)), labels, painted.mask, captions, gsd)


def _paint_kind(kind: str, layout: Layout, rng: Random, size_px: int, gsd: float) -> tuple[Painted, World]:
    side = size_px * gsd
    turned = rng.uniform(0, 2 * math.pi)
    if kind in _TURNED and rng.random() < 0.6:
        turned = rng.choice((0, 1, 2, 3)) * math.pi / 2 + rng.gauss(0, 0.02)
    # The plot must cover the chip however it is turned.
    cover = side * (abs(math.cos(turned)) + abs(math.sin(turned))) * 1.08
    shift = 0.08 * side
    reach = side / 2 * 1.1 + 25.0  # what stands farther out is not seen, nor is its shadow
    world = World()
    plot = Plot(
        world,
        rng,
        random_style(rng),
        cover,
        cover,
        turned,
        (rng.uniform(-shift, shift) / 2, rng.uniform(-shift, shift) / 2),
        gsd,
        lambda x, y: abs(x) < reach and abs(y) < reach,
    )
    layout(plot)
    view = View.north_up(-side / 2, side / 2, gsd, (size_px, size_px))
    sun = Sun(rng.uniform(90, 270), rng.uniform(28, 68))
    return paint(world, view, sun, seed=rng.randrange(1 << 16)), world


def _labels(kind: str, mask: NDArray[np.uint8]) -> tuple[str, ...]:
    share = np.bincount(mask.ravel(), minlength=len(CONCEPTS)) / mask.size
    first = LABEL_OF_KIND.get(kind, kind)
    order = np.argsort(-share, kind="stable")
    shown = [CONCEPTS[i] for i in order if i and share[i] > (_SHOWN_PLAIN if CONCEPTS[i] in _NAMELESS else _SHOWN)]
    return (first, *(name for name in shown if name != first))


def _counts(painted: Painted, world: World) -> dict[str, int]:
    """How many objects of each class are visible (at least 12 px of each)."""
    numbers, sizes = np.unique(painted.objects, return_counts=True)
    counts: dict[str, int] = {}
    for number, size in zip(numbers.tolist(), sizes.tolist(), strict=True):
        if number and size >= 12:
            name = world.objects[number - 1]
            counts[name] = counts.get(name, 0) + 1
    return counts
