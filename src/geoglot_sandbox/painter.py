"""From shapes to pixels: rasterise any window of a world at any ground sample distance.

Every shape is drawn once, into a buffer of shape numbers at twice the resolution; colour, texture, class and object of
a pixel are then table look-ups. Shadows are drawn level by level, so that a roof hides the shadows below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from geoglot_sandbox.concepts import NUMBER
from geoglot_sandbox.materials import materials
from geoglot_sandbox.noise import crown_noise, value_noise
from geoglot_sandbox.world import Shape, World

SUPER = 2
"""Buffer pixels per image pixel, each way."""
WAVES_M = (80.0, 20.0, 5.0, 1.2)
"""Wavelengths of the texture noise, as in `palette.toml`."""
FINEST_M = 0.45
CROWN_M = 6.5
LIMIT_PX = 20000
"""Shapes may reach this far beyond the window before the drawing library would waste time on them."""

Affine = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class View:
    """A window on the world.

    Attributes:
        to_px: (a, b, c, d, e, f): column = a x + b y + c, row = d x + e y + f, for world metres (x, y).
        size: (width, height) in pixels.
        gsd_m: Metres per pixel.
        origin: World (x, y) of the top left corner.
    """

    to_px: Affine
    size: tuple[int, int]
    gsd_m: float
    origin: tuple[float, float]

    @classmethod
    def north_up(cls, left: float, top: float, gsd_m: float, size: tuple[int, int]) -> View:
        """A view whose rows run west to east."""
        return cls((1 / gsd_m, 0.0, -left / gsd_m, 0.0, -1 / gsd_m, top / gsd_m), size, gsd_m, (left, top))


@dataclass(frozen=True, slots=True)
class Sun:
    """Where light comes from, in degrees: azimuth clockwise from north, elevation above the horizon."""

    azimuth: float = 150.0
    elevation: float = 50.0

    @property
    def direction(self) -> tuple[float, float]:
        """Unit vector towards the sun, (east, north)."""
        return (math.sin(math.radians(self.azimuth)), math.cos(math.radians(self.azimuth)))

    @property
    def throw(self) -> tuple[float, float]:
        """Shadow of a pole of one metre, (east, north) in metres."""
        length = 1 / math.tan(math.radians(self.elevation))
        return (-self.direction[0] * length, -self.direction[1] * length)


@dataclass(frozen=True, slots=True)
class Painted:
    """What a perfect camera sees, and the truth about it.

    Attributes:
        rgb: float32 [H, W, 3], 0..255, sunlit surface with texture.
        shadow: float32 [H, W], 0 sunlit .. 1 in shadow.
        nir, swir: float32 [H, W] reflectance 0..1.
        mask: uint8 [H, W], indices into CONCEPTS.
        objects: int32 [H, W], number of the object seen, 0 for none.
        outlines: For each object in view, the polygons of its parts in pixels.
    """

    rgb: NDArray[np.float32]
    shadow: NDArray[np.float32]
    nir: NDArray[np.float32]
    swir: NDArray[np.float32]
    mask: NDArray[np.uint8]
    objects: NDArray[np.int32]
    outlines: dict[int, list[list[tuple[float, float]]]]


def paint(world: World, view: View, sun: Sun, seed: int = 0) -> Painted:
    """Rasterise the window. Cost: about 10 microseconds per shape and 0.4 microseconds per pixel."""
    placed = _place(world.shapes, view)
    index, concept, shadow, outlines = _rasterise(placed, view, sun)
    return _resolve(placed, index, concept, shadow, outlines, view, sun, seed)


@dataclass(frozen=True, slots=True)
class _Placed:
    shape: Shape
    points: list[tuple[float, float]]  # buffer pixels
    radius: float


def _place(shapes: list[Shape], view: View) -> list[_Placed]:
    """Shapes that touch the window (with room for shadows), in buffer pixels."""
    if not shapes:
        return []
    counts = np.array([len(s.points) for s in shapes])
    flat = np.array([p for s in shapes for p in s.points], np.float64)
    a, b, c, d, e, f = view.to_px
    px = np.stack([flat[:, 0] * a + flat[:, 1] * b + c, flat[:, 0] * d + flat[:, 1] * e + f], 1) * SUPER
    np.clip(px, -LIMIT_PX, LIMIT_PX, out=px)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    radius = np.array([s.radius for s in shapes]) / view.gsd_m * SUPER
    reach = radius + np.array([s.height_m for s in shapes]) / view.gsd_m * SUPER * 3 + 1
    low, high = np.minimum.reduceat(px, starts) - reach[:, None], np.maximum.reduceat(px, starts) + reach[:, None]
    bounds = np.array(view.size) * SUPER
    # A shape that is under a third of a pixel across adds nothing but time.
    wide = (high - low).max(axis=1) - 2 * (reach - radius) > 0.3 * SUPER
    keep = (high > 0).all(axis=1) & (low < bounds).all(axis=1) & wide
    rows = [tuple(p) for p in px.tolist()]
    return [_Placed(shapes[i], rows[starts[i] : starts[i] + counts[i]], float(radius[i])) for i in np.flatnonzero(keep)]


def _rasterise(
    placed: list[_Placed], view: View, sun: Sun
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8], dict[int, list[list[tuple[float, float]]]]]:
    """Buffers at double resolution: shape seen + 1; shape that names the ground + 1; shadow 0 or 255."""
    size = (view.size[0] * SUPER, view.size[1] * SUPER)
    seen, named, shadow = Image.new("I", size), Image.new("I", size), Image.new("L", size)
    pens = ImageDraw.Draw(seen), ImageDraw.Draw(named), ImageDraw.Draw(shadow)
    throw = (sun.throw[0] / view.gsd_m * SUPER, -sun.throw[1] / view.gsd_m * SUPER)
    outlines: dict[int, list[list[tuple[float, float]]]] = {}
    for level in (0, 1, 2):
        layer = [(n + 1, p) for n, p in enumerate(placed) if p.shape.level == level]
        for _, item in layer:
            if item.shape.height_m > 0:
                _draw_shadow(pens[2], item, throw)
        for number, item in layer:
            _fill(pens[0], item, number)
            if item.shape.concept:
                _fill(pens[1], item, number)
            if level:
                _fill(pens[2], item, 0)
            if item.shape.part_of:
                outlines.setdefault(item.shape.part_of, []).append(_outline(item))
    return np.asarray(seen, np.int32), np.asarray(named, np.int32), np.asarray(shadow), outlines


def _fill(pen: ImageDraw.ImageDraw, item: _Placed, value: int) -> None:
    if item.radius:
        (x, y), r = item.points[0], item.radius
        pen.ellipse((x - r, y - r, x + r, y + r), fill=value)
    else:
        pen.polygon(item.points, fill=value)


def _draw_shadow(pen: ImageDraw.ImageDraw, item: _Placed, throw: tuple[float, float]) -> None:
    """The ground that a prism over the shape keeps from the sun: its outline swept along the throw."""
    dx, dy = throw[0] * item.shape.height_m, throw[1] * item.shape.height_m
    if item.radius:
        (x, y), r = item.points[0], item.radius
        steps = max(1, min(6, math.ceil(math.hypot(dx, dy) / max(r, 1e-6))))
        for i in range(1, steps + 1):
            cx, cy = x + dx * i / steps, y + dy * i / steps
            pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
        return
    moved = [(x + dx, y + dy) for x, y in item.points]
    pen.polygon(moved, fill=255)
    for i in range(len(moved)):
        pen.polygon([item.points[i - 1], item.points[i], moved[i], moved[i - 1]], fill=255)


def _outline(item: _Placed) -> list[tuple[float, float]]:
    if not item.radius:
        return [(x / SUPER, y / SUPER) for x, y in item.points]
    (x, y), r = item.points[0], item.radius
    turns = (2 * math.pi * i / 16 for i in range(16))
    return [((x + r * math.cos(t)) / SUPER, (y + r * math.sin(t)) / SUPER) for t in turns]


def _resolve(
    placed: list[_Placed],
    index: NDArray[np.int32],
    named: NDArray[np.int32],
    shadow: NDArray[np.uint8],
    outlines: dict[int, list[list[tuple[float, float]]]],
    view: View,
    sun: Sun,
    seed: int,
) -> Painted:
    """Look up what each shape number means; average down to image pixels; lay texture on."""
    shapes = [p.shape for p in placed]
    colour = np.array([(90, 90, 90), *(s.colour for s in shapes)], np.uint8)
    concept = np.array([0, *(NUMBER[s.concept] if s.concept else 0 for s in shapes)], np.uint8)
    owner = np.array([0, *(s.part_of for s in shapes)], np.int32)
    made_of = np.array([0, *(s.material.number for s in shapes)], np.int16)
    table = list(materials().values())
    nir, swir = np.array([m.nir for m in table], np.float32), np.array([m.swir for m in table], np.float32)
    fine = Image.fromarray(colour[index]).resize(view.size, Image.Resampling.BOX)
    dark = Image.fromarray(shadow).resize(view.size, Image.Resampling.BOX)
    at = index[::SUPER, ::SUPER]
    material = made_of[at]
    texture = 1.0 + _texture(shapes, at, material, view, sun, seed)
    return Painted(
        rgb=np.asarray(fine, np.float32) * texture[..., None],
        shadow=np.asarray(dark, np.float32) / 255.0,
        nir=nir[material] * texture,
        swir=swir[material] * texture,
        mask=concept[named[::SUPER, ::SUPER]],
        objects=owner[at],
        outlines=outlines,
    )


def _texture(
    shapes: list[Shape], at: NDArray[np.int32], material: NDArray[np.int16], view: View, sun: Sun, seed: int
) -> NDArray[np.float32]:
    """Relative brightness around 0, float32 [H, W]."""
    table = list(materials().values())
    total = np.zeros(at.shape, np.float32)
    for octave, wave in (*enumerate(WAVES_M), (3, max(FINEST_M, 2 * view.gsd_m))):
        if wave < view.gsd_m * 1.5:
            continue
        weight = np.array([m.noise[octave] for m in table], np.float32)
        total += weight[material] * 1.5 * value_noise(view.origin, view.gsd_m, view.size, wave, seed + round(wave))
    total += _rows(shapes, at, view)
    crowns = np.array([m.crowns for m in table], np.float32)[material]
    rows, cols = np.nonzero(crowns)
    visible = min(1.0, CROWN_M / view.gsd_m / 4)
    if len(rows) and visible > 0.4:
        x = view.origin[0] + (cols.astype(np.float32) + 0.5) * view.gsd_m
        y = view.origin[1] - (rows.astype(np.float32) + 0.5) * view.gsd_m
        total[rows, cols] += crowns[rows, cols] * visible * crown_noise(x, y, CROWN_M, sun.direction, seed + 11)
    return total


def _rows(shapes: list[Shape], at: NDArray[np.int32], view: View) -> NDArray[np.float32]:
    """Crop rows and the like; faded out where they are too fine to be resolved."""
    waves = np.zeros((len(shapes) + 1, 3), np.float32)
    for number, shape in enumerate(shapes, 1):
        if shape.stripe:
            per_wave = 2 * math.pi / math.hypot(shape.stripe.kx, shape.stripe.ky) / view.gsd_m
            fade = min(1.0, max(0.0, (per_wave - 2.0) / 2.0))
            waves[number] = (shape.stripe.kx, shape.stripe.ky, shape.stripe.strength * fade)
    out = np.zeros(at.shape, np.float32)
    where = np.nonzero(waves[:, 2][at])
    if len(where[0]):
        kx, ky, strength = waves[at[where]].T
        x = view.origin[0] + where[1].astype(np.float32) * view.gsd_m
        y = view.origin[1] - where[0].astype(np.float32) * view.gsd_m
        out[where] = strength * np.sin(kx * x + ky * y)
    return out
