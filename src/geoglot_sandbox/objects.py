"""Single things that stand on a plot: trees, houses, cars, ships, aircraft, tanks, courts. Sizes in metres."""

from __future__ import annotations

import math
from collections.abc import Iterator

from geoglot_sandbox.materials import shade
from geoglot_sandbox.world import Plot, Point

WINDSCREEN = (52, 60, 68)


def tree(p: Plot, x: float, y: float, radius: float, material: str = "crown") -> None:
    """A crown with a shadow and a lit side."""
    if p.far:
        return
    colour = p.pick(material)
    p.disc(material, x, y, radius, "tree", height=radius * 1.7, colour=shade(colour, 0.82))
    for spot in range(3):  # the rng moves on alike at every resolution
        turn, off, tone = p.rng.uniform(0, 6.3), radius * p.rng.uniform(0.2, 0.45), p.rng.uniform(0.9, 1.2)
        if spot == 0 or radius > 3 * p.gsd_m:
            at = (x + off * math.cos(turn), y + off * math.sin(turn))
            p.disc(material, *at, radius * 0.6, "tree", level=1, colour=shade(colour, tone))


def scatter(p: Plot, count: float, margin: float = 0.0) -> Iterator[Point]:
    """Random points on the plot; the fraction of `count` is a chance."""
    whole = int(count) + (p.rng.random() < count - int(count))
    for _ in range(whole):
        yield (
            p.rng.uniform(margin - p.width / 2, p.width / 2 - margin),
            p.rng.uniform(margin - p.height / 2, p.height / 2 - margin),
        )


def trees(p: Plot, per_ha: float, low: float = 2.0, high: float = 4.5, material: str = "crown") -> None:
    """Trees at random over the plot."""
    if not p.far:
        for x, y in scatter(p, per_ha * p.width * p.height / 1e4):
            tree(p, x, y, p.rng.uniform(low, high), material)


def tree_row(p: Plot, a: Point, b: Point, step: float, radius: float = 2.6) -> None:
    """Trees along a line, unevenly."""
    length = math.hypot(b[0] - a[0], b[1] - a[1])
    count = int(length / step)
    for i in range(count):
        t = (i + p.rng.uniform(0.2, 0.8)) / max(count, 1)
        tree(p, a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, radius * p.rng.uniform(0.7, 1.25))


def house(p: Plot, x: float, y: float, length: float, width: float, angle: float = 0.0, concept: str = "house") -> None:
    """A gabled or hipped roof, often with a wing."""
    part = p.object(concept)
    tile = p.rng.random() < p.style.tile_share
    material = "tile_roof" if tile else "shingle_roof"
    colour = p.pick(material)
    spot = p.sub(x, y, length, width, angle)
    _gable(spot, material, 0, 0, length, width, colour, concept, part)
    if p.rng.random() < 0.55:
        side, wing = p.rng.choice((-1, 1)), width * p.rng.uniform(0.55, 0.75)
        reach = width * p.rng.uniform(0.35, 0.7)
        turned = spot.sub(
            side * (length - wing) / 2, p.rng.choice((-1, 1)) * (width + reach) / 4, reach, wing, math.pi / 2
        )
        _gable(turned, material, 0, 0, width / 2 + reach, wing, colour, concept, part)


def _gable(
    p: Plot,
    material: str,
    x: float,
    y: float,
    length: float,
    width: float,
    colour: tuple[int, int, int],
    concept: str,
    part: int,
) -> None:
    slope = 0.5 + 0.5 * math.sin(p.angle)
    lit, dim = shade(colour, 1.12 - 0.2 * slope), shade(colour, 0.84 + 0.2 * slope)
    p.rect(material, x, y, length, width, concept, part_of=part, height=p.rng.uniform(3.0, 5.5), colour=lit)
    hip = width * 0.3 if p.rng.random() < 0.4 else 0.0
    ends = [
        (x - length / 2, y - width / 2),
        (x + length / 2, y - width / 2),
        (x + length / 2 - hip, y),
        (x - length / 2 + hip, y),
    ]
    p.poly(material, ends, part_of=part, level=1, colour=dim)


def block(
    p: Plot, x: float, y: float, w: float, h: float, angle: float = 0.0,
    concept: str = "building", material: str = "flat_roof", height: float = 10.0,
) -> None:  # fmt: skip
    """A flat-roofed building with a parapet and machines on its roof."""
    part = p.object(concept)
    colour = p.pick(material)
    p.rect(material, x, y, w, h, concept, angle=angle, part_of=part, height=height, colour=shade(colour, 0.82))
    edge = min(0.7, 0.1 * min(w, h))
    ridge = (angle + (0 if w > h else math.pi / 2), 1.4, 0.06) if material == "metal_roof" else None
    p.rect(material, x, y, w - 2 * edge, h - 2 * edge, angle=angle, part_of=part, level=1, colour=colour, rows=ridge)
    if p.far:
        return
    spot = p.sub(x, y, w * 0.8, h * 0.8, angle)
    for u, v in scatter(spot, min(8.0, w * h / 160)):
        size = p.rng.uniform(1.2, 3.2)
        spot.rect("flat_roof", u, v, size, size * p.rng.uniform(0.6, 1.4), part_of=part, height=1.2, level=2)


def car(p: Plot, x: float, y: float, angle: float, level: int = 1) -> None:
    """A car of about 4.5 x 1.9 m, pointing along `angle`."""
    if p.far:
        return
    part, colour = p.object("car"), p.pick("car")
    p.rect("car", x, y, 4.5, 1.9, "car", angle=angle, part_of=part, height=1.2, level=level, colour=colour)
    if p.gsd_m > 0.55:
        return
    c, s = math.cos(angle), math.sin(angle)
    p.rect("glass", x + 0.9 * c, y + 0.9 * s, 0.8, 1.6, angle=angle, part_of=part, level=level, colour=WINDSCREEN)
    p.rect("glass", x - 1.5 * c, y - 1.5 * s, 0.6, 1.5, angle=angle, part_of=part, level=level, colour=WINDSCREEN)


def truck(p: Plot, x: float, y: float, angle: float, level: int = 1) -> None:
    """A lorry with a box of 12 x 2.6 m."""
    if p.far:
        return
    part = p.object("car")
    p.rect("trailer_roof", x, y, 12.0, 2.6, "car", angle=angle, part_of=part, height=3.6, level=level)
    p.rect(
        "car",
        x + 7.4 * math.cos(angle),
        y + 7.4 * math.sin(angle),
        2.2,
        2.4,
        "car",
        angle=angle,
        part_of=part,
        height=2.6,
        level=level,
    )


def ship(p: Plot, x: float, y: float, length: float, angle: float, cargo: bool = False) -> None:
    """A boat, or a cargo ship with holds and containers; the bow points along `angle`."""
    part, beam = p.object("ship"), length * (0.16 if cargo else p.rng.uniform(0.26, 0.34))
    q = p.sub(x, y, length, beam, angle)
    a, b = length / 2, beam / 2
    hull = [
        (-a, -b * 0.8),
        (a * 0.35, -b),
        (a * 0.75, -b * 0.55),
        (a, 0),
        (a * 0.75, b * 0.55),
        (a * 0.35, b),
        (-a, b * 0.8),
    ]
    colour = p.pick("hull")
    q.poly("hull", hull, "ship", part_of=part, height=max(1.0, length * 0.06), colour=colour)
    if length >= 25 * p.gsd_m:
        with p.aside():
            inner = [(u * 0.86 - 0.03 * length, v * 0.7) for u, v in hull]
            q.poly("rock" if cargo else "wood", inner, part_of=part, level=1)
            (_cargo_deck if cargo else _cabin)(q, part)


def _cabin(p: Plot, part: int) -> None:
    p.rect("fuselage", -p.width * 0.07, 0, p.width * 0.32, p.height * 0.5, part_of=part, height=1.0, level=2)
    p.rect("glass", p.width * 0.06, 0, p.width * 0.05, p.height * 0.45, part_of=part, level=2)


def _cargo_deck(p: Plot, part: int) -> None:
    """A bridge aft, and containers in three rows."""
    p.rect("flat_roof", -p.width * 0.39, 0, p.width * 0.08, p.height * 0.8, part_of=part, height=12, level=2)
    for i in range(6):
        for row in (-0.25, 0.0, 0.25):
            x = (-0.28 + 0.115 * i) * p.width
            p.rect("cargo", x, row * p.height, p.width * 0.11, p.height * 0.22, part_of=part, level=2)


def airplane(p: Plot, x: float, y: float, length: float, angle: float) -> None:
    """An airliner, its nose along `angle`."""
    part = p.object("airplane")
    q = p.sub(x, y, length, length, angle)
    s, colour = length, p.pick("fuselage")
    body = [
        (-0.5, -0.012),
        (-0.3, -0.045),
        (0.38, -0.048),
        (0.47, -0.03),
        (0.5, 0),
        (0.47, 0.03),
        (0.38, 0.048),
        (-0.3, 0.045),
        (-0.5, 0.012),
    ]
    high = max(1.5, length * 0.09)
    for side in (-1, 1):
        wing = [(0.1, 0.04), (-0.13, 0.47), (-0.18, 0.47), (-0.08, 0.04)]
        tail = [(-0.38, 0.02), (-0.47, 0.19), (-0.5, 0.19), (-0.48, 0.02)]
        for points, tone in ((wing, 0.9), (tail, 0.92)):
            q.poly(
                "fuselage",
                [(u * s, side * v * s) for u, v in points],
                "airplane",
                part_of=part,
                height=high,
                colour=shade(colour, tone),
            )
        for along, out in ((0.06, 0.16),) + (((-0.03, 0.29),) if length > 55 else ()):
            q.rect(
                "fuselage",
                along * s,
                side * out * s,
                0.09 * s,
                0.034 * s,
                "airplane",
                part_of=part,
                height=high * 0.6,
                colour=shade(colour, 0.72),
            )
    q.poly("fuselage", [(u * s, v * s) for u, v in body], "airplane", part_of=part, height=high, colour=colour)
    accent = p.pick("car")
    q.rect("fuselage", -0.45 * s, 0, 0.1 * s, 0.014 * s, part_of=part, level=2, colour=accent)


def tank(p: Plot, x: float, y: float, radius: float) -> None:
    """A cylindrical storage tank with a lid, a rim and a ladder."""
    part, colour = p.object("storage_tank"), p.pick("tank")
    p.disc("tank", x, y, radius, "storage_tank", part_of=part, height=radius * 0.75 + 3, colour=shade(colour, 0.78))
    p.disc("tank", x, y, radius * 0.94, part_of=part, level=1, colour=colour)
    turn = p.rng.uniform(0, 6.3)
    off = radius * 0.25
    p.disc(
        "tank",
        x + off * math.cos(turn),
        y + off * math.sin(turn),
        radius * 0.6,
        part_of=part,
        level=1,
        colour=shade(colour, 1.05),
    )
    if not p.far:
        p.rect("flat_roof", x, y, radius * 1.7, 0.6, angle=turn, part_of=part, level=1, colour=shade(colour, 0.7))
        p.disc("tank", x, y, max(0.5, radius * 0.08), part_of=part, level=1, colour=shade(colour, 0.65))


def pool(p: Plot, x: float, y: float, size: float, angle: float = 0.0) -> None:
    """A swimming pool with a paved edge."""
    part = p.object("swimming_pool")
    p.rect("concrete", x, y, size * 1.6 + 2.4, size + 2.4, angle=angle)
    if p.rng.random() < 0.6:
        p.rect("pool", x, y, size * 1.6, size, "swimming_pool", angle=angle, part_of=part)
    else:
        q = p.sub(x, y, size, size, angle)
        q.disc("pool", -size * 0.3, 0, size * 0.5, "swimming_pool", part_of=part)
        q.disc("pool", size * 0.3, 0, size * 0.5, "swimming_pool", part_of=part)
        q.rect("pool", 0, 0, size * 0.6, size * 0.8, "swimming_pool", part_of=part)


def wind_turbine(p: Plot, x: float, y: float, height: float = 80.0) -> None:
    """A mast seen from above, three blades, a pad and a track."""
    part = p.object("wind_turbine")
    p.disc("dirt_road", x, y, 11)
    p.disc("paint", x, y, 2.0, "wind_turbine", part_of=part, height=height)
    turn = p.rng.uniform(0, 6.3)
    for k in range(3):
        t = turn + k * 2 * math.pi / 3
        q = p.sub(x + 18 * math.cos(t), y + 18 * math.sin(t), 36, 2, t)
        q.poly("paint", [(-18, -1.2), (18, 0), (-18, 1.2)], "wind_turbine", part_of=part, level=2)


# -- courts and pitches ------------------------------------------------------------------------------------------------
def outline(p: Plot, x: float, y: float, w: float, h: float, line: float, angle: float = 0.0, part: int = 0) -> None:
    """A rectangle drawn with painted lines."""
    q = p.sub(x, y, w, h, angle)
    for u, v, a, b in ((0, h / 2, w, line), (0, -h / 2, w, line), (w / 2, 0, line, h), (-w / 2, 0, line, h)):
        q.rect("paint", u, v, a, b, part_of=part)


def ring(p: Plot, x: float, y: float, radius: float, line: float, part: int = 0) -> None:
    """A circle drawn with a painted line."""
    points = [(x + radius * math.cos(i * math.pi / 14), y + radius * math.sin(i * math.pi / 14)) for i in range(29)]
    p.path("paint", points, line, part_of=part)


def tennis_court(p: Plot, x: float, y: float, angle: float, inner: str, outer: str) -> None:
    """36 x 18 m with the lines of a doubles court (23.77 x 10.97 m) and a net."""
    part = p.object("tennis_court")
    q = p.sub(x, y, 36, 18, angle)
    q.clear_rect(0, 0, 36, 19)
    q.rect(outer, 0, 0, 35, 17.4, "tennis_court", part_of=part)
    q.rect(inner, 0, 0, 23.8, 11, part_of=part)
    outline(q, 0, 0, 23.8, 11, 0.22, part=part)
    outline(q, 0, 0, 12.8, 8.2, 0.2, part=part)
    for v in (-4.1, 4.1):
        q.rect("paint", 0, v, 23.8, 0.2, part_of=part)
    q.rect("paint", 0, 0, 12.8, 0.2, part_of=part)
    q.rect("glass", 0, 0, 0.3, 12.6, part_of=part, height=1.0)


def basketball_court(p: Plot, x: float, y: float, angle: float, surface: str, key: str) -> None:
    """28 x 15 m with centre circle, keys and three-point arcs."""
    part = p.object("basketball_court")
    q = p.sub(x, y, 32, 19, angle)
    q.clear_rect(0, 0, 32, 19)
    q.rect(surface, 0, 0, 32, 19, "basketball_court", part_of=part)
    outline(q, 0, 0, 28, 15, 0.22, part=part)
    q.rect("paint", 0, 0, 0.22, 15, part_of=part)
    ring(q, 0, 0, 1.8, 0.2, part)
    for side in (-1, 1):
        q.rect(key, side * 11.1, 0, 5.8, 4.9, part_of=part)
        outline(q, side * 11.1, 0, 5.8, 4.9, 0.2, part=part)
        arc = [
            (side * (12.4 - 6.75 * math.cos(t)), 6.75 * math.sin(t))
            for t in (i * math.pi / 24 - math.pi / 2 for i in range(25))
        ]
        q.path("paint", arc, 0.2, part_of=part)


def pitch(p: Plot, x: float, y: float, length: float, angle: float, track: bool) -> None:
    """A football pitch with mowing stripes, inside a running track if asked."""
    q, width = p.sub(x, y, length, length * 0.65, angle), length * 0.65
    q.clear(_stadium_points(length / 2 - 8, width / 2 + 16) if track else _stadium_points(length / 2, width / 2))
    if track:
        around = q.object("running_track")
        _stadium(q, "track", length / 2 - 8, width / 2 + 14, around, "running_track")
        for k in range(4):
            _stadium_line(q, length / 2 - 8, width / 2 + 13 - 2.4 * k, around)
        _stadium(q, "turf", length / 2 - 8, width / 2 + 3.5, 0, "")
    part = q.object("football_field")
    stripe = (math.pi / 2, length / p.rng.choice((5, 6, 9)), p.rng.choice((0.0, 0.05, 0.09)))
    q.rect("turf", 0, 0, length, width, "football_field", part_of=part, rows=stripe)
    line = 0.35
    outline(q, 0, 0, length * 0.96, width * 0.94, line, part=part)
    q.rect("paint", 0, 0, line, width * 0.94, part_of=part)
    ring(q, 0, 0, 9.15 * length / 105, line, part)
    for side in (-1, 1):
        outline(q, side * length * 0.405, 0, length * 0.15, width * 0.55, line, part=part)
        outline(q, side * length * 0.455, 0, length * 0.05, width * 0.25, line, part=part)


def _stadium(p: Plot, material: str, half: float, radius: float, part: int, concept: str) -> None:
    p.poly(material, _stadium_points(half, radius), concept, part_of=part)


def _stadium_line(p: Plot, half: float, radius: float, part: int) -> None:
    points = _stadium_points(half, radius)
    p.path("paint", [*points, points[0]], 0.25, part_of=part)


def _stadium_points(half: float, radius: float) -> list[Point]:
    right = [
        (half + radius * math.cos(t), radius * math.sin(t))
        for t in (-math.pi / 2 + i * math.pi / 16 for i in range(17))
    ]
    return right + [(-x, -y) for x, y in right]


def baseball_field(p: Plot, x: float, y: float, size: float, angle: float) -> None:
    """A quarter disc of grass, an infield of clay with a diamond, bases and lines; `size` is the fence distance."""
    part = p.object("baseball_field")
    q = p.sub(x, y, size, size, angle)
    home = (-size * 0.45, -size * 0.45)
    base, clay = min(27.4, size * 0.3), p.pick("clay")

    def fan(radius: float, spread: float = 0.0) -> list[Point]:
        turns = (-spread + (math.pi / 2 + 2 * spread) * i / 24 for i in range(25))
        return [home, *((home[0] + radius * math.cos(t), home[1] + radius * math.sin(t)) for t in turns)]

    q.clear(fan(size + 6, 0.03))
    q.poly("clay", [(u - 3, v - 3) for u, v in fan(size + 4, 0.03)], "baseball_field", part_of=part, colour=clay)
    mow = (math.pi / 4, size / 12, p.rng.choice((0.0, 0.06)))
    q.poly("turf", fan(size), "baseball_field", part_of=part, rows=mow)
    mid = (home[0] + base * 0.5, home[1] + base * 0.5)
    q.poly("clay", fan(base * 1.5), part_of=part, colour=clay)
    q.disc("clay", home[0], home[1], 4.2, "baseball_field", part_of=part, colour=clay)
    if p.rng.random() < 0.75:
        q.rect("turf", mid[0], mid[1], base * 0.82, base * 0.82, part_of=part)
    q.disc("clay", mid[0], mid[1], 2.6, part_of=part, colour=clay)
    for u, v, w, h in ((size / 2, 0.0, size, 0.3), (0.0, size / 2, 0.3, size)):
        q.rect("paint", home[0] + u, home[1] + v, w, h, part_of=part)
    for u, v in ((base, 0), (base, base), (0, base)):
        q.rect("paint", home[0] + u, home[1] + v, 0.9, 0.9, part_of=part)
    q.path(
        "clay",
        [(home[0] + base * 1.2, home[1] - 7), (home[0] - 7, home[1] - 7), (home[0] - 7, home[1] + base * 1.2)],
        5,
        part_of=part,
    )
