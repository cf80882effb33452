"""Layouts of the countryside that people work: fields, pivots, greenhouses, solar and wind farms."""

from __future__ import annotations

import math

from geoglot_sandbox.objects import block, house, scatter, tree_row, trees, wind_turbine
from geoglot_sandbox.world import Plot

CROPS = ("crop", "crop", "crop", "ripe_crop", "soil", "meadow")


def field(p: Plot, x: float, y: float, w: float, h: float) -> None:
    """One parcel with rows along its longer side."""
    material = p.rng.choice(CROPS)
    along = 0.0 if w > h else math.pi / 2
    wave = p.rng.choice((1.6, 2.4, 3.5, 6.0, 9.0))
    strength = p.rng.uniform(0.0, 0.12) * (1.4 if material in {"crop", "soil"} else 0.7)
    p.rect(material, x, y, w, h, "farmland", rows=(along, wave, strength))
    with p.aside():
        for _ in range(0 if p.far else p.rng.choice((0, 0, 0, 1, 3))):
            u, v = x + p.rng.uniform(-0.35, 0.35) * w, y + p.rng.uniform(-0.35, 0.35) * h
            p.blob(material, u, v, 0.12 * min(w, h))


def parcels(p: Plot, x: float, y: float, w: float, h: float, smallest: float, depth: int = 0) -> None:
    """Split land into fields, again and again."""
    longer = max(w, h)
    if longer < smallest * 1.6 or depth > 6 or (depth > 2 and p.rng.random() < 0.15):
        gap = p.rng.choice((0.6, 1.0, 2.0))
        field(p, x, y, w - gap, h - gap)
        return
    cut = p.rng.uniform(0.35, 0.65)
    if w > h:
        parcels(p, x - w * (1 - cut) / 2, y, w * cut, h, smallest, depth + 1)
        parcels(p, x + w * cut / 2, y, w * (1 - cut), h, smallest, depth + 1)
    else:
        parcels(p, x, y - h * (1 - cut) / 2, w, h * cut, smallest, depth + 1)
        parcels(p, x, y + h * cut / 2, w, h * (1 - cut), smallest, depth + 1)


def farmland(p: Plot) -> None:
    """A mosaic of fields with a track, hedges and sometimes a farm."""
    p.ground("grass", "farmland")
    size = p.rng.uniform(0.12, 0.55) * min(p.width, p.height, 420)
    parcels(p, 0, 0, p.width, p.height, max(size, 24))
    if p.rng.random() < 0.5:
        y = p.rng.uniform(-0.3, 0.3) * p.height
        p.path("dirt_road", [(-p.width / 2, y), (p.width / 2, y)], 4.5, "road")
        with p.aside():
            tree_row(p, (-p.width / 2, y + 5), (p.width / 2, y + 5), p.rng.choice((9, 40)))
    if p.width > 250 and p.rng.random() < 0.4:
        farmstead(p.sub(p.rng.uniform(-0.3, 0.3) * p.width, p.rng.uniform(-0.3, 0.3) * p.height, 70, 60))


def farmstead(p: Plot) -> None:
    """A house, barns and trees."""
    p.ground("lawn", "farmland")
    p.rect("dirt_road", 0, -8, 50, 10)
    house(p, -18, 12, 15, 10)
    block(p, 12, 12, 28, 13, concept="warehouse", material="metal_roof", height=6)
    block(p, 18, -20, 22, 11, concept="warehouse", material="metal_roof", height=5)
    trees(p, 35, 2, 4)


def circular_farmland(p: Plot) -> None:
    """Fields watered by centre pivots, on dry land."""
    p.ground(p.rng.choice(("soil", "bare", "scrubland")), "bare_land")
    count = p.rng.choice((1, 2, 2, 3))
    side = max(p.width, p.height) / count
    n = math.ceil(count / 2) + 1
    for i in range(-n, n + 1):
        for j in range(-n, n + 1):
            if p.rng.random() < 0.92:
                pivot(
                    p,
                    (i + 0.5 * (count % 2 == 0)) * side,
                    (j + 0.5 * (count % 2 == 0)) * side,
                    side * p.rng.uniform(0.44, 0.485),
                )


def pivot(p: Plot, x: float, y: float, radius: float) -> None:
    """One round field: sometimes cut like a cake, always with wheel tracks."""
    if abs(x) > p.width / 2 + radius or abs(y) > p.height / 2 + radius:
        return
    start, share = p.rng.uniform(0, 6.3), p.rng.choice((1.0, 1.0, 0.5, 0.75))
    for a, b in ((start, start + 2 * math.pi * share), (start + 2 * math.pi * share, start + 2 * math.pi)):
        if b - a > 0.01:
            arc = [
                (x + radius * math.cos(a + (b - a) * i / 60), y + radius * math.sin(a + (b - a) * i / 60))
                for i in range(61)
            ]
            material = p.rng.choice(("crop", "crop", "crop", "ripe_crop", "soil"))
            p.poly(material, [(x, y), *arc], "circular_farmland", rows=(start, p.rng.choice((3, 6, 11)), 0.05))
    for k in range(1, int(radius / 45)):
        r = 45.0 * k
        circle = [(x + r * math.cos(i * math.pi / 20), y + r * math.sin(i * math.pi / 20)) for i in range(41)]
        p.path("soil", circle, 0.9)
    p.path("metal_roof", [(x, y), (x + radius * math.cos(start), y + radius * math.sin(start))], 1.0, level=1)


def greenhouse(p: Plot) -> None:
    """Rows of long glass or plastic roofs."""
    p.ground(p.rng.choice(("soil", "grass", "bare")), "farmland")
    w, h = p.rng.uniform(7, 14), p.rng.uniform(35, 80)
    gap = p.rng.uniform(1.5, 6)
    rows = math.ceil(p.height / (h + 8)) + 1
    for j in range(rows):
        y = (j - (rows - 1) / 2) * (h + 8)
        p.rect("dirt_road", 0, y + h / 2 + 4, p.width, 4)
        for i in range(int(p.width / (w + gap))):
            x = -p.width / 2 + (i + 0.5) * (w + gap)
            if p.rng.random() < 0.92:
                part, colour = p.object("greenhouse"), p.pick("glass_roof")
                p.rect(
                    "glass_roof", x, y, w, h, "greenhouse", part_of=part, height=3.5, colour=colour, rows=(0, 4.0, 0.07)
                )
                dim = (int(colour[0] * 0.86), int(colour[1] * 0.87), int(colour[2] * 0.89))
                p.rect("glass_roof", x + w / 4, y, w / 2, h, part_of=part, level=1, colour=dim, rows=(0, 4.0, 0.07))


def solar_farm(p: Plot) -> None:
    """Tables of dark panels in rows, in blocks between service tracks."""
    p.ground(p.rng.choice(("grass", "meadow", "bare", "scrubland")), "solar_farm")
    deep, pitch = p.rng.uniform(2.6, 4.6), p.rng.uniform(1.7, 2.4)
    span = p.rng.uniform(28, 60)
    step, blocks = deep * pitch, math.ceil(p.width / (span + 5))
    for i in range(blocks):
        x = (i - (blocks - 1) / 2) * (span + 5)
        if p.far:
            p.rect("solar_cell", x, 0, span, p.height - 12, "solar_farm")
            continue
        for j in range(min(90, int((p.height - 6) / step))):
            if j % 14 == 13:
                continue
            y = -p.height / 2 + 6 + (j + 0.5) * step
            p.rect("solar_cell", x, y, span, deep, "solar_farm", height=1.6, rows=(math.pi / 2, 4.0, 0.1))
            p.rect("paint", x, y - deep / 2, span, 0.25, level=1)
    p.rect("dirt_road", 0, p.rng.uniform(-0.2, 0.2) * p.height, p.width, 4)


def wind_farm(p: Plot) -> None:
    """Turbines over fields."""
    farmland(p)
    for x, y in scatter(p, max(1.0, p.width * p.height / 6e4), 30):
        wind_turbine(p, x, y)
