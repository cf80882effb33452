"""Materials: the colour, texture and infrared reflectance of each surface, read from `palette.toml`.

A `Style` is the look of one place at one time of year; it turns a material into the colour of one shape.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import NamedTuple

Colour = tuple[int, int, int]

DRY: Colour = (164, 146, 102)
"""What plants fade to in a drought."""


class Material(NamedTuple):
    """One table of `palette.toml`; the units are described there."""

    number: int
    colours: tuple[Colour, ...]
    jitter: float
    noise: tuple[float, float, float, float]
    crowns: float
    plant: bool
    nir: float
    swir: float


@cache
def materials() -> dict[str, Material]:
    """All materials by name, numbered from 0 in the file's order."""
    tables = tomllib.loads(files("geoglot_sandbox").joinpath("palette.toml").read_text("utf-8"))
    return {name: _material(number, table) for number, (name, table) in enumerate(tables.items())}


def _material(number: int, table: dict[str, object]) -> Material:
    defaults = {"crowns": 0.0, "plant": False}
    values = {**defaults, **table}
    values["colours"] = tuple(tuple(c) for c in values["colours"])  # type: ignore[attr-defined]
    values["noise"] = tuple(values["noise"])  # type: ignore[arg-type]
    return Material(number=number, **values)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Style:
    """The look of one place at one time.

    Attributes:
        drought: 0 lush .. 1 dry; moves the colour of plants towards straw.
        plant_gain: Factors on the red, green and blue of plants (species, season).
        ground_gain: Factors on the red, green and blue of everything else (soil and stone of the region).
        tile_share: Share of houses with red tile roofs, 0..1.
    """

    drought: float = 0.15
    plant_gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ground_gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    tile_share: float = 0.35

    def colour(self, material: Material, rng: Random, choice: int | None = None) -> Colour:
        """One colour of a material here; `choice` fixes which of its base colours."""
        base = material.colours[rng.randrange(len(material.colours)) if choice is None else choice]
        shift = rng.gauss(0.0, material.jitter)
        gain = self.plant_gain if material.plant else self.ground_gain
        mixed = [(1 - self.drought) * b + self.drought * d for b, d in zip(base, DRY, strict=True)]
        values = [(m if material.plant else b) * g + shift for m, b, g in zip(mixed, base, gain, strict=True)]
        return (_byte(values[0]), _byte(values[1]), _byte(values[2]))


def _byte(value: float) -> int:
    return max(0, min(255, round(value)))


def random_style(rng: Random) -> Style:
    """A look drawn at random: wet or dry, any season with leaves, grey to red ground."""
    warm = rng.gauss(0.0, 0.05)
    return Style(
        drought=rng.random() ** 2 * 0.75,
        plant_gain=(1 + rng.gauss(0, 0.07), 1 + rng.gauss(0, 0.035), 1 + rng.gauss(0, 0.08)),
        ground_gain=(1 + warm, 1.0, 1 - warm),
        tile_share=rng.choice((0.05, 0.2, 0.5, 0.9)),
    )


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor < 1) or lighter."""
    return (_byte(colour[0] * factor), _byte(colour[1] * factor), _byte(colour[2] * factor))
