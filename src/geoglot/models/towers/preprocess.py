"""RGB pixels of any size to the square that an image tower was trained on. No PyTorch; every runtime uses it.

Follows what the reference packages do to their images (torchvision's Resize and CenterCrop on Pillow images).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoglot.errors import UsageError
from geoglot.models.zoo.origin import Preprocess

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def check_images(images: Any) -> NDArray[np.uint8]:
    """The batch itself, if it is RGB uint8 [N, H, W, 3].

    Raises:
        UsageError: It is something else; the hint says how to mend what is commonly given instead. Red and blue swapped
            cannot be told from the numbers.
    """
    if not isinstance(images, np.ndarray):
        raise UsageError(
            f"images must be a NumPy array, not {type(images).__name__}", hint="Try numpy.asarray(images)."
        )
    what = f"images must be RGB uint8 [N, H, W, 3], not {images.dtype} {list(images.shape)}"
    if images.ndim == 3 and images.shape[2] == 3:
        raise UsageError(what, hint="One image is a batch of one: images[None].")
    if images.ndim != 4:
        raise UsageError(what)
    if images.shape[3] != 3:
        raise UsageError(what, hint=_channel_hint(images.shape))
    if 0 in images.shape[1:]:
        raise UsageError(f"images of {images.shape[1]} x {images.shape[2]} px are empty")
    if images.dtype != np.uint8:
        raise UsageError(what, hint=_range_hint(images))
    return images


def _channel_hint(shape: tuple[int, ...]) -> str:
    if shape[1] == 3:
        return "Channels come last: images.transpose(0, 2, 3, 1)."
    if shape[3] == 4:
        return "Drop the fourth channel: images[..., :3]."
    return "Choose three bands, red, green, blue, as the last axis." if shape[3] > 1 else "Repeat the grey band thrice."


def _range_hint(images: NDArray[Any]) -> str:
    if images.size == 0 or images.dtype.kind not in "fiu":
        return ""
    low, high = float(images.min()), float(images.max())
    found = f"Its values run from {low:g} to {high:g}. "
    if images.dtype.kind == "f" and low >= 0 and high <= 1:
        return found + "Scale them: (images * 255).round().astype('uint8')."
    if low >= 0 and high <= 255:
        return found + "If that is 8-bit colour: images.astype('uint8')."
    return found + "Render the bands to 8-bit colour first; normalisation is the model's own business."


def fit(images: NDArray[np.uint8], side_px: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    """RGB uint8 [N, H, W, 3] -> [N, side_px, side_px, 3]; what has that size already is returned as it is."""
    if images.shape[1:3] == (side_px, side_px):
        return images
    fitted = [_fit_one(image, side_px, preprocess) for image in images]
    return np.stack(fitted) if fitted else np.zeros((0, side_px, side_px, 3), np.uint8)


def _fit_one(pixels: NDArray[np.uint8], side: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    resample = _FILTERS[preprocess.interpolation]
    if preprocess.resize == "squash":
        return np.asarray(image.resize((side, side), resample))
    short = min(width, height)
    wide, high = side * width // short, side * height // short  # torchvision rounds the longer side down
    left, top = round((wide - side) / 2), round((high - side) / 2)
    return np.asarray(image.resize((wide, high), resample).crop((left, top, left + side, top + side)))
