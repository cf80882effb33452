"""Cameras: what each makes of a painted window. Colours, haze, blur and noise per sensor; 8-bit or reflectance out."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from geoglot_sandbox.painter import Painted

SKY = np.array([0.36, 0.40, 0.50], np.float32)
"""Share of the light that reaches ground in shadow, per channel: the blue sky."""
HAZE = np.array([168.0, 180.0, 196.0], np.float32)


@dataclass(frozen=True, slots=True)
class Look:
    """How a camera and the air above it change a picture.

    Attributes:
        gain: Factors on red, green, blue (exposure and white balance).
        gamma: Above 1 brightens the middle tones.
        saturation: 1 leaves colours alone.
        haze: 0 clear .. 1 fog.
        blur_px: Radius of the point spread.
        noise: Standard deviation in grey levels.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    saturation: float = 1.0
    haze: float = 0.04
    blur_px: float = 0.5
    noise: float = 2.0


def random_look(rng: Random) -> Look:
    """A camera on a random day."""
    exposure = rng.uniform(0.72, 1.22)
    return Look(
        gain=(exposure * rng.gauss(1, 0.035), exposure * rng.gauss(1, 0.02), exposure * rng.gauss(1, 0.045)),
        gamma=rng.uniform(0.82, 1.15),
        saturation=rng.uniform(0.6, 1.12),
        haze=rng.choice((0.0, 0.03, 0.08, 0.18)) * rng.uniform(0.5, 1.0),
        blur_px=rng.choice((0.0, 0.4, 0.6, 0.9)),
        noise=rng.uniform(0.8, 5.0),
    )


def photograph(painted: Painted, look: Look, seed: int) -> NDArray[np.uint8]:
    """8-bit RGB [H, W, 3] of the painted window."""
    light = 1.0 - painted.shadow[..., None] * (1.0 - SKY)
    rgb = painted.rgb * light * np.array(look.gain, np.float32)
    grey = rgb.mean(axis=2, keepdims=True)
    rgb = grey + (rgb - grey) * look.saturation
    rgb = rgb * (1 - look.haze) + HAZE * look.haze
    rgb = 255.0 * (np.clip(rgb, 0, 255) / 255.0) ** np.float32(1 / look.gamma)
    image = Image.fromarray(rgb.astype(np.uint8))
    if look.blur_px:
        image = image.filter(ImageFilter.GaussianBlur(look.blur_px))
    noise = np.random.default_rng(seed).standard_normal(rgb.shape, np.float32) * look.noise
    return np.asarray(np.clip(np.asarray(image, np.float32) + noise, 0, 255), np.uint8)


def reflectance(painted: Painted, look: Look, seed: int) -> NDArray[np.uint16]:
    """Surface reflectance x 10000, uint16 [5, H, W]: blue, green, red, near infrared, short-wave infrared.

    Display colours are turned into reflectance by a power of 2.2 and a white of 0.45.
    """
    light = 1.0 - painted.shadow[..., None] * (1.0 - SKY)
    rgb = np.clip(painted.rgb * light * (1 - look.haze) + HAZE * look.haze, 0, 255) / 255.0
    visible = 0.45 * rgb ** np.float32(2.2)
    dim = 1.0 - 0.75 * painted.shadow
    bands = np.stack([visible[..., 2], visible[..., 1], visible[..., 0], painted.nir * dim, painted.swir * dim])
    rng = np.random.default_rng(seed)
    bands = np.stack([_blur(band, look.blur_px) for band in bands])
    bands += rng.standard_normal(bands.shape, np.float32) * np.float32(look.noise / 10000)
    return np.asarray(np.clip(bands * 10000, 1, 65535), np.uint16)


def _blur(band: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """A 3 x 3 point spread of the given strength (0..1); the imaging library blurs no floats."""
    if not radius:
        return band
    side = min(0.25, radius / 4)
    padded = np.pad(band, 1, mode="edge")
    rows = side * (padded[:-2] + padded[2:]) + (1 - 2 * side) * padded[1:-1]
    return np.asarray(side * (rows[:, :-2] + rows[:, 2:]) + (1 - 2 * side) * rows[:, 1:-1], np.float32)
