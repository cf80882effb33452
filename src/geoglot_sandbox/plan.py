"""The plan of the country: coast, river, ways, and what each district of 512 m is used for; drawn for any window.

World coordinates are metres east and north of the country's south-west corner. Every district has a random source of
its own, so that a window draws the same place whatever else is in view.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random

from geoglot_sandbox import farms, leisure, nature, town, waterfront, ways
from geoglot_sandbox.materials import Style
from geoglot_sandbox.objects import block, car
from geoglot_sandbox.world import Plot, Point, World, band

DISTRICT_M = 512.0
COLUMNS, ROWS = 24, 18
WIDTH_M, HEIGHT_M = COLUMNS * DISTRICT_M, ROWS * DISTRICT_M
FREEWAY_X = 13 * DISTRICT_M
RAILWAY_Y = 7 * DISTRICT_M
RIVER_M = 74.0
STEP_M, BEYOND_M = 8.0, 4000.0
OVERPASS_EVERY = 4
"""Every how many rows a road crosses the freeway on a deck."""

Layout = Callable[[Plot], None]
Box = tuple[float, float, float, float]


def quarters(*layouts: Layout) -> Layout:
    """A district of four layouts side by side."""

    def draw(p: Plot) -> None:
        for k, layout in enumerate(layouts):
            layout(p.sub((k % 2 - 0.5) * p.width / 2, (k // 2 - 0.5) * p.height / 2, p.width / 2, p.height / 2))

    return draw


SHOPS = quarters(town.commercial, town.parking_lot, town.commercial, town.park)
VILLAGE = quarters(town.medium_residential, town.sparse_residential, town.park, town.medium_residential)
MIXED = quarters(town.dense_residential, town.commercial, town.medium_residential, town.dense_residential)
WORKS = quarters(waterfront.storage_tank, town.industrial, town.industrial, waterfront.storage_tank)

SPECIAL: dict[tuple[int, int, int, int], Layout] = {
    # (column, row, columns, rows): layout
    (15, 12, 3, 2): ways.airport,
    (10, 13, 2, 1): leisure.golf_course,
    (7, 10, 1, 1): leisure.sports_ground,
    (9, 11, 1, 1): town.mobile_home_park,
    (8, 12, 1, 1): VILLAGE,
    (6, 7, 1, 1): WORKS,
    (7, 6, 1, 1): waterfront.storage_tank,
    (17, 7, 2, 1): farms.solar_farm,
    (11, 5, 1, 1): farms.greenhouse,
    (14, 3, 2, 1): farms.wind_farm,
    (19, 2, 2, 2): farms.circular_farmland,
    (21, 2, 2, 2): farms.circular_farmland,
    (19, 4, 2, 2): farms.circular_farmland,
    (20, 13, 2, 2): nature.lake,
    (9, 4, 1, 1): nature.pond,
    (10, 15, 2, 2): nature.lake,
    (10, 8, 1, 1): quarters(town.park, town.swimming_pool, town.medium_residential, town.cars),
}


@dataclass(frozen=True)
class Country:
    """A seeded plan. Cost of `draw`: up to 0.2 s per district at full detail, 5 ms when seen from far."""

    seed: int

    @cached_property
    def _waves(self) -> list[list[tuple[float, float, float]]]:
        """(amplitude, wavelength, phase) of the coast and of the river."""
        rng = Random(f"{self.seed} lines")
        coast = ((330, 6100), (150, 2300), (60, 900), (16, 260), (5, 90))
        river = ((420, 5200), (170, 2100), (60, 900))
        return [[(a, w, rng.uniform(0, 2 * math.pi)) for a, w in part] for part in (coast, river)]

    @cached_property
    def _tables(self) -> list[list[float]]:
        """Coast and river every `STEP_M`, from `-BEYOND_M` on: asked for each thing that stands."""
        steps = [i * STEP_M - BEYOND_M for i in range(round((WIDTH_M + 2 * BEYOND_M) / STEP_M) + 2)]
        return [
            [middle + sum(a * math.sin(2 * math.pi * s / w + p) for a, w, p in waves) for s in steps]
            for middle, waves in zip((2350.0, 4850.0), self._waves, strict=True)
        ]

    def coast(self, y: float) -> float:
        """Where the sea ends and the land begins, going east along y."""
        return _look_up(self._tables[0], y)

    def river(self, x: float) -> float:
        """The river's centre line: y at x."""
        return _look_up(self._tables[1], x)

    @cached_property
    def river_line(self) -> list[Point]:
        """The centre line from out at sea to the eastern border."""
        return [(x, self.river(x)) for x in (1500 + 24.0 * i for i in range(round((WIDTH_M - 1500) / 24) + 1))]

    def dry(self, x: float, y: float, margin: float = 0.0) -> bool:
        """True on land and away from the river."""
        return x > self.coast(y) + margin and abs(y - self.river(x)) > RIVER_M / 2 * 1.25 + margin

    def free(self, x: float, y: float) -> bool:
        """True where a house or tree may stand: on dry land and off the ways."""
        if abs(x - FREEWAY_X) < 36 or abs(y - RAILWAY_Y) < 11 or not self.dry(x, y, 12.0):
            return False
        return abs(x - _nearest_way(x)) > 11 and abs(y - _nearest_way(y)) > 11

    # -- land use --------------------------------------------------------------------------------------------------
    def land_use(self, column: int, row: int) -> Layout:
        """The layout of an ordinary district: rings around the town, farms and woods beyond, dry land in the east."""
        rng = Random(f"{self.seed} use {column} {row}")
        distance = math.hypot(column - 7.5, row - 9.3) + rng.uniform(-0.4, 0.4)
        if distance < 1.1:
            return town.commercial if rng.random() < 0.7 else SHOPS
        if distance < 2.3:
            return rng.choice((town.dense_residential, town.dense_residential, MIXED))
        if distance < 3.6:
            return rng.choice((town.medium_residential, town.medium_residential, town.park, VILLAGE))
        if column < 9 and 4 <= row <= 7:
            return rng.choice((town.industrial, town.industrial, WORKS))
        if distance < 4.6:
            return rng.choice((town.sparse_residential, town.medium_residential, farms.farmland))
        if column >= 20 and row >= 6:
            return rng.choice(
                (nature.desert, nature.desert, nature.bare_land, nature.chaparral)
                if column > 21
                else (nature.chaparral, nature.bare_land)
            )
        wood = math.sin(column * 0.9 + self.seed) + math.sin(row * 1.1 + column * 0.35)
        if wood > 0.75:
            return nature.forest
        return rng.choice((farms.farmland,) * 6 + (nature.meadow, nature.sparse_forest, town.sparse_residential))

    # -- drawing ---------------------------------------------------------------------------------------------------
    def draw(self, box: Box, gsd_m: float, style: Style) -> World:
        """All shapes that a window (west, south, east, north in world metres) can show."""
        world = World()
        west, south, east, north = box
        wide = (west - 60, south - 60, east + 60, north + 60)
        base = self._plot(world, "base", style, gsd_m, (WIDTH_M / 2, HEIGHT_M / 2), 3 * WIDTH_M, 3 * HEIGHT_M)
        base.ground("meadow", "meadow")
        self._districts(world, wide, gsd_m, style)
        self._roads(world, wide, gsd_m, style)
        self._water(world, gsd_m, style)
        self._crossings(world, wide, gsd_m, style)
        self._harbors(world, wide, gsd_m, style)
        return world

    def _plot(
        self, world: World, name: str, style: Style, gsd_m: float, origin: Point, w: float, h: float, angle: float = 0.0
    ) -> Plot:
        return Plot(world, Random(f"{self.seed} {name}"), style, w, h, angle, origin, gsd_m, self.free)

    def _districts(self, world: World, box: Box, gsd_m: float, style: Style) -> None:
        taken = {(i + di, j + dj) for i, j, w, h in SPECIAL for di in range(w) for dj in range(h)}
        places = [(i, j, 1, 1, self.land_use(i, j)) for i in range(COLUMNS) for j in range(ROWS) if (i, j) not in taken]
        places += [(*cells, layout) for cells, layout in SPECIAL.items()]
        for i, j, w, h, layout in places:
            x0, y0, x1, y1 = i * DISTRICT_M, j * DISTRICT_M, (i + w) * DISTRICT_M, (j + h) * DISTRICT_M
            if x1 < box[0] or x0 > box[2] or y1 < box[1] or y0 > box[3] or x1 < self.coast((y0 + y1) / 2) - 400:
                continue
            layout(
                self._plot(world, f"district {i} {j}", style, gsd_m, ((x0 + x1) / 2, (y0 + y1) / 2), x1 - x0, y1 - y0)
            )

    def _roads(self, world: World, box: Box, gsd_m: float, style: Style) -> None:
        """Country roads on every second line of the grid, the railway, the freeway: a piece per district."""
        for k in range(max(COLUMNS, ROWS)):
            mid = (k + 0.5) * DISTRICT_M
            for line in range(0, max(COLUMNS, ROWS) + 1, 2):
                at = line * DISTRICT_M
                if at != FREEWAY_X:
                    self._road(world, box, gsd_m, style, (at, mid), math.pi / 2)
                self._road(world, box, gsd_m, style, (mid, at), 0.0)
            if _within((mid, RAILWAY_Y), box, 300) and mid > self.coast(RAILWAY_Y) + 400:
                p = self._plot(world, f"railway {k}", style, gsd_m, (mid, RAILWAY_Y), DISTRICT_M, 30)
                p.free = self._anywhere
                p.rect("ballast", 0, 0, DISTRICT_M, 14, "railway")
                for y in (-2.4, 2.4):
                    ways.track(p, y)

    def _road(self, world: World, box: Box, gsd_m: float, style: Style, middle: Point, angle: float) -> None:
        if not _within(middle, box, 300) or not (0 < middle[0] < WIDTH_M and 0 < middle[1] < HEIGHT_M):
            return
        if middle[0] < self.coast(middle[1]) + 120 or _inside_special(middle):
            return
        p = self._plot(world, f"road {middle}", style, gsd_m, middle, DISTRICT_M, 20, angle)
        p.free = self.dry
        town_near = math.hypot(middle[0] / DISTRICT_M - 8, middle[1] / DISTRICT_M - 9.8) < 4.5
        width = 13.0 if town_near else 8.0
        p.rect("concrete" if town_near else "dirt_road", 0, 0, DISTRICT_M + width, width + 4, "road")
        p.rect("asphalt", 0, 0, DISTRICT_M + width, width, "road", colour=(116, 115, 114))
        if p.far:
            return
        p.rect("yellow_paint", 0, 0, DISTRICT_M, 0.3)
        for i in range(round(DISTRICT_M / 40)):
            if p.rng.random() < (0.6 if town_near else 0.2):
                side = p.rng.choice((-1, 1))
                car(p, -DISTRICT_M / 2 + 40 * i + p.rng.uniform(0, 30), side * -width / 4, 0.0 if side > 0 else math.pi)

    def _water(self, world: World, gsd_m: float, style: Style) -> None:
        p = self._plot(world, "river", style, gsd_m, (0, 0), WIDTH_M, HEIGHT_M)
        p.free = self._anywhere
        line = self.river_line
        for extra, material, concept in (
            (26.0, "grass", "meadow"),
            (8.0, "soil", "bare_land"),
            (0.0, "river_water", "river"),
        ):
            p.poly(material, band(line, -(RIVER_M + extra) / 2, (RIVER_M + extra) / 2), concept)
        # Turned so that "up" on the plot is west: (u, v) lies at world (-v, u).
        q = self._plot(world, "sea", style, gsd_m, (0, 0), WIDTH_M, HEIGHT_M, math.pi / 2)
        steps = range(-200, round(HEIGHT_M / 12) + 200)
        nature.shore(q, [(12.0 * i, -self.coast(12.0 * i)) for i in steps], 4 * WIDTH_M, 46.0)
        mouth = [(x, y) for x, y in line if x < self.coast(y) + 60]
        p.poly("river_water", band(mouth[-8:], -RIVER_M / 2, RIVER_M / 2), "river")
        for k, (x, y, radius) in enumerate(((900.0, 7300.0, 210.0), (620.0, 2100.0, 150.0))):
            self._island(self._plot(world, f"island {k}", style, gsd_m, (x, y), 900, 900), radius)

    def _island(self, p: Plot, radius: float) -> None:
        p.free = self._anywhere
        state = p.rng.getstate()
        for scale, material, concept in (
            (1.5, "sea", "sea"),
            (1.25, "shallow", "sea"),
            (1.06, "foam", "sea"),
            (1.04, "sand", "beach"),
            (0.9, "forest", "island"),
        ):
            p.rng.setstate(state)  # one outline at every scale
            p.blob(material, 0, 0, radius * scale, concept)

    def _crossings(self, world: World, box: Box, gsd_m: float, style: Style) -> None:
        """The freeway, its overpasses, and bridges over the river."""
        for row in range(ROWS):
            middle = (FREEWAY_X, (row + 0.5) * DISTRICT_M)
            if _within(middle, box, 320):
                p = self._plot(world, f"freeway {row}", style, gsd_m, middle, DISTRICT_M + 1, 80, math.pi / 2)
                p.free = self._anywhere
                ways.highway(p, 3)
            if row % OVERPASS_EVERY == 0 and row and _within((FREEWAY_X, row * DISTRICT_M), box, 320):
                p = self._plot(world, f"overpass {row}", style, gsd_m, (FREEWAY_X, row * DISTRICT_M), 130, 20)
                p.free = self._anywhere
                part = p.object("overpass")
                p.rect("concrete", 0, 0, 110, 15, "overpass", part_of=part, height=7.0)
                ways.carriageway(p, 0, 2, 0.0, 0.3, 1, "overpass")
        for line in range(4, COLUMNS, 2):
            x = line * DISTRICT_M
            if x > self.coast(self.river(x)) + 150:
                self._bridge(world, box, gsd_m, style, x, 1)
        self._bridge(world, box, gsd_m, style, FREEWAY_X, 4)

    def _bridge(self, world: World, box: Box, gsd_m: float, style: Style, x: float, lanes: int) -> None:
        y = self.river(x)
        if _within((x, y), box, 200):
            p = self._plot(world, f"bridge {x}", style, gsd_m, (x, y), 200, 40, math.pi / 2)
            p.free = self._anywhere
            slope = (self.river(x + 5) - self.river(x - 5)) / 10
            ways.deck(p, (RIVER_M + 34) * math.hypot(1, slope), lanes)

    def _harbors(self, world: World, box: Box, gsd_m: float, style: Style) -> None:
        """A marina and docks, with moles of rock against the swell."""
        for name, y, layout in (
            ("marina", 10.5 * DISTRICT_M, waterfront.marina),
            ("docks", 7.4 * DISTRICT_M, waterfront.dock),
        ):
            x = min(self.coast(y + d) for d in (-220, -110, 0, 110, 220)) - 120
            if not _within((x, y), box, 420):
                continue
            p = self._plot(world, name, style, gsd_m, (x, y), 440, 360, -math.pi / 2)
            p.free = self._anywhere
            p.ground("harbor_water", "harbor")
            shore = [(-d, self.coast(y + d) + 6 - x) for d in range(-220, 221, 20)]
            p.poly("concrete", [(220, 118), *shore, (-220, 118)], "harbor")
            for u in range(-180, 181, 60):
                room = self.coast(y - u) - x - 118
                if room > 26 and p.rng.random() < 0.8:
                    block(p, u, 118 + room / 2, 38, room * 0.5, concept="warehouse", material="metal_roof", height=7)
            for a, b in (((-222, 182), (-222, -180)), ((-222, -180), (70, -180)), ((222, 182), (222, -150))):
                p.path("rock", [a, b], 11, "pier", height=2.5)
            layout(p.sub(0, -2, 400, 330), 45)

    @staticmethod
    def _anywhere(x: float, y: float) -> bool:
        return True


def _look_up(table: list[float], at: float) -> float:
    place = min(max((at + BEYOND_M) / STEP_M, 0.0), len(table) - 1.001)
    whole = int(place)
    return table[whole] + (table[whole + 1] - table[whole]) * (place - whole)


def _nearest_way(value: float) -> float:
    return round(value / (2 * DISTRICT_M)) * 2 * DISTRICT_M


def _within(point: Point, box: Box, margin: float) -> bool:
    return box[0] - margin < point[0] < box[2] + margin and box[1] - margin < point[1] < box[3] + margin


def _inside_special(point: Point) -> bool:
    """True when a road here would cut a layout that covers several districts."""
    u, v = point[0] / DISTRICT_M, point[1] / DISTRICT_M
    return any(i + 0.05 < u < i + w - 0.05 and j + 0.05 < v < j + h - 0.05 for i, j, w, h in SPECIAL)
