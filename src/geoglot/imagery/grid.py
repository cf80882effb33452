"""Which windows of a scene are read: chips of several ground sizes, or squares of several sides in pixels."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from geoglot.errors import UsageError
from geoglot.types import SceneInfo, Window

SIDES_PX = (256, 512, 768)
"""As published ("256_512_768"), at 0.32 m per pixel on average."""


def starts(length: int, side: int, overlap: float, first: int = 0) -> list[int]:
    """Where windows of `side` begin on an axis of `length`, from `first` on; the last is shifted inside."""
    if length <= side:
        return [0]
    stride = max(1, round(side * (1 - overlap)))
    return [*range(first, length - side, stride), length - side]


def chip_windows(width: int, height: int, side_px: int, overlap: float = 0.25) -> list[Window]:
    """Cut a scene into square windows, row by row.

    Args:
        width, height: Scene size in pixels.
        side_px: Side of a chip in pixels.
        overlap: Share of a chip that its neighbour repeats, in [0, 1).

    Returns:
        Windows that together cover the scene, all `side_px` square and inside it: the last of a row or column is
        shifted inwards. An axis shorter than `side_px` is taken whole.

    Raises:
        UsageError: A size below 1 or an overlap out of range.
    """
    if min(width, height, side_px) < 1:
        raise UsageError(f"chip windows need sizes of at least 1 px, got {width} x {height} and side {side_px}")
    _check_overlap(overlap)
    w, h = min(side_px, width), min(side_px, height)
    columns = starts(width, side_px, overlap)
    return [Window(x, y, x + w, y + h) for y in starts(height, side_px, overlap) for x in columns]


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of chips: windows of `width` x `height` pixels that begin at `xs` and `y0`."""

    y0: int
    width: int
    height: int
    xs: tuple[int, ...]

    def windows(self) -> list[Window]:
        """The chips from left to right."""
        return [Window(x, self.y0, x + self.width, self.y0 + self.height) for x in self.xs]


@dataclass(frozen=True, slots=True)
class ChipGrid:
    """The recipe by which any scene is cut; an archive keeps it, so that every scene is cut alike.

    Attributes:
        ground_m: Sides on the ground to choose from, in metres, ascending.
        overlap: Share of a chip that its neighbour repeats, in [0, 1).
        min_px, max_px: A ground size is used where its side in pixels lies between these; where none does (pixels
            of kilometres or millimetres), the nearer of the two is the side.
        max_scales: At most so many sizes per scene, the smallest first.
        plain_px: Sides in pixels for scenes without a georeference.
        min_valid: Chips with a smaller share of valid pixels are dropped.

    Raises:
        UsageError: A value out of range.
    """

    ground_m: tuple[float, ...] = (80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 5120.0)
    overlap: float = 0.25
    min_px: int = 48
    max_px: int = 1100
    max_scales: int = 2
    plain_px: tuple[int, ...] = (256, 512)
    min_valid: float = 0.2

    def __post_init__(self) -> None:
        _check_overlap(self.overlap)
        if not self.ground_m or min(self.ground_m) <= 0 or not all(math.isfinite(g) for g in self.ground_m):
            raise UsageError(
                f"ground sizes {self.ground_m} must be positive metres, at least one", hint="Try 160 and 640."
            )
        if not self.plain_px or min(self.plain_px) < 1:
            raise UsageError(f"plain sizes {self.plain_px} must be positive pixels, at least one")
        if not 1 <= self.min_px <= self.max_px:
            raise UsageError(f"chip sides must satisfy 1 <= min_px <= max_px, got {self.min_px} and {self.max_px}")
        if self.max_scales < 1:
            raise UsageError(f"max_scales must be at least 1, got {self.max_scales}")
        if not 0 <= self.min_valid <= 1:
            raise UsageError(f"min_valid must lie in [0, 1], got {self.min_valid}")

    def sides_px(self, info: SceneInfo) -> tuple[int, ...]:
        """Sides of the chips of a scene in its pixels, ascending; a side of the whole scene stands for "all of it"."""
        reach = max(info.width, info.height)
        fitting = [side for side in self._candidates(info) if side <= reach]
        return tuple(fitting[: self.max_scales]) or (reach,)

    def _candidates(self, info: SceneInfo) -> list[int]:
        if info.gsd_m is None:
            return sorted(set(self.plain_px))
        sides = sorted({round(ground / info.gsd_m) for ground in self.ground_m})
        usable = [side for side in sides if self.min_px <= side <= self.max_px]
        return usable or [self.min_px if sides[-1] < self.min_px else self.max_px]

    def strips(self, info: SceneInfo) -> Iterator[Strip]:
        """Rows of chips, smallest scale first, top to bottom. Nothing is kept, whatever the size of the scene."""
        for side in self.sides_px(info):
            xs = tuple(starts(info.width, side, self.overlap))
            for y0 in starts(info.height, side, self.overlap):
                yield Strip(y0, min(side, info.width), min(side, info.height), xs)

    def windows(self, info: SceneInfo) -> list[Window]:
        """All windows of a scene, in the order of `strips`."""
        return [window for strip in self.strips(info) for window in strip.windows()]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a manifest; `from_dict` turns it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ChipGrid:
        """The grid that `to_dict` described.

        Raises:
            UsageError: A key that no grid has, or a value out of range.
        """
        unknown = sorted(set(data) - set(cls.__dataclass_fields__))
        if unknown:
            raise UsageError(f"a chip grid has no field {unknown[0]!r}", hint="It was written by another version.")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any field."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def fitting_sides(width: int, height: int, sides_px: Sequence[int]) -> tuple[int, ...]:
    """Sides, ascending and each once; one that the scene does not hold becomes the scene's shorter side.

    Raises:
        UsageError: No side, or one below 2 px.
    """
    if not sides_px or min(sides_px) < 2:
        raise UsageError(f"window sides {tuple(sides_px)}: at least one, of 2 px or more, is needed")
    return tuple(sorted({min(side, width, height) for side in sides_px}))


@dataclass(frozen=True, slots=True)
class ScaleGrid:
    """The windows of a scene for semantic localization; `read_chips` takes one like a ChipGrid.

    The grid is that of Yuan et al. 2022 (arXiv 2209.06515; their released code): for each side s, squares side by side
    from 0, and once more from s / 2 on both axes; what would reach over the border is shifted back.

    Attributes:
        sides_px: Sides of the squares; clamped as `fitting_sides` says.
        min_valid: Least share of valid pixels of a window that is read.
    """

    sides_px: tuple[int, ...] = SIDES_PX
    min_valid: float = 0.5

    def strips(self, info: SceneInfo) -> Iterator[Strip]:
        """Rows of windows, smallest side first, those from 0 before those from s / 2; no window twice."""
        for side in fitting_sides(info.width, info.height, self.sides_px):
            xs, ys = tuple(starts(info.width, side, 0)), starts(info.height, side, 0)
            for y in ys:
                yield Strip(y, side, side, xs)
            others = tuple(starts(info.width, side, 0, side - side // 2))
            fresh = tuple(x for x in others if x not in set(xs))
            for y in starts(info.height, side, 0, side - side // 2):
                if row := fresh if y in set(ys) else others:
                    yield Strip(y, side, side, row)

    def windows(self, info: SceneInfo) -> list[Window]:
        """All windows, in the order of `strips`."""
        return [window for strip in self.strips(info) for window in strip.windows()]


def _check_overlap(overlap: float) -> None:
    if not 0 <= overlap < 1:
        raise UsageError(f"overlap must lie in [0, 1), got {overlap}", hint="Try 0.25.")
