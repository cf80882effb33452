"""Layouts of land and water without people. Each function covers a plot."""

from __future__ import annotations

import math

from geoglot_sandbox.objects import scatter, ship, tree, trees
from geoglot_sandbox.world import Plot, Point, band, blob_outline, wave_line


def patches(p: Plot, material: str, per_ha: float, low: float, high: float, concept: str = "") -> None:
    """Uneven patches of another surface."""
    for x, y in scatter(p, per_ha * p.width * p.height / 1e4):
        p.blob(material, x, y, p.rng.uniform(low, high), concept)


def forest(p: Plot) -> None:
    """Closed canopy, with the odd gap and emergent trees."""
    p.ground("forest", "forest")
    patches(p, "forest", 0.8, 15, 45)
    if p.rng.random() < 0.25:
        patches(p, "grass", 0.15, 6, 18, "meadow")
    if not p.far:
        trees(p, 9, 3, 6)
    if p.rng.random() < 0.2:
        p.path("dirt_road", wave_line(p.rng, p.width * 1.2, 20, 300), 4, "road")


def sparse_forest(p: Plot) -> None:
    """Single trees over grass or bare soil."""
    p.ground(p.rng.choice(("grass", "meadow", "scrubland")), "sparse_forest")
    patches(p, "grass", 1.0, 8, 30)
    per_ha = p.rng.uniform(45, 130)
    if p.far:
        patches(p, "forest", 4, 6, 16)
    trees(p, min(per_ha, 3500 / (p.width * p.height / 1e4)), 2, 5)


def chaparral(p: Plot) -> None:
    """Dark shrubs scattered over dry soil."""
    p.ground("scrubland", "chaparral")
    patches(p, "scrubland", 2.0, 8, 30)
    if p.far:
        patches(p, "shrub", 6, 5, 12)
        return
    density = p.rng.uniform(150, 380)
    for x, y in scatter(p, min(3000.0, density * p.width * p.height / 1e4)):
        radius = p.rng.uniform(0.6, 2.6)
        p.disc("shrub", x, y, radius, height=radius * 0.7)
        p.disc("shrub", x + radius * 0.5, y + radius * p.rng.uniform(-0.5, 0.5), radius * 0.7, level=1)


def meadow(p: Plot) -> None:
    """Grassland with paths and a few bushes."""
    p.ground("meadow", "meadow")
    patches(p, "meadow", 1.2, 10, 50)
    if p.rng.random() < 0.35:
        p.path("dirt_road", wave_line(p.rng, p.width * 1.2, 15, 200), 2.5)
    trees(p, p.rng.choice((0, 0, 2, 5)), 1.2, 3.5)


def desert(p: Plot) -> None:
    """Dunes: ridges across the wind."""
    wind = p.rng.uniform(0, math.pi)
    wave = p.rng.uniform(14, 70)
    p.ground("dune", "desert", rows=(wind, wave, p.rng.uniform(0.03, 0.09)))
    for x, y in scatter(p, min(260.0, 5e4 / wave**2 * p.width * p.height / 1e4 / 4)):
        reach = wave * p.rng.uniform(0.8, 2.5)
        q = p.sub(x, y, reach, wave, wind + p.rng.gauss(0, 0.25))
        crest = [(-reach / 2, 0), (-reach / 4, wave * 0.1), (0, wave * 0.14), (reach / 4, wave * 0.1), (reach / 2, 0)]
        lee = [(u, v - wave * 0.2 * (1 - (2 * u / reach) ** 2)) for u, v in crest[::-1]]
        colour = p.pick("dune")
        q.poly("dune", crest + lee, colour=(int(colour[0] * 0.88), int(colour[1] * 0.87), int(colour[2] * 0.86)))
    if p.rng.random() < 0.2:
        patches(p, "rock", 0.3, 5, 25)


def bare_land(p: Plot) -> None:
    """Open soil with tracks, stains and little else."""
    p.ground("bare", "bare_land")
    patches(p, "bare", 2.5, 8, 35)
    patches(p, "soil", 0.7, 5, 25)
    for _ in range(p.rng.randrange(3)):
        q = p.sub(0, p.rng.uniform(-0.3, 0.3) * p.height, p.width * 1.4, 8, p.rng.uniform(0, math.pi))
        q.path("dirt_road", wave_line(p.rng, q.width, 12, 150), 3)
    trees(p, p.rng.choice((0, 0, 3)), 1, 2.2, "shrub")


def shore(p: Plot, line: list[Point], far_side: float, sand_m: float, concept: str = "sea") -> None:
    """Water above a line, up to `far_side`: dry sand, wet sand, foam, shallows and depth."""

    def zone(material: str, offset: float, named: str = "", wobble: float = 0.0) -> None:
        edge = [(x, y + offset + wobble * p.rng.uniform(-1, 1)) for x, y in line]
        p.poly(material, [*edge, (line[-1][0], far_side), (line[0][0], far_side)], named)

    zone("sand", -sand_m, "beach")
    zone("wet_sand", -5, "beach")
    zone("foam", 0.0, concept, 0.7)
    zone("shallow", 3.0, concept, 2.0)
    surf = p.rng.choice((0, 1, 2, 3))
    for k in range(surf):
        out = 7 + 9.0 * k + p.rng.uniform(0, 4)
        with p.aside():
            if not p.far:
                zone("foam", out, "", 1.0)
                zone("shallow", out + p.rng.uniform(1.0, 4.0), "", 1.2)
    zone("sea", p.rng.uniform(25, 60), concept, 2.0)
    zone("deep_sea", p.rng.uniform(90, 200), concept, 2.0)


def beach(p: Plot) -> None:
    """Land, sand and surf."""
    p.ground(p.rng.choice(("grass", "scrubland", "meadow", "concrete")), "")
    trees(p, p.rng.choice((5, 25)), 1.5, 3.5, "palm")
    line = wave_line(p.rng, p.width * 1.2, p.rng.uniform(1, 9), p.rng.uniform(80, 240), 4.0)
    drop = p.rng.uniform(-0.15, 0.25) * p.height
    shore(p, [(x, y + drop) for x, y in line], p.height, p.rng.uniform(18, 70))
    for x, y in scatter(p, 0 if p.far else p.rng.choice((0, 0, 20))):
        if drop - 30 < y < drop - 8:
            p.disc("car", x, y, 1.3, height=1.5)


def sea(p: Plot) -> None:
    """Open water with swell."""
    colour = p.rng.choice(("sea", "deep_sea", "deep_sea"))
    p.ground(colour, "sea", rows=(p.rng.uniform(0, 3.1), p.rng.uniform(4, 16), p.rng.uniform(0, 0.05)))
    if p.rng.random() < 0.3:
        patches(p, "foam", 1.5, 0.4, 1.5)


def ship_at_sea(p: Plot) -> None:
    """One large ship, or a few boats, with wakes."""
    sea(p)
    big = p.rng.random() < 0.6
    for _ in range(1 if big else p.rng.randrange(2, 6)):
        reach = 0.15 if big else 0.38
        x, y = p.rng.uniform(-reach, reach) * p.width, p.rng.uniform(-reach, reach) * p.height
        length, turn = (p.rng.uniform(60, 110) if big else p.rng.uniform(9, 22)), p.rng.uniform(0, 6.3)
        if p.rng.random() < 0.7:
            q = p.sub(x, y, 1, 1, turn)
            for side in (-1, 1):
                wake = [(length * 0.4, 0), (-length * 2, side * length * 0.4), (-length * 2.1, side * length * 0.28)]
                q.poly("shallow", wake)
            q.poly("foam", [(-length * 0.45, -length * 0.05), (-length * 1.3, 0), (-length * 0.45, length * 0.05)])
        ship(p, x, y, length, turn, cargo=big)


def island(p: Plot) -> None:
    """Land with a beach, all around it water."""
    sea(p)
    radius = p.rng.uniform(0.2, 0.32) * min(p.width, p.height)
    x, y = p.rng.uniform(-0.08, 0.08) * p.width, p.rng.uniform(-0.08, 0.08) * p.height
    state = p.rng.getstate()
    for scale, material, concept in (
        (1.35, "shallow", "sea"),
        (1.1, "foam", "sea"),
        (1.07, "sand", "beach"),
        (0.9, "forest", "island"),
        (0.5, "forest", ""),
    ):
        p.rng.setstate(state)  # the same outline at every scale
        p.blob(material, x, y, radius * scale, concept)
    q = p.sub(x, y, radius, radius)
    trees(q, 30, 2, 4)


def _water_body(p: Plot, concept: str, radius: float) -> None:
    material = p.rng.choice(("lake_water", "lake_water", "river_water"))
    state = p.rng.getstate()
    x, y = p.rng.uniform(-0.1, 0.1) * p.width, p.rng.uniform(-0.1, 0.1) * p.height
    p.clear(blob_outline(p.rng, x, y, radius * 1.02))
    for scale, what, named in ((1.12, "soil", ""), (1.05, "grass", ""), (1.0, material, concept)):
        p.rng.setstate(state)
        p.blob(what, x, y, radius * scale, named)


def lake(p: Plot) -> None:
    """A large body of fresh water among woods and meadows."""
    p.rng.choice((meadow, forest, sparse_forest, bare_land))(p)
    _water_body(p, "lake", p.rng.uniform(0.26, 0.38) * min(p.width, p.height))


def pond(p: Plot) -> None:
    """A small body of water in grass or fields."""
    p.ground(p.rng.choice(("grass", "meadow", "lawn", "soil")), "meadow")
    patches(p, "grass", 2, 5, 20)
    _water_body(p, "pond", p.rng.uniform(0.17, 0.3) * min(p.width, p.height))
    for x, y in scatter(p, 0 if p.far else p.rng.uniform(5, 30)):
        if math.hypot(x, y) > 0.3 * min(p.width, p.height):
            tree(p, x, y, p.rng.uniform(2, 4))


def river(p: Plot) -> None:
    """A river that winds through woods, fields or meadows."""
    p.rng.choice((forest, meadow, sparse_forest, forest))(p)
    width = p.rng.uniform(0.12, 0.32) * p.height
    stream(p, wave_line(p.rng, p.width * 1.3, 0.11 * p.height, p.width * p.rng.uniform(0.9, 1.6)), width)


def stream(p: Plot, line: list[Point], width: float) -> None:
    """Banks, bars and water along a centre line."""
    p.clear(band(line, -width / 2, width / 2))
    for extra, material, concept in (
        (14.0, "grass", "meadow"),
        (5.0, "soil", "bare_land"),
        (0.0, "river_water", "river"),
    ):
        p.path(material, line, width + extra, concept)
    for x, y in line[:: max(1, len(line) // 4)]:
        if p.rng.random() < 0.4:
            side = p.rng.choice((-1, 1))
            p.blob("sand", x, y + side * width * 0.47, width * 0.13, "bare_land")
