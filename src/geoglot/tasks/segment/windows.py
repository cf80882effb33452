"""Where the windows of a segmentation lie, and how large the model sees them.

Three frames: the scene's pixels; the model's pixels, which are the scene's times `scale`; and cells, squares of
`cell_px` model pixels in which scores are kept. Windows begin at whole cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import UsageError
from geoglot.imagery.scene import Pixels, Scene
from geoglot.models.card import Card
from geoglot.models.encoder import DenseEncoder
from geoglot.scoring.windows import Axis
from geoglot.tasks.segment.classes import TEMPLATES
from geoglot.types import Window

if TYPE_CHECKING:
    from geoglot.models.towers.dense import LastBlock

PATCHES = 7
"""A window shows at least so many patches a side: what a ViT-B/32 sees of 224 pixels."""

FINER = 4
"""Cells a patch side, without an upsampler: blending weights are smooth at this step."""


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """How a scene is segmented.

    Attributes:
        window_m: Side of a window on the ground in metres; None chooses by the model's ground sample distances.
        window_px: The same in pixels of the scene, instead of metres.
        model_px: Side at which the model sees a window; None is the model's own side, or seven patches if more.
        overlap: Share of a window that its neighbour repeats, in [0, 1).
        background: Words of a class "background"; ("auto",) takes whatever the model knows besides the classes; None
            gives every pixel one of the classes, if there are several.
        presence: Classes whose presence in the scene is below this, in [0, 1], are left out; 0 keeps all. The default
            leaves out what is certainly not there; 0.5 suits objects (see geoglot.tasks.segment.classes).
        temperature: Multiplies cosines before they become probabilities; None is the model's own.
        min_probability: Pixels whose best class has less become background; needs a background.
        cls_bias: Times the window's own score is added to its patches' scores; SegEarth-OV takes -0.3.
        last_block: How a transformer's last block attends (see models/towers/dense.py); None is the model's own choice.
        templates: Prompts; `{c}` is the word.

    Raises:
        UsageError: A value out of range.
    """

    window_m: float | None = None
    window_px: int | None = None
    model_px: int | None = None
    overlap: float = 0.5
    background: tuple[str, ...] | None = None
    presence: float = 0.001
    temperature: float | None = None
    min_probability: float = 0.0
    cls_bias: float = 0.0
    last_block: LastBlock | None = None
    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        if self.window_m is not None and self.window_px is not None:
            raise UsageError("a window is given in metres and in pixels", hint="Give one of window_m and window_px.")
        for name, value in (("window_m", self.window_m), ("window_px", self.window_px), ("model_px", self.model_px)):
            if value is not None and not 0 < value < np.inf:
                raise UsageError(f"{name} {value} must be above 0")
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise UsageError(f"temperature {self.temperature} must be above 0")
        if not 0 <= self.overlap < 1:
            raise UsageError(f"overlap must lie in [0, 1), got {self.overlap}", hint="Try 0.5.")
        for name, share in (("presence", self.presence), ("min_probability", self.min_probability)):
            if not 0 <= share <= 1:
                raise UsageError(f"{name} {share} must lie in 0 to 1")
        if self.background is not None and not all(word.strip() for word in self.background):
            raise UsageError("the background has an empty word", hint="Name it, or take 'auto'.")


class Picture(Protocol):
    """Pixels that can be read by window: a scene, or an array."""

    @property
    def width(self) -> int:
        """Pixels across."""
        ...

    @property
    def height(self) -> int:
        """Pixels down."""
        ...

    @property
    def gsd_m(self) -> float | None:
        """Metres a pixel; None where it is not known."""
        ...

    def read(self, window: Window, size_px: tuple[int, int]) -> Pixels:
        """A window, resampled to (height, width)."""
        ...

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window hold data."""
        ...


@dataclass(frozen=True, slots=True)
class ScenePicture:
    """A scene as a Picture."""

    scene: Scene

    @property
    def width(self) -> int:
        return self.scene.info.width

    @property
    def height(self) -> int:
        return self.scene.info.height

    @property
    def gsd_m(self) -> float | None:
        return self.scene.info.gsd_m

    def read(self, window: Window, size_px: tuple[int, int]) -> Pixels:
        return self.scene.read(window, size_px)

    def valid(self, window: Window) -> NDArray[np.bool_]:
        return self.scene.valid(window)


@dataclass(frozen=True, slots=True)
class ArrayPicture:
    """An image in memory as a Picture.

    Attributes:
        rgb: uint8 [H, W, 3].
        gsd_m: Metres a pixel, if known.
        mask: bool [H, W], False where there is no data; None where all is data.
    """

    rgb: NDArray[np.uint8]
    gsd_m: float | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        shape = self.rgb.shape
        if self.rgb.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
            raise UsageError(f"an image must be uint8 [H, W, 3], not {self.rgb.dtype} {list(shape)}")
        if self.mask is not None and self.mask.shape != shape[:2]:
            raise UsageError(f"the mask {list(self.mask.shape)} does not fit the image {list(shape)}")

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    def read(self, window: Window, size_px: tuple[int, int]) -> Pixels:
        from PIL import Image

        x0, y0, x1, y1 = window.box_px
        size = (size_px[1], size_px[0])
        rgb = self.rgb[y0:y1, x0:x1]
        if size != (window.width, window.height):
            rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
        mask = Image.fromarray(self.valid(window)).resize(size, Image.Resampling.NEAREST)
        return Pixels(rgb, np.asarray(mask))

    def valid(self, window: Window) -> NDArray[np.bool_]:
        x0, y0, x1, y1 = window.box_px
        if self.mask is None:
            return np.ones((y1 - y0, x1 - x0), np.bool_)
        return self.mask[y0:y1, x0:x1]


@dataclass(frozen=True, slots=True)
class Plan:
    """The windows of one picture.

    Attributes:
        width, height: Of the picture, in its pixels.
        model_width, model_height: The same in model pixels, at least 1.
        patch_px, cell_px: Model pixels of a patch and of a cell; the first is a multiple of the second.
        window_px: (height, width) of a window in model pixels, multiples of the patch.
        down, across: Windows along both axes, in cells.
        window_scene_px: Side of a full window in the picture's pixels.
        window_m: The same in metres; None without a ground sample distance.
        notes: What a reader must know, in sentences.
    """

    width: int
    height: int
    model_width: int
    model_height: int
    patch_px: int
    cell_px: int
    window_px: tuple[int, int]
    down: Axis
    across: Axis
    window_scene_px: float
    window_m: float | None
    notes: tuple[str, ...]

    @property
    def windows(self) -> int:
        """How many there are."""
        return len(self.down.firsts) * len(self.across.firsts)

    @property
    def cells_per_pixel(self) -> tuple[float, float]:
        """(down, across) of the picture's pixels."""
        return (
            self.model_height / self.height / self.cell_px,
            self.model_width / self.width / self.cell_px,
        )


def make_plan(picture: Picture, encoder: DenseEncoder, settings: SegmentSettings, finer: int = FINER) -> Plan:
    """Choose the windows.

    Args:
        picture: What to cut.
        encoder: Its card and patch side choose what the settings leave open.
        settings: See SegmentSettings.
        finer: Cells a patch side; the nearest smaller number that divides the patch is taken.

    Raises:
        UsageError: A window in metres for a picture without a ground sample distance.
    """
    patch = encoder.patch_px
    side = _whole_patches(settings.model_px or max(encoder.card.image_px, PATCHES * patch), patch)
    window, notes = _window(picture, encoder.card, settings, side)
    cell = patch // max(n for n in range(1, finer + 1) if patch % n == 0)
    scale = side / window
    extents = [max(1, round(length * scale)) for length in (picture.height, picture.width)]
    sides = [min(side, _whole_patches(extent, patch)) for extent in extents]
    if sides != [side, side]:
        seen = " x ".join(str(min(length, round(window))) for length in (picture.width, picture.height))
        notes.append(f"a window of {window:.0f} px is larger than the scene: it was cut to {seen} px")
    axes = [Axis.cut(-(-e // cell), s // cell, settings.overlap) for e, s in zip(extents, sides, strict=True)]
    return Plan(
        picture.width, picture.height, extents[1], extents[0], patch, cell, (sides[0], sides[1]), axes[0], axes[1],
        window, window * picture.gsd_m if picture.gsd_m else None, tuple(notes),
    )  # fmt: skip


def _window(picture: Picture, card: Card, settings: SegmentSettings, side: int) -> tuple[float, list[str]]:
    """Side of a window in the picture's pixels, and notes."""
    gsd = picture.gsd_m
    if settings.window_px is not None:
        return float(settings.window_px), []
    if settings.window_m is not None:
        if gsd is None:
            raise UsageError(
                f"a window of {settings.window_m:g} m is asked for, but the size of the scene's pixels is not known",
                hint="Give the window in pixels.",
            )
        return settings.window_m / gsd, []
    if gsd is None:
        return float(side), ["the scene has no ground sample distance: windows are measured in pixels"]
    finest = card.gsd_m[0] if card.gsd_m else gsd
    return side * max(gsd, finest) / gsd, []


def _whole_patches(length: int, patch: int) -> int:
    return -(-length // patch) * patch


def spans(picture_length: int, model_length: int, start: int, stop: int) -> tuple[int, int, int, int]:
    """The pixels of a picture's axis that hold the model pixels [start, stop).

    Returns:
        (first, last, count, skip): read [first, last) resampled to `count`, and leave the first `skip` of these out.
        They lie within half a model pixel of where they should.
    """
    scale = model_length / picture_length
    first = int(start / scale)
    last = min(picture_length, max(first + 1, int(np.ceil(stop / scale - 1e-9))))
    count = max(1, round((last - first) * scale), stop - start)
    skip = min(round(start - first * scale), count - (stop - start))
    return first, last, count, max(skip, 0)


def words_of(text: str | None) -> tuple[str, ...] | None:
    """A background as people write it, `bare land,sand`, or `auto`."""
    return None if text is None else tuple(part.strip() for part in text.split(","))


def listed(names: Sequence[str]) -> str:
    """For people."""
    return ", ".join(names)
