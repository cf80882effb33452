"""The painter against slow, obvious twins."""

from __future__ import annotations

import math
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot_sandbox.concepts import NUMBER
from geoglot_sandbox.materials import Style, materials
from geoglot_sandbox.noise import value_noise
from geoglot_sandbox.painter import Sun, View, paint
from geoglot_sandbox.world import Plot, World, inside

number = st.floats(-20, 20, allow_nan=False)


def _plot(world: World) -> Plot:
    return Plot(world, Random(1), Style(), 64, 64)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(number, number), min_size=3, max_size=8),
    st.lists(st.tuples(number, number), min_size=1, max_size=20),
)
def test_inside_is_the_crossing_rule(outline: list[tuple[float, float]], points: list[tuple[float, float]]) -> None:
    fast = inside(np.array(outline), np.array(points))
    for (x, y), got in zip(points, fast.tolist(), strict=True):
        hits = 0
        for (x0, y0), (x1, y1) in zip(outline, outline[1:] + outline[:1], strict=True):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                hits += 1
        assert got == (hits % 2 == 1)


def test_disc_has_its_area() -> None:
    world = World()
    _plot(world).disc("tank", 0, 0, 10, "storage_tank", part_of=1)
    painted = paint(world, View.north_up(-16, 16, 0.25, (128, 128)), Sun())
    area = (painted.mask == NUMBER["storage_tank"]).sum() * 0.25**2
    assert abs(area - math.pi * 100) < 12


def test_shadow_falls_away_from_the_sun_and_off_the_roof() -> None:
    world = World()
    p = _plot(world)
    p.ground("concrete")
    p.rect("flat_roof", 0, 0, 10, 10, "building", height=10)
    shadow = paint(world, View.north_up(-32, 32, 0.5, (128, 128)), Sun(azimuth=180, elevation=45)).shadow
    assert shadow[64 - 24, 64] > 0.9  # 12 m north of the middle: inside the 10 m throw beyond the wall at 5 m
    assert shadow[64 + 24, 64] == 0
    assert shadow[64, 64] == 0
    assert shadow[64 - 40, 64] == 0  # 20 m north: beyond it


def test_noise_belongs_to_the_ground() -> None:
    whole = value_noise((100.0, 200.0), 0.5, (80, 80), 5.0, 3)
    part = value_noise((110.0, 190.0), 0.5, (40, 40), 5.0, 3)
    np.testing.assert_allclose(whole[20:60, 20:60], part, atol=1e-3)
    assert whole.std() > 0.2


def test_clear_takes_whole_objects() -> None:
    world = World()
    p = _plot(world)
    part = p.object("house")
    p.rect("tile_roof", 0, 0, 8, 8, "house", part_of=part, height=4)
    p.rect("tile_roof", 20, 0, 8, 8, "house", part_of=part, height=4)
    p.rect("tile_roof", -20, 0, 8, 8, "house", part_of=p.object("house"), height=4)
    p.ground("lawn")
    p.clear_rect(-4, -4, 4, 4)
    assert [s.part_of for s in world.shapes] == [2, 0]


def test_materials_are_complete() -> None:
    for name, material in materials().items():
        assert material.colours, name
        assert len(material.noise) == 4
        assert 0 <= material.nir <= 1
        assert 0 <= material.swir <= 1
