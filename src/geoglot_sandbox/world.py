"""The world model: shapes on the ground in metres, and the pen that generators draw them with.

A `World` is a list of shapes in drawing order. A `Plot` is a piece of land with a frame of its own (origin in its
middle, x right, y up, metres); layout functions draw on a plot, and the plot turns and moves everything into the world.
Classes are concept ids such as "storage_tank"; several shapes may be parts of one object.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoglot_sandbox.materials import Colour, Material, Style, materials

Point = tuple[float, float]

FAR_GSD_M = 4.0
"""Coarser pictures show plots by their larger surfaces only."""


class Stripe(NamedTuple):
    """Rows in a surface: wave vector in radians per metre (world frame), and strength as a share of brightness."""

    kx: float
    ky: float
    strength: float


class Shape(NamedTuple):
    """One flat-coloured surface.

    Attributes:
        points: Polygon in world metres; one point only for a disc.
        radius: Radius of a disc in metres; 0 for a polygon.
        material: What it is made of.
        colour: sRGB.
        concept: Class of the ground it covers, or "" to keep the class of what is below.
        part_of: Number of the object it belongs to, 0 for none.
        height_m: Casts a shadow when above 0.
        level: 0 on the ground, 1 standing on it (or a deck above it), 2 standing on a deck.
        stripe: Rows, or None.
    """

    points: tuple[Point, ...]
    radius: float
    material: Material
    colour: Colour
    concept: str
    part_of: int
    height_m: float
    level: int
    stripe: Stripe | None


@dataclass
class World:
    """Shapes in drawing order, and the class of each object (object n has class `objects[n - 1]`)."""

    shapes: list[Shape] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)


def anywhere(x: float, y: float) -> bool:
    """Nothing stands in the way."""
    return True


@dataclass
class Plot:
    """A piece of land to draw on.

    Attributes:
        world: Where shapes go.
        rng: Source of all chance on this plot.
        style: Colours of the place.
        width, height: Extent in metres; x in [-width/2, width/2], y likewise.
        angle: Turn against the world in radians, anticlockwise.
        origin: World coordinates of the middle.
        gsd_m: Metres per pixel of the picture this is for; details that it cannot show are left out.
        free: Tells whether an object may stand at a world point (not in a river, not on a freeway).
    """

    world: World
    rng: Random
    style: Style
    width: float
    height: float
    angle: float = 0.0
    origin: Point = (0.0, 0.0)
    gsd_m: float = 0.3
    free: Callable[[float, float], bool] = anywhere

    def __post_init__(self) -> None:
        self._cos, self._sin = math.cos(self.angle), math.sin(self.angle)
        self.far = self.gsd_m > FAR_GSD_M
        self._since = len(self.world.shapes)  # `clear` leaves alone what other plots drew before

    # -- frame -----------------------------------------------------------------------------------------------------
    def to_world(self, x: float, y: float) -> Point:
        """World coordinates of a point of the plot."""
        return (self.origin[0] + x * self._cos - y * self._sin, self.origin[1] + x * self._sin + y * self._cos)

    def sub(self, x: float, y: float, width: float, height: float, angle: float = 0.0) -> Plot:
        """A plot on this one, centred at (x, y), turned by `angle` against it; shares the rng."""
        spot = self.to_world(x, y)
        plot = Plot(self.world, self.rng, self.style, width, height, self.angle + angle, spot, self.gsd_m, self.free)
        plot._since = self._since
        return plot

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Draw details without moving the rng on, so that coarse pictures, which skip them, show the same place."""
        state = self.rng.getstate()
        yield
        self.rng.setstate(state)

    def clear(self, points: Sequence[Point]) -> None:
        """Take away what stands inside a polygon of the plot: trees in a lake, houses on a road."""
        mine = self.world.shapes[self._since :]
        feet = np.array([s.points[0] for s in mine]).reshape(-1, 2)
        gone = inside(np.array([self.to_world(*p) for p in points]), feet) & np.array([s.level > 0 for s in mine], bool)
        if gone.any():
            marked = list(zip(mine, gone.tolist(), strict=True))
            objects = {s.part_of for s, out in marked if out} - {0}
            self.world.shapes[self._since :] = [s for s, out in marked if not out and s.part_of not in objects]

    def clear_rect(self, x: float, y: float, w: float, h: float) -> None:
        """`clear` for a rectangle along the axes of the plot."""
        self.clear([(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)])

    # -- shapes ----------------------------------------------------------------------------------------------------
    def object(self, concept: str) -> int:
        """Begin an object; pass the number as `part_of` of its shapes."""
        self.world.objects.append(concept)
        return len(self.world.objects)

    def poly(
        self,
        material: str,
        points: Sequence[Point],
        concept: str = "",
        *,
        part_of: int = 0,
        height: float = 0.0,
        level: int | None = None,
        colour: Colour | None = None,
        rows: tuple[float, float, float] | None = None,
    ) -> None:
        """A polygon. `rows` = (angle in the plot, wavelength in metres, strength). Level follows from the height."""
        self._add(
            material, tuple(self.to_world(*p) for p in points), 0.0, concept, part_of, height, level, colour, rows
        )

    def rect(
        self,
        material: str,
        x: float,
        y: float,
        w: float,
        h: float,
        concept: str = "",
        *,
        angle: float = 0.0,
        **kw: Any,
    ) -> None:
        """A rectangle with its centre at (x, y), w along `angle`; other arguments as in `poly`."""
        c, s = math.cos(angle), math.sin(angle)
        corners = ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))
        self.poly(material, [(x + u * c - v * s, y + u * s + v * c) for u, v in corners], concept, **kw)

    def disc(
        self,
        material: str,
        x: float,
        y: float,
        radius: float,
        concept: str = "",
        *,
        part_of: int = 0,
        height: float = 0.0,
        level: int | None = None,
        colour: Colour | None = None,
        rows: tuple[float, float, float] | None = None,
    ) -> None:
        """A disc; arguments as in `poly`."""
        self._add(material, (self.to_world(x, y),), radius, concept, part_of, height, level, colour, rows)

    def path(self, material: str, points: Sequence[Point], width: float, concept: str = "", **kw: Any) -> None:
        """A band of constant width along a polyline."""
        self.poly(material, band(points, -width / 2, width / 2), concept, **kw)

    def blob(self, material: str, x: float, y: float, radius: float, concept: str = "", **kw: Any) -> None:
        """A rounded, uneven patch about `radius` in size."""
        self.poly(material, blob_outline(self.rng, x, y, radius), concept, **kw)

    def ground(self, material: str, concept: str = "", **kw: Any) -> None:
        """Cover the whole plot."""
        self.rect(material, 0, 0, self.width, self.height, concept, **kw)

    def pick(self, material: str) -> Colour:
        """A colour of the material here."""
        return self.style.colour(materials()[material], self.rng)

    def _add(
        self,
        material: str,
        points: tuple[Point, ...],
        radius: float,
        concept: str,
        part_of: int,
        height: float,
        level: int | None,
        colour: Colour | None,
        rows: tuple[float, float, float] | None,
    ) -> None:
        standing = level if level is not None else int(height > 0)
        if (standing or part_of) and not self.free(*points[0]):
            return
        made_of = materials()[material]
        tint = colour or self.style.colour(made_of, self.rng)
        stripe = self._stripe(*rows) if rows else None
        self.world.shapes.append(Shape(points, radius, made_of, tint, concept, part_of, height, standing, stripe))

    def _stripe(self, angle: float, wave_m: float, strength: float) -> Stripe:
        k, across = 2 * math.pi / wave_m, self.angle + angle + math.pi / 2
        return Stripe(k * math.cos(across), k * math.sin(across), strength)


def inside(outline: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of N points lie in a polygon [M, 2], by the even-odd rule; bool [N]."""
    ends = np.roll(outline, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    spans = (outline[:, 1] > y) != (ends[:, 1] > y)
    rise = np.where(ends[:, 1] == outline[:, 1], 1.0, ends[:, 1] - outline[:, 1])
    with np.errstate(over="ignore", invalid="ignore"):  # edges that hardly rise; they span no point
        at = outline[:, 0] + (y - outline[:, 1]) / rise * (ends[:, 0] - outline[:, 0])
    return np.asarray((spans & (x < at)).sum(axis=1) % 2 == 1)


def band(points: Sequence[Point], left: float, right: float) -> list[Point]:
    """The polygon between two offsets of a polyline (positive = to the right of its direction)."""
    normals = []
    for i in range(len(points)):
        a, b = points[max(0, i - 1)], points[min(len(points) - 1, i + 1)]
        dx, dy = b[0] - a[0], b[1] - a[1]
        norm = math.hypot(dx, dy) or 1.0
        normals.append((dy / norm, -dx / norm))
    one = [(p[0] + n[0] * left, p[1] + n[1] * left) for p, n in zip(points, normals, strict=True)]
    two = [(p[0] + n[0] * right, p[1] + n[1] * right) for p, n in zip(points, normals, strict=True)]
    return one + two[::-1]


def blob_outline(
    rng: Random, x: float, y: float, radius: float, rough: float = 0.22, stretch: float = 1.4
) -> list[Point]:
    """A closed outline of a few random waves around a stretched circle."""
    waves = [(k, rough * rng.uniform(0.3, 1.0) / math.sqrt(k), rng.uniform(0, 2 * math.pi)) for k in (2, 3, 4, 5, 7)]
    turn, long = rng.uniform(0, math.pi), math.sqrt(rng.uniform(1.0, stretch))
    outline = []
    for i in range(48):
        t = 2 * math.pi * i / 48
        r = radius * (1 + sum(a * math.sin(k * t + p) for k, a, p in waves))
        u, v = r * long * math.cos(t), r / long * math.sin(t)
        outline.append((x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)))
    return outline


def wave_line(rng: Random, length: float, amplitude: float, wave_m: float, step: float = 8.0) -> list[Point]:
    """A meandering line from (-length/2, .) to (length/2, .) in plot metres."""
    parts = [(wave_m / k, amplitude / k**1.8, rng.uniform(0, 2 * math.pi)) for k in (1.0, 1.7, 3.1)]
    count = max(2, math.ceil(length / step) + 1)
    xs = [-length / 2 + length * i / (count - 1) for i in range(count)]
    return [(x, sum(a * math.sin(2 * math.pi * x / w + p) for w, a, p in parts)) for x in xs]
