"""Layouts of ways: roads and where they meet, freeways, bridges, railways, runways with their aircraft."""

from __future__ import annotations

import math
from collections.abc import Callable

from geoglot_sandbox.nature import bare_land, forest, meadow, sparse_forest, stream
from geoglot_sandbox.objects import airplane, block, car, scatter, tree_row, trees, truck
from geoglot_sandbox.town import commercial, medium_residential, parking_lot
from geoglot_sandbox.world import Plot, wave_line


def surroundings(p: Plot) -> None:
    """Something for a way to lead through."""
    if p.far:
        meadow(p)
        return
    choice: Callable[[Plot], None] = p.rng.choice(
        (meadow, bare_land, sparse_forest, medium_residential, commercial, verge, verge)
    )
    choice(p)


def verge(p: Plot) -> None:
    """Mown grass and a few trees."""
    p.ground(p.rng.choice(("grass", "lawn", "scrubland")), "meadow")
    trees(p, p.rng.choice((5, 20, 60)), 1.5, 4)


def carriageway(
    p: Plot, y: float, lanes: int, heading: float, traffic: float, level: int = 0, concept: str = "road"
) -> None:
    """Parallel lanes in one direction along the plot's x axis, with dashes and vehicles."""
    lane = 3.6
    width = lanes * lane + 3
    p.rect(
        "asphalt",
        0,
        y,
        p.width,
        width,
        concept,
        level=level,
        colour=p.pick("concrete") if p.rng.random() < 0.3 else p.pick("asphalt"),
    )
    if p.far:
        return
    for edge in (-1, 1):
        p.rect("paint", 0, y + edge * lanes * lane / 2, p.width, 0.22, level=level)
    for k in range(1, lanes):
        for i in range(int(p.width / 12)):
            p.rect("paint", -p.width / 2 + 12 * i + 3, y + (k - lanes / 2) * lane, 3.5, 0.2, level=level)
    for k in range(lanes):
        for i in range(int(p.width / 18)):
            if p.rng.random() < traffic:
                x, v = -p.width / 2 + 18 * i + p.rng.uniform(0, 10), y + (k + 0.5 - lanes / 2) * lane
                (truck if p.rng.random() < 0.12 else car)(p, x, v, heading, level + 1)


def highway(p: Plot, lanes: int, level: int = 0, concept: str = "freeway", deck_m: float = 0.0) -> None:
    """Two carriageways and a median along the x axis."""
    gap = p.rng.choice((1.5, 4.0, 9.0)) if not deck_m else 1.0
    offset, traffic = lanes * 1.8 + 1.5 + gap / 2, p.rng.choice((0.1, 0.25, 0.5))
    full = 2 * (offset + lanes * 1.8 + 1.5)
    if not level:
        p.clear_rect(0, 0, p.width, full + 4)
    if deck_m:
        p.rect("concrete", 0, 0, p.width, full + 2, concept, height=deck_m, level=level)
    else:
        p.rect(p.rng.choice(("concrete", "grass", "soil")), 0, 0, p.width, full + 6, concept)
        p.rect(p.rng.choice(("concrete", "grass")), 0, 0, p.width, gap, concept)
    for side in (-1, 1):
        carriageway(p, side * offset, lanes, 0.0 if side < 0 else math.pi, traffic, level, concept)


def freeway(p: Plot) -> None:
    """A freeway through open land or town."""
    verge(p) if p.rng.random() < 0.5 else surroundings(p)
    lanes = p.rng.choice((2, 3, 4, 5))
    highway(p.sub(0, p.rng.uniform(-0.08, 0.08) * p.height, p.width, 50), lanes)
    tree_row(p, (-p.width / 2, 0.3 * p.height), (p.width / 2, 0.3 * p.height), 8)


def overpass(p: Plot) -> None:
    """One road on a deck over another, with ramps."""
    verge(p)
    highway(p.sub(0, 0, p.width, 50), p.rng.choice((2, 3, 4)))
    cross = p.rng.uniform(-0.35, 0.35) + math.pi / 2
    x = p.rng.uniform(-0.1, 0.1) * p.width
    if p.rng.random() < 0.5:
        for side in (-1, 1):
            for way in (-1, 1):
                arc = [(x + way * (12 + 60 * t * t), side * (75 - 56 * t)) for t in (i / 10 for i in range(11))]
                p.path("asphalt", arc, 6, "road")
    for shift in (0.0, 30.0) if p.rng.random() < 0.3 else (0.0,):
        q = p.sub(x + shift, 0, p.height * 1.2, 30, cross)
        q.clear_rect(0, 0, q.width, 22)
        q.rect("concrete", 0, 0, q.width, 14, "road")
        lanes = p.rng.choice((1, 1, 2))
        part = q.object("overpass")
        q.rect("concrete", 0, 0, 66, lanes * 7.2 + 8, "overpass", part_of=part, height=7.0)
        highway(q, lanes, level=1, concept="", deck_m=0.01)


def crossing_road(p: Plot, angle: float, lanes: int) -> None:
    """A street through the middle of the plot."""
    q = p.sub(0, 0, max(p.width, p.height) * 1.5, 20, angle)
    q.clear_rect(0, 0, q.width, lanes * 7.2 + 4)
    q.rect("concrete", 0, 0, q.width, lanes * 7.2 + 6, "road")
    q.rect("asphalt", 0, 0, q.width, lanes * 7.2 + 1, "road", colour=p.pick("asphalt"))
    if p.far:
        return
    for side in (-1, 1):
        q.rect("yellow_paint", side * (q.width / 4 + 9), 0, q.width / 2, 0.3)
        for k in range(1, lanes):
            for way in (-1, 1):
                for i in range(int(q.width / 24) - 1):
                    q.rect("paint", side * (14 + 12 * i), way * k * 3.6, 3, 0.2)
        stop = lanes * 3.6 + 4
        q.rect("paint", side * stop, side * lanes * 1.8, 0.6, lanes * 3.6)
        for i in range(int(lanes * 3)):
            q.rect("paint", side * (stop + 2.2), (i + 0.5 - lanes * 1.5) * 2.3, 2.6, 0.7)
        for k in range(lanes):
            queue = p.rng.randrange(0, 5)
            for i in range(queue):
                car(q, -side * (stop + 5.5 + 6.5 * i), -side * (k + 0.5) * 3.6 * -1, 0.0 if side > 0 else math.pi)


def intersection(p: Plot) -> None:
    """Two streets that cross, with markings, queues and corner buildings."""
    verge(p)
    a, b = p.rng.choice((1, 2, 2)), p.rng.choice((1, 1, 2))
    skew = math.pi / 2 + p.rng.gauss(0, 0.12)
    off_x, off_y = b * 3.6 + 10, a * 3.6 + 10
    for sx in (-1, 1):
        for sy in (-1, 1):
            w, h = p.width / 2 - off_x, p.height / 2 - off_y
            if w > 12 and h > 12:
                _corner(p.sub(sx * (off_x + w / 2), sy * (off_y + h / 2), w, h))
    crossing_road(p, 0.0, a)
    crossing_road(p, skew, b)
    q = p.sub(0, 0, 1, 1)
    q.rect("asphalt", 0, 0, b * 7.2 + 1, a * 7.2 + 1, "intersection")


def _corner(p: Plot) -> None:
    roll = p.rng.random()
    if roll < 0.25:
        parking_lot(p)
    elif roll < 0.7:
        p.ground("concrete")
        size = min(p.width, p.height, 45)
        block(p, 0, 0, size * p.rng.uniform(0.5, 0.85), size * p.rng.uniform(0.4, 0.8), height=7)
        trees(p, 40, 1.5, 3)
    else:
        p.ground("lawn")
        trees(p, 90, 2, 4.5)


def roundabout(p: Plot) -> None:
    """A ring of road around a green island, with three to five arms."""
    surroundings(p) if p.rng.random() < 0.4 else verge(p)
    radius = p.rng.uniform(16, 34)
    arms, start = p.rng.choice((3, 4, 4, 5)), p.rng.uniform(0, 6.3)
    p.clear_rect(0, 0, 2 * radius + 12, 2 * radius + 12)
    p.disc("lawn", 0, 0, radius + 26)
    for k in range(arms):
        t = start + 2 * math.pi * k / arms + p.rng.gauss(0, 0.1)
        reach = max(p.width, p.height)
        q = p.sub(reach / 2 * math.cos(t), reach / 2 * math.sin(t), reach, 12, t)
        q.clear_rect(0, 0, reach, 14)
        q.rect("concrete", 0, 0, reach, 13, "road")
        q.rect("asphalt", 0, 0, reach, 10, "road")
        q.poly("lawn", [(-reach / 2 + radius + 20, 0), (-reach / 2 + radius, -3.4), (-reach / 2 + radius, 3.4)])
        for _ in range(0 if p.far else p.rng.randrange(4)):
            car(q, -reach / 2 + radius + p.rng.uniform(16, 60), -2.5, 0.0)
    part = p.object("roundabout")
    p.disc("concrete", 0, 0, radius + 1.5, "roundabout", part_of=part)
    p.disc("asphalt", 0, 0, radius, "roundabout", part_of=part)
    p.disc("concrete", 0, 0, radius * 0.58, part_of=part)
    p.disc(p.rng.choice(("lawn", "grass", "soil")), 0, 0, radius * 0.52, part_of=part)
    trees(p.sub(0, 0, radius * 0.6, radius * 0.6), 60, 1.5, 3)
    for _ in range(0 if p.far else p.rng.randrange(6)):
        t = p.rng.uniform(0, 6.3)
        car(p, radius * 0.8 * math.cos(t), radius * 0.8 * math.sin(t), t + math.pi / 2)


def bridge(p: Plot) -> None:
    """A road or railway bridge over a river."""
    p.rng.choice((forest, meadow, medium_residential, verge))(p) if not p.far else meadow(p)
    wide = p.rng.uniform(0.3, 0.6) * p.height
    stream(p, wave_line(p.rng, p.width * 1.3, 0.03 * p.height, p.width * 1.2), wide)
    q = p.sub(p.rng.uniform(-0.15, 0.15) * p.width, 0, p.height * 1.3, 20, math.pi / 2 + p.rng.gauss(0, 0.15))
    lanes = p.rng.choice((1, 1, 2, 3))
    q.clear_rect(0, 0, q.width, lanes * 7.2 + 4)
    q.rect("asphalt", 0, 0, q.width, lanes * 7.2 + 3, "road")
    deck(q, wide * 1.1 + 10, lanes)


def deck(p: Plot, span: float, lanes: int) -> None:
    """A bridge of the given span across the middle of a plot, along x."""
    part, width = p.object("bridge"), lanes * 7.2 + 5
    p.rect("concrete", 0, 0, span, width, "bridge", part_of=part, height=7)
    p.rect("asphalt", 0, 0, span, width - 2.4, part_of=part, level=1)
    if p.far:
        return
    p.rect("yellow_paint", 0, 0, span, 0.3, level=1)
    for i in range(int(span / 16)):
        for side in (-1, 1):
            if p.rng.random() < 0.35:
                x = -span / 2 + 16 * (i + 0.5) + p.rng.uniform(-5, 5)
                car(p, x, -side * (p.rng.randrange(lanes) + 0.5) * 3.6, 0.0 if side > 0 else math.pi, 2)


def track(p: Plot, y: float) -> None:
    """Two rails on sleepers along x."""
    p.rect("ballast", 0, y, p.width, 3.4, "railway")
    p.rect("rail", 0, y, p.width, 2.4, rows=(0.0, 1.3, 0.2))
    if not p.far:
        for side in (-0.72, 0.72):
            p.rect("metal_roof", 0, y + side, p.width, 0.22, colour=(158, 152, 148))


def railway(p: Plot) -> None:
    """Tracks side by side, sometimes with a train or a station roof."""
    surroundings(p) if p.rng.random() < 0.4 else verge(p)
    count, pitch = p.rng.choice((1, 2, 2, 4, 8)), 4.8
    p.clear_rect(0, 0, p.width, count * pitch + 6)
    p.rect("ballast", 0, 0, p.width, count * pitch + 5, "railway")
    for k in range(count):
        y = (k - (count - 1) / 2) * pitch
        track(p, y)
        if p.rng.random() < 0.35 and not p.far:
            colour, start = p.pick("cargo"), p.rng.uniform(-0.6, 0.2) * p.width
            for i in range(p.rng.randrange(3, 9)):
                p.rect(
                    "cargo",
                    start + i * 20,
                    y,
                    18.6,
                    2.9,
                    height=3.8,
                    colour=colour if p.rng.random() < 0.7 else p.pick("cargo"),
                )
    if count > 2 and p.rng.random() < 0.5:
        block(p, 0, (count / 2 + 1.5) * pitch, p.width * 0.4, 14, material="metal_roof", height=8)


def runway(p: Plot) -> None:
    """One runway in grass, with markings and a taxiway."""
    _runway(p, 0.3)


def _runway(p: Plot, aircraft: float) -> float:
    """Draws the runway; returns where, going up the plot, the taxiway ends."""
    p.ground(p.rng.choice(("grass", "meadow", "scrubland", "bare")), "airport")
    paved = p.rng.choice(("asphalt", "dark_asphalt", "concrete"))
    width, y = p.rng.uniform(32, 55), p.rng.uniform(-0.15, 0.1) * p.height
    part = p.object("runway")
    p.rect("asphalt", 0, y, p.width * 0.98, width + 12, "airport")
    p.rect(paved, 0, y, p.width * 0.98, width, "runway", part_of=part)
    for side in (-1, 1):
        p.rect("paint", 0, y + side * (width / 2 - 1.5), p.width * 0.97, 0.9, part_of=part)
        end = side * p.width * 0.49
        for k in range(8):
            p.rect("paint", end - side * 20, y + (k - 3.5) * width / 9, 28, width / 18, part_of=part)
        for k in (-1, 1):
            p.rect("paint", end - side * 130, y + k * width * 0.2, 40, 6, part_of=part)
    for i in range(int(p.width / 50)):
        p.rect("paint", -p.width * 0.47 + 50 * i, y, 30, 0.9, part_of=part)
    far_side = y + width / 2 + p.rng.uniform(40, 80)
    p.rect("asphalt", 0, far_side, p.width, 18, "airport")
    for i in range(-1, 2):
        q = p.sub(
            i * p.width * 0.36, (y + far_side) / 2, far_side - y, 16, math.pi / 2 + p.rng.choice((-0.5, 0.0, 0.5))
        )
        q.rect("asphalt", 0, 0, (far_side - y) * 1.1, 16, "airport")
    p.rect("yellow_paint", 0, far_side, p.width, 0.4)
    if p.rng.random() < aircraft:
        airplane(p, p.rng.uniform(-0.2, 0.2) * p.width, y, p.rng.uniform(30, 55), p.rng.choice((0.0, math.pi)))
    return far_side + 9


def apron(p: Plot, length: float | None = None) -> None:
    """Aircraft on concrete in front of a terminal or on a parking row."""
    p.ground("concrete", "airport", rows=(0.0, 15.0, 0.02))
    size = length or p.rng.choice((14, 28, 40, 55))
    pitch = size * p.rng.uniform(1.0, 1.3)
    rows = max(1, int(p.height / (size * 1.6)))
    nose = p.rng.choice((math.pi / 2, -math.pi / 2, 1.0))
    for j in range(rows):
        y = (j - (rows - 1) / 2) * size * 1.6
        p.rect("yellow_paint", 0, y - size * 0.62, p.width, 0.4)
        for i in range(max(1, int(p.width / pitch))):
            x = (i + 0.5) * pitch - p.width / 2
            if p.rng.random() < 0.75 or rows == 1 == i + 1:
                airplane(p, x, y + p.rng.gauss(0, 1), size * p.rng.uniform(0.9, 1.1), nose + p.rng.gauss(0, 0.03))


def airplane_stand(p: Plot) -> None:
    """One or a few aircraft on concrete, grass at the edge."""
    p.ground("grass", "airport")
    size = p.rng.uniform(0.28, 0.6) * min(p.width, p.height) / 1.4
    q = p.sub(0, 0, p.width, p.height * p.rng.uniform(0.6, 1.0))
    apron(q, max(10.0, size))
    if p.rng.random() < 0.4 and not p.far:
        block(p, 0, p.height * 0.42, p.width * 0.6, p.height * 0.12, concept="building", height=10)
    for x, y in scatter(p, 5):
        truck(p, x, y, p.rng.uniform(0, 3))


def airport(p: Plot) -> None:
    """Runway, taxiways, apron with aircraft, terminal, parking lot."""
    edge, deep = _runway(p, 0.5), p.rng.uniform(75, 140)
    apron(p.sub(0, edge + deep / 2, p.width * 0.62, deep), p.rng.choice((32, 40, 48)))
    block(p, 0, edge + deep + 16, p.width * 0.45, 30, height=14, material="metal_roof")
    block(p, p.width * 0.39, edge + 40, p.width * 0.09, 50, concept="warehouse", material="metal_roof")
    parking_lot(p.sub(0, edge + deep + 75, p.width * 0.4, 70))
