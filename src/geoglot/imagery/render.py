"""Any bands to 8-bit RGB: which bands to show, and how to stretch them.

A rendering is fixed once per scene, so a chip looks the same whatever else is read with it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOW_PERCENTILE, HIGH_PERCENTILE = 2.0, 98.0
"""The usual cut of GIS viewers: drops sensor noise, glint and clouds, and keeps 96 % of the pixels unclipped."""

COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Linear stretch to 8 bits: `low` [3] becomes 0, and each unit above it adds `gain` grey levels."""

    low: NDArray[np.float32]
    gain: float

    def to_8bit(self, channels: NDArray[np.float32]) -> NDArray[np.uint8]:
        """float32 [3, H, W] to uint8 [H, W, 3]; NaN becomes 0. Overwrites its input."""
        channels -= self.low[:, None, None]
        channels *= self.gain
        np.nan_to_num(channels, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        np.clip(channels, 0.0, 255.0, out=channels)
        channels += 0.5
        return channels.astype(np.uint8).transpose(1, 2, 0)


@dataclass(frozen=True, slots=True)
class Rendering:
    """How one scene becomes RGB.

    Attributes:
        bands: Bands to read, counted from 1, ascending, without repeats.
        mix: float32 [3, len(bands)] weights that make red, green and blue from them.
        palette: uint8 [256, 3] colours of a palette image, else None.
        wants_stretch: The pixels are not display-ready; `fitted` must be called before `rgb`.
        stretch: The stretch, once fitted.
    """

    bands: tuple[int, ...]
    mix: NDArray[np.float32]
    palette: NDArray[np.uint8] | None = None
    wants_stretch: bool = False
    stretch: Stretch | None = None

    def rgb(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Pixels [len(bands), H, W] and their validity [H, W] to uint8 [H, W, 3]; invalid pixels are black."""
        if self.palette is not None:
            out = self.palette[values[0]]
        elif self.stretch is not None:
            out = self.stretch.to_8bit(self.channels(values))
        else:
            out = np.stack([values[i] for i in self.mix.argmax(axis=1)], axis=-1)
        if not valid.all():
            out = out * valid[..., None]
        return np.ascontiguousarray(out, dtype=np.uint8)

    def channels(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Red, green and blue before the stretch: [len(bands), ...] to float32 [3, ...]."""
        return np.stack([_weighted(values, weights) for weights in self.mix])

    def fitted(self, samples: NDArray[Any]) -> Rendering:
        """The same with the stretch that suits valid sample pixels [len(bands), N], N > 0.

        Black is each channel's own 2nd percentile, which takes haze away. The gain is one for all three, from the
        widest 2-98 % range, so that a forest stays green instead of being balanced to grey.
        """
        low, high = np.percentile(self.channels(samples), (LOW_PERCENTILE, HIGH_PERCENTILE), axis=1)
        span = float((high - low).max())
        return replace(self, stretch=Stretch(low.astype(np.float32), 255.0 / span if span > 0 else 0.0))


def _weighted(values: NDArray[Any], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum over bands; bands of weight 0 are left out, so their NaN does not spread."""
    used = np.flatnonzero(weights)
    total: NDArray[np.float32] = values[used[0]].astype(np.float32)
    if weights[used[0]] != 1:
        total *= weights[used[0]]
    for i in used[1:]:
        total += values[i].astype(np.float32) * weights[i]
    return total


def choose_rendering(
    *,
    dtype: str,
    colours: Sequence[str],
    descriptions: Sequence[str | None],
    sensor: str | None,
    palette: Mapping[int, Sequence[int]] | None = None,
) -> Rendering:
    """Pick the bands to show.

    Order: palette; bands that say they are red, green and blue (colour interpretation, then description); the table
    in `bands.toml` by sensor and number of bands; the first three bands; a single band as grey.

    Args:
        dtype: numpy name. 8-bit pixels count as display-ready, anything else is stretched.
        colours: Colour interpretation of each band, lower case, e.g. "red", "gray", "alpha".
        descriptions: Name of each band, if any.
        sensor: Short name, if known.
        palette: Entry to (r, g, b[, a]), for a palette image.
    """
    bands = [i for i, colour in enumerate(colours, start=1) if colour != "alpha"]
    if palette is not None:
        return Rendering((bands[0],), _mix((bands[0],), [bands[0]] * 3), palette=_palette_table(palette))
    entry = _table_entry(sensor, len(bands))
    named = _named_bands([colours[i - 1] for i in bands], [descriptions[i - 1] for i in bands], sensor)
    picks: list[Any] = named or entry.get("rgb") or ([1, 2, 3] if len(bands) >= 3 else [1, 1, 1])
    channels = [_in_file(pick, bands) for pick in picks]
    used = tuple(sorted({band for channel in channels for band in channel}))
    stretched = dtype != "uint8" or (not named and bool(entry.get("stretch")))
    return Rendering(used, _mix(used, channels), wants_stretch=stretched)


def _in_file(pick: int | Mapping[str, float], bands: Sequence[int]) -> dict[int, float]:
    """Weights by band number in the file, from numbers that leave alpha out."""
    weights = {str(pick): 1.0} if isinstance(pick, int) else pick
    return {bands[int(number) - 1]: float(weight) for number, weight in weights.items()}


def _mix(used: Sequence[int], channels: Sequence[int | Mapping[int, float]]) -> NDArray[np.float32]:
    mix = np.zeros((3, len(used)), dtype=np.float32)
    for row, channel in zip(mix, channels, strict=True):
        for band, weight in ({channel: 1.0} if isinstance(channel, int) else channel).items():
            row[used.index(band)] = weight
    return mix


def _palette_table(palette: Mapping[int, Sequence[int]]) -> NDArray[np.uint8]:
    table = np.zeros((256, 3), dtype=np.uint8)
    for entry, colour in palette.items():
        if 0 <= entry < 256:
            table[entry] = colour[:3]
    return table


def _named_bands(colours: Sequence[str], descriptions: Sequence[str | None], sensor: str | None) -> list[int] | None:
    for names in (list(colours), [_plain(d or "") for d in descriptions]):
        for wanted in (list(COLOURS), _table_names(sensor)):
            if wanted and all(name in names for name in wanted):
                return [names.index(name) + 1 for name in wanted]
    return None


def _plain(description: str) -> str:
    """`SR_B04` -> `b4`, `Red ` -> `red`."""
    return re.sub(r"^(?:sr_|toa_)?([a-z]+)0+(?=\d)", r"\1", description.strip().lower()).removeprefix("sr_")


@cache
def _table() -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads((files("geoglot.imagery") / "bands.toml").read_text("utf-8"))["map"])


def _table_entry(sensor: str | None, count: int) -> Mapping[str, Any]:
    matching = (row for row in _table() if row["sensor"] in (sensor, "*") and count in row["bands"])
    return next(matching, {})


def _table_names(sensor: str | None) -> list[str]:
    return next((row["names"] for row in _table() if row["sensor"] == sensor and "names" in row), [])
