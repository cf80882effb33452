"""Layouts of towns: homes at several densities, shops, works, parking lots and parks."""

from __future__ import annotations

import math

from geoglot_sandbox.objects import block, car, house, pool, scatter, tree, tree_row, trees, truck
from geoglot_sandbox.world import Plot, blob_outline, wave_line

WHITE = (224, 224, 220)


def street(p: Plot, x: float, y: float, length: float, width: float, angle: float = 0.0, cars: float = 0.25) -> None:
    """A street with pavements and parked cars; `cars` is the share of kerb in use."""
    q = p.sub(x, y, length, width, angle)
    q.clear_rect(0, 0, length, width)
    q.rect("concrete", 0, 0, length, width + 3.2, "road")
    q.rect("asphalt", 0, 0, length, width, "road", colour=p.pick("asphalt"))
    if p.far:
        return
    if width > 8 and p.rng.random() < 0.5:
        q.rect("yellow_paint", 0, 0, length, 0.25)
    for side in (-1, 1):
        for i in range(int(length / 7)):
            if p.rng.random() < cars:
                car(q, -length / 2 + 7 * i + 3.5, side * (width / 2 - 1.3), 0 if side < 0 else math.pi)
    for i in range(int(length / 60)):
        if p.rng.random() < 0.5:
            side = p.rng.choice((-1, 1))
            car(q, -length / 2 + 60 * i + p.rng.uniform(0, 60), side * -1.7, 0 if side > 0 else math.pi)


def homes(p: Plot, concept: str, lot: float, depth: float, trees_per_lot: float, pools: float, ground: str) -> None:
    """Streets across the plot, one house per lot on either side."""
    road = p.rng.uniform(6.5, 9.0)
    pitch = 2 * depth + road + 4
    count = max(1, math.floor(p.height / pitch))
    pitch = max(pitch, p.height / count) if p.height / count < pitch * 1.25 else pitch
    p.ground("blurred_homes" if p.far and lot < 20 else "blurred_gardens" if p.far else ground, concept)
    cross = p.rng.uniform(-0.25, 0.25) * p.width if p.rng.random() < 0.6 else None
    for j in range(-(count // 2) - 1, count // 2 + 2):
        y = (j + 0.5 * (count % 2 == 0)) * pitch
        if abs(y) > p.height / 2 - 1:
            continue
        street(p, 0, y, p.width, road)
        if p.far:
            continue
        for side in (-1, 1):
            for i in range(int(p.width / lot)):
                x = -p.width / 2 + (i + 0.5) * lot
                if cross is not None and abs(x - cross) < road / 2 + lot * 0.55:
                    continue
                if abs(y + side * (road / 2 + depth)) < p.height / 2 and p.rng.random() < 0.94:
                    _lot(
                        p.sub(x, y + side * (road / 2 + 2 + depth / 2), lot, depth, 0.0 if side < 0 else math.pi),
                        trees_per_lot,
                        pools,
                    )
    if cross is not None:
        street(p, cross, 0, p.height, road, math.pi / 2, 0.1)


def _lot(p: Plot, tree_count: float, pools: float) -> None:
    """One property: house near the street (the upper edge), driveway, garden behind."""
    w, d = p.width, p.height
    if p.rng.random() < 0.4:
        p.rect(p.rng.choice(("lawn", "grass", "soil")), 0, 0, w * 0.97, d)
    length, deep = min(w * 0.8, p.rng.uniform(10, 17)), min(d * 0.5, p.rng.uniform(8, 11))
    y = d / 2 - deep / 2 - min(d * 0.2, p.rng.uniform(3, 7))
    x = p.rng.uniform(-0.08, 0.08) * w
    drive = p.rng.choice((-1, 1)) * (w / 2 - 2.2)
    p.rect("concrete", drive, d / 4 + 1, 3.6, d / 2 + 2)
    turn = p.rng.gauss(0, 0.04) + (math.pi / 2 if w < 13 else 0)
    house(p, x, y, *((deep, length) if w < 13 else (length, deep)), turn)
    if p.rng.random() < 0.45:
        car(p, drive, d / 2 - 3, math.pi / 2)
    if p.rng.random() < pools:
        pool(p, p.rng.uniform(-0.2, 0.2) * w, -d / 2 + 6, p.rng.uniform(3.4, 5))
    if p.rng.random() < 0.3:
        p.rect("shingle_roof", -drive * 0.8, -d / 2 + 3, 3.5, 3, height=2.4)
    for u, v in scatter(p, tree_count):
        if abs(v - y) > deep * 0.45 or abs(u - x) > length * 0.45:
            tree(p, u, v, p.rng.uniform(1.6, 4.2))


def dense_residential(p: Plot) -> None:
    """Small lots, roof beside roof."""
    homes(
        p,
        "dense_residential",
        p.rng.uniform(10, 14),
        p.rng.uniform(16, 22),
        p.rng.uniform(0.3, 1.5),
        0.04,
        p.rng.choice(("concrete", "grass", "soil")),
    )


def medium_residential(p: Plot) -> None:
    """Single houses with gardens along streets."""
    homes(
        p,
        "medium_residential",
        p.rng.uniform(17, 24),
        p.rng.uniform(24, 34),
        p.rng.uniform(1.5, 4),
        0.15,
        p.rng.choice(("lawn", "grass")),
    )


def sparse_residential(p: Plot) -> None:
    """A few houses far apart, among trees."""
    p.ground(p.rng.choice(("grass", "lawn", "meadow", "scrubland")), "sparse_residential")
    lane = wave_line(p.rng, p.width * 1.2, 0.06 * p.height, p.width)
    p.path("asphalt", lane, 5, "road")
    dense = p.rng.choice((15, 40, 90))
    trees(p, min(dense, 1500 / (p.width * p.height / 1e4)), 2, 5)
    if p.far:
        return
    pitch = p.rng.uniform(48, 80)
    for side in (-1, 1):
        for i in range(max(1, int(p.width / pitch))):
            x = (i + 0.5) * p.width / max(1, int(p.width / pitch)) - p.width / 2 + p.rng.uniform(-10, 10)
            y = side * p.rng.uniform(20, max(24, min(55, p.height * 0.35)))
            p.rect("dirt_road", x, y / 2, 3, abs(y))
            p.blob("lawn", x, y, 17)
            house(p, x, y, p.rng.uniform(14, 22), p.rng.uniform(9, 13), p.rng.uniform(0, 3.1))
            if p.rng.random() < 0.3:
                pool(p, x + 17, y + side * 4, 4.5, p.rng.uniform(0, 3))
            car(p, x + 2.5, y - side * 11, p.rng.uniform(0, 3))
            for _ in range(p.rng.randrange(2, 7)):
                turn, r = p.rng.uniform(0, 6.3), p.rng.uniform(13, 22)
                tree(p, x + r * math.cos(turn), y + r * math.sin(turn), p.rng.uniform(2.5, 5))


def mobile_home_park(p: Plot) -> None:
    """Long narrow trailers, side by side and aslant, along lanes."""
    p.ground("blurred_homes" if p.far else p.rng.choice(("asphalt", "soil", "concrete", "grass")), "mobile_home_park")
    lot, deep, lane = p.rng.uniform(8.0, 11.5), p.rng.uniform(19, 24), 6.5
    pitch, slant = deep * 2 + lane, p.rng.choice((0.0, 0.35, -0.35))
    count = math.ceil(p.height / pitch) + 1
    for j in range(count):
        y = (j - (count - 1) / 2) * pitch
        p.rect("asphalt", 0, y, p.width, lane, "road")
        if p.far:
            continue
        for side in (-1, 1):
            for i in range(int(p.width / lot)):
                x, v = -p.width / 2 + (i + 0.5) * lot, y + side * (lane / 2 + deep / 2)
                if abs(v) < p.height / 2 and p.rng.random() < 0.95:
                    _trailer(p.sub(x, v, lot, deep, side * slant), p.rng.uniform(0.7, 0.86) * deep)


def _trailer(p: Plot, length: float) -> None:
    part, wide, colour = p.object("mobile_home"), p.rng.choice((4.2, 4.6, 6.6)), p.pick("trailer_roof")
    p.rect("trailer_roof", -0.8, 0, wide, length, "mobile_home", part_of=part, height=3.4, colour=colour)
    dim = (int(colour[0] * 0.9), int(colour[1] * 0.9), int(colour[2] * 0.91))
    p.rect("trailer_roof", -0.8 + wide / 4, 0, wide / 2, length, part_of=part, level=1, colour=dim)
    if p.rng.random() < 0.5:
        p.rect("metal_roof", wide / 2 + 0.8, p.rng.uniform(-2, 2), 2.4, 7, height=2.6)
    elif p.rng.random() < 0.5:
        car(p, wide / 2 + 0.9, p.rng.uniform(-4, 4), math.pi / 2)
    if p.rng.random() < 0.35:
        tree(p, wide / 2, p.rng.uniform(-8, 8), p.rng.uniform(1.2, 2.6))


def parking_lot(p: Plot, fill: float | None = None) -> None:
    """Rows of bays with cars, islands and lamps' trees."""
    p.ground(
        p.rng.choice(("asphalt", "asphalt", "dark_asphalt", "concrete")), "parking_lot", part_of=p.object("parking_lot")
    )
    if p.far:
        return
    fill = p.rng.choice((0.3, 0.6, 0.85, 0.95)) if fill is None else fill
    bay, deep, aisle = 2.6, 5.2, p.rng.uniform(6, 7.5)
    pitch, lean = 2 * deep + aisle, p.rng.choice((0.0, 0.0, 0.35))
    green = p.rng.random() < 0.4
    for j in range(int(p.height / pitch)):
        y = -p.height / 2 + (j + 0.5) * pitch
        if green:
            p.rect("lawn", 0, y, p.width - 12, 1.6)
        else:
            p.rect("paint", 0, y, p.width - 8, 0.18)
        for i in range(int((p.width - 8) / bay)):
            x = -p.width / 2 + 4 + (i + 0.5) * bay
            for side in (-1, 1):
                if p.gsd_m < 0.7:
                    p.rect(
                        "paint", x - bay / 2, y + side * deep / 2, 0.14, deep * 0.95, angle=side * -lean, colour=WHITE
                    )
                if p.rng.random() < fill:
                    car(
                        p,
                        x + p.rng.gauss(0, 0.12),
                        y + side * (deep / 2 + 0.2) + p.rng.gauss(0, 0.2),
                        math.pi / 2 * p.rng.choice((-1, 1)) - side * lean,
                    )
            if green and i % 9 == 4:
                tree(p, x, y, 1.9)


def cars(p: Plot) -> None:
    """A parking lot with many cars."""
    parking_lot(p, p.rng.uniform(0.75, 1.0))


def industrial(p: Plot) -> None:
    """Halls with wide roofs, yards with lorries, parking."""
    p.ground("blurred_works" if p.far else p.rng.choice(("asphalt", "concrete", "bare")), "industrial")
    road = 9.0
    street(p, 0, 0, p.width, road, 0.0, 0.05)
    street(p, p.rng.uniform(-0.2, 0.2) * p.width, 0, p.height, road, math.pi / 2, 0.05)
    cell = p.rng.uniform(60, 110)
    nx, ny = max(2, round(p.width / cell)), max(2, round(p.height / cell))
    for i in range(nx):
        for j in range(ny):
            q = p.sub(
                (i + 0.5) * p.width / nx - p.width / 2,
                (j + 0.5) * p.height / ny - p.height / 2,
                p.width / nx - 10,
                p.height / ny - 14,
            )
            _works(q)


def _works(p: Plot) -> None:
    roll = p.rng.random()
    if roll < 0.12:
        parking_lot(p.sub(0, 0, p.width * 0.9, p.height * 0.9))
        return
    if roll < 0.2:
        trees(p, 30)
        return
    w, h = p.width * p.rng.uniform(0.55, 0.95), p.height * p.rng.uniform(0.4, 0.75)
    y = (p.height - h) / 2 * p.rng.choice((-1, 1))
    colour_group = p.rng.choice(("metal_roof", "metal_roof", "flat_roof"))
    halls = p.rng.choice((1, 1, 2, 3))
    for k in range(halls):
        block(
            p,
            (k - (halls - 1) / 2) * w / halls,
            y,
            w / halls - 1.5,
            h,
            concept="warehouse",
            material=colour_group,
            height=p.rng.uniform(6, 12),
        )
    if p.far:
        return
    free = -math.copysign(h / 2 + 5, y)
    for k in range(int(w / 6)):
        if p.rng.random() < 0.35:
            truck(p, (k + 0.5) * 6 - w / 2, y + free * 1.15, math.pi / 2)


def commercial(p: Plot) -> None:
    """Large flat roofs in blocks between streets, with parking lots and street trees."""
    p.ground("blurred_works" if p.far else "concrete", "commercial")
    cell = p.rng.uniform(55, 95)
    nx, ny = max(1, round(p.width / cell)), max(1, round(p.height / cell))
    for i in range(nx + 1):
        street(p, i * p.width / nx - p.width / 2, 0, p.height, 10, math.pi / 2, 0.4)
    for j in range(ny + 1):
        street(p, 0, j * p.height / ny - p.height / 2, p.width, 10, 0.0, 0.4)
    for i in range(nx):
        for j in range(ny):
            _city_block(
                p.sub(
                    (i + 0.5) * p.width / nx - p.width / 2,
                    (j + 0.5) * p.height / ny - p.height / 2,
                    p.width / nx - 18,
                    p.height / ny - 18,
                )
            )


def _city_block(p: Plot) -> None:
    roll = p.rng.random()
    if roll < 0.15:
        parking_lot(p)
    elif roll < 0.22:
        park(p)
    else:
        n = p.rng.choice((1, 2, 2, 3))
        m = p.rng.choice((1, 2, 2))
        for i in range(n):
            for j in range(m):
                w, h = p.width / n, p.height / m
                shrink = p.rng.uniform(0.7, 0.97)
                block(
                    p,
                    (i + 0.5) * w - p.width / 2,
                    (j + 0.5) * h - p.height / 2,
                    w * shrink,
                    h * shrink,
                    height=p.rng.choice((8, 12, 18, 30)),
                )
        if not p.far:
            tree_row(p, (-p.width / 2, p.height / 2 + 2), (p.width / 2, p.height / 2 + 2), 11, 2.2)


def park(p: Plot) -> None:
    """Lawns, paths, a pond, trees in groups."""
    p.ground("lawn", "park")
    for _ in range(3):
        q = p.sub(0, 0, p.width * 1.3, 4, p.rng.uniform(0, math.pi))
        if p.rng.random() < 0.8:
            q.path(p.rng.choice(("concrete", "dirt_road")), wave_line(p.rng, min(p.width, p.height) * 0.95, 8, 90), 2.6)
    if p.rng.random() < 0.5:
        p.disc("concrete", 0, 0, min(p.width, p.height) * 0.1)
        p.disc(p.rng.choice(("pool", "lawn", "lake_water")), 0, 0, min(p.width, p.height) * 0.06)
    with p.aside():
        trees(p, p.rng.uniform(25, 80), 2, 5)
    if p.rng.random() < 0.5:
        x, y = p.rng.uniform(-0.25, 0.25) * p.width, p.rng.uniform(-0.25, 0.25) * p.height
        outline = blob_outline(p.rng, x, y, 0.14 * min(p.width, p.height))
        p.clear(outline)
        p.poly("lake_water", outline, "pond")


def swimming_pool(p: Plot) -> None:
    """A villa or hotel with a large pool, terrace and garden."""
    p.ground(p.rng.choice(("lawn", "concrete", "grass")), "park")
    trees(p, 40, 1.5, 4, p.rng.choice(("crown", "palm")))
    turn = p.rng.uniform(0, 3.1)
    q = p.sub(0, 0, 40, 40, turn)
    size = p.rng.uniform(6, 11)
    q.clear_rect(0, 0, size * 3.2, size * 2.8)
    q.rect("concrete", 0, 0, size * 3.2, size * 2.8)
    pool(q, 0, 0, size)
    for side in (-1, 1):
        if p.rng.random() < 0.8:
            house(q, side * p.rng.uniform(-4, 4), side * (size * 1.4 + 9), p.rng.uniform(16, 28), p.rng.uniform(9, 13))
    for u, v in scatter(q, 0 if p.far else 14):
        if size * 0.7 < abs(v) < size * 1.3:
            p_angle = p.rng.choice((0.0, math.pi / 2))
            q.rect("fuselage", u * 0.5, v, 1.9, 0.7, angle=p_angle, height=0.4)
