"""Layouts for sport: courts, pitches, golf."""

from __future__ import annotations

import math

from geoglot_sandbox.objects import baseball_field as draw_baseball
from geoglot_sandbox.objects import basketball_court as draw_basketball
from geoglot_sandbox.objects import house, pitch, scatter, tree, tree_row, trees
from geoglot_sandbox.objects import tennis_court as draw_tennis
from geoglot_sandbox.town import parking_lot
from geoglot_sandbox.world import Plot, wave_line

SURFACES = ("court_green", "court_red", "court_blue", "asphalt", "clay")


def around(p: Plot) -> None:
    """Lawn and trees that frame a court."""
    p.ground(p.rng.choice(("lawn", "grass", "concrete", "soil")), "park")
    trees(p, p.rng.choice((10, 40, 90)), 1.5, 4.5)
    if p.rng.random() < 0.3:
        house(p, p.rng.choice((-1, 1)) * p.width * 0.3, p.height * 0.3, 16, 11)


def tennis_court(p: Plot) -> None:
    """One court, or a row of them."""
    around(p)
    inner, outer = p.rng.choice(SURFACES), p.rng.choice(SURFACES)
    count, rows = p.rng.choice((1, 1, 2, 3, 4)), p.rng.choice((1, 1, 2))
    p.clear_rect(0, 0, rows * 36, count * 18)
    p.rect(outer, 0, 0, rows * 36, count * 18)
    for j in range(rows):
        for i in range(count):
            draw_tennis(p, (j - (rows - 1) / 2) * 36, (i - (count - 1) / 2) * 18, 0.0, inner, outer)


def basketball_court(p: Plot) -> None:
    """One court, or a few."""
    around(p)
    surface, key = p.rng.choice(SURFACES), p.rng.choice(SURFACES)
    count = p.rng.choice((1, 1, 2, 2, 3))
    for i in range(count):
        draw_basketball(p, 0, (i - (count - 1) / 2) * 21, 0.0, surface, key)


def baseball_field(p: Plot) -> None:
    """One diamond, or two to four in a clover."""
    p.ground(p.rng.choice(("lawn", "grass")), "park")
    trees(p, 6)
    size = p.rng.uniform(62, 110)
    count = 1 if size > 80 else p.rng.choice((1, 2, 4))
    for k in range(count):
        turn = k * math.pi / 2 if count > 1 else 0.0
        off = (size * 0.55 if count > 1 else 0.0) * math.sqrt(2)
        t = turn + math.pi / 4
        draw_baseball(p, off * math.cos(t), off * math.sin(t), size, turn)
    if count == 1 and p.rng.random() < 0.5:
        parking_lot(p.sub(-size * 0.9, 0, 34, size))


def football_field(p: Plot) -> None:
    """A pitch, often within a running track, sometimes with stands."""
    around(p)
    length, ringed = p.rng.uniform(88, 110), p.rng.random() < 0.55
    pitch(p, 0, 0, length, 0.0, ringed)
    if p.rng.random() < 0.5:
        off = length * 0.325 + (26 if ringed else 12)
        part = p.object("building")
        p.rect("metal_roof", 0, off, length * 0.8, 12, "building", part_of=part, height=9, rows=(0.0, 3.0, 0.1))


def golf_course(p: Plot) -> None:
    """Fairways that curve through rough and trees, greens, bunkers, ponds and paths."""
    p.ground(p.rng.choice(("grass", "meadow", "grass", "scrubland")), "golf_course")
    holes = max(2, round(p.height / p.rng.uniform(60, 90)))
    for k in range(holes):
        y = (k + 0.5) * p.height / holes - p.height / 2
        q = p.sub(p.rng.uniform(-0.1, 0.1) * p.width, y, p.width, p.height / holes, p.rng.gauss(0, 0.15))
        _hole(q)
    trees(p, p.rng.uniform(8, 20), 2, 4.5)


def _hole(p: Plot) -> None:
    wide, length = min(34.0, p.height * 0.5), min(p.width * 0.95, p.rng.uniform(140, 360))
    line = wave_line(p.rng, length, p.height * 0.13, length * 1.3)
    colour = p.pick("lawn")
    mow = (p.rng.choice((0.0, 0.8)), 9.0, 0.03)
    p.path("lawn", line, wide, "golf_course", colour=colour, rows=mow)
    p.blob("lawn", line[-1][0], line[-1][1], wide * 0.62, colour=colour)
    p.blob("lawn", line[0][0], line[0][1], wide * 0.5, colour=colour)
    light = (min(255, colour[0] + 22), min(255, colour[1] + 24), min(255, colour[2] + 12))
    p.blob("turf", line[-1][0], line[-1][1], wide * 0.36, colour=light)
    for _ in range(p.rng.randrange(2, 5)):
        turn = p.rng.uniform(0, 6.3)
        x, y = line[-1][0] + wide * 0.72 * math.cos(turn), line[-1][1] + wide * 0.72 * math.sin(turn)
        p.blob("bunker", x, y, p.rng.uniform(3.5, 8))
    for _ in range(p.rng.randrange(3)):
        x, y = p.rng.choice(line)
        p.blob("bunker", x, y + p.rng.choice((-1, 1)) * wide * 0.45, p.rng.uniform(3.5, 7))
    if p.rng.random() < 0.25:
        x, y = p.rng.choice(line)
        p.blob("lake_water", x, y + wide * 0.9, p.rng.uniform(9, 20), "pond")
    path = [(x, y - wide * 0.75) for x, y in line]
    p.path("concrete", path, 2.2)
    with p.aside():
        edge = p.height / 2
        tree_row(p, (-length / 2, edge), (length / 2, edge), 7, 3.4)
        for x, y in scatter(p.sub(0, edge, length, 16), length / 12):
            tree(p, x, y + edge, p.rng.uniform(2, 4.5))


def sports_ground(p: Plot) -> None:
    """A stadium pitch, baseball, courts side by side and a parking lot on one lawn."""
    p.ground("lawn", "park")
    trees(p, 9, 2, 4.5)
    pitch(p, -70, 80, 105, 0.0, True)
    p.rect("metal_roof", -70, 148, 90, 12, "building", part_of=p.object("building"), height=9, rows=(0.0, 3.0, 0.1))
    draw_baseball(p, 130, 120, 95, 0.0)
    p.clear_rect(-110, -70, 112, 80)
    p.rect("court_green", -110, -70, 112, 76)
    for i in range(3):
        for j in range(4):
            draw_tennis(
                p, -147 + 37 * i, -98 + 18.5 * j, 0.0, p.rng.choice(("court_blue", "court_blue", "clay")), "court_green"
            )
    for i in range(3):
        draw_basketball(p, 0, -94 + 23 * i, 0.0, "court_red", "court_blue")
    lot = p.sub(100, -75, 110, 80)
    lot.clear_rect(0, 0, 110, 80)
    parking_lot(lot, 0.7)
    tree_row(p, (-230, -20), (230, -20), 11, 3.2)
    tree_row(p, (-230, -125), (230, -125), 11, 3.2)
