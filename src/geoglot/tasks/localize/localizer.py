"""Where in a scene does a sentence hold? Heat maps and regions for one or several sentences that share one encoding.

Memory: one vector a window, and for one sentence at a time a map of at most MAX_CELLS cells (about 100 MB), whatever
the size of the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import EmptyQueryError, StorageError, TooLargeError, UsageError
from geoglot.imagery.grid import SIDES_PX, ScaleGrid
from geoglot.imagery.scene import Scene
from geoglot.models.encoder import DualEncoder, Vectors, background_prompts
from geoglot.scoring.blobs import Blob, blobs
from geoglot.scoring.calibration import Scorer, sample_rows, standardised
from geoglot.scoring.sums import Cover, Steps, to_cells
from geoglot.tasks.localize.maps import WindowVectors, encode_windows, fitted_sides, score_places, stretched
from geoglot.types import Window

MAX_CELLS = 4_194_304
MAX_WINDOWS = 500_000
BAND = 512
"""Rows of cells that are read at once."""
FLAT = 1e-6
"""A standard deviation below this tells nothing apart."""
LEAST_CELLS = 4
"""Smaller regions are left out, unless they hold the peak."""
CELLS_ACROSS = 16
"""Cells along the smallest window."""

Report = Callable[[float, str], None]
"""Called with the share done in [0, 1] and a few words; may raise to end it."""


@dataclass(frozen=True, slots=True)
class LocalizeSettings:
    """How to look.

    Attributes:
        sides_px: Sides of the windows, in pixels of the scene.
        ground_m: The same in metres; then sides_px is not used.
        finer: Average the map of windows with one of the places inside the smallest windows.
        level: Cells from here on, where the map runs from 0 to 1, make regions.
        most: Regions of a sentence, the highest first.
        cell_px: Side of a cell of the map; None: a sixteenth of the smallest window, more for huge scenes.

    Raises:
        UsageError: A value out of range.
    """

    sides_px: tuple[int, ...] = SIDES_PX
    ground_m: tuple[float, ...] = ()
    finer: bool = False
    level: float = 0.75
    most: int = 20
    cell_px: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.level < 1 or self.most < 1 or (self.cell_px or 1) < 1:
            raise UsageError(f"level {self.level} must lie between 0 and 1; most {self.most} and cell_px be at least 1")
        if any(not metres > 0 for metres in self.ground_m):
            raise UsageError(f"window sides of {list(self.ground_m)} m must be above 0")


@dataclass(frozen=True, slots=True)
class Place:
    """A region where a sentence holds.

    Attributes:
        window: Around it, in pixels of the scene.
        peak_px: (x, y) of its highest cell's centre.
        level: Of the map there, in [0, 1].
        score: Mean cosine there.
        confidence: Of the best window over the peak, by the card's calibration on this scene; None if not calibrated.
        runs_px: The region's cells as boxes (x0, y0, x1, y1) side by side.
    """

    window: Window
    peak_px: tuple[float, float]
    level: float
    score: float
    confidence: float | None
    runs_px: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Heat:
    """The result for one sentence.

    Attributes:
        sentence: As asked.
        values: float32 [h, w], what is written: the mean cosine of the windows over each cell (finer: standard
            deviations above the scene's mean). NaN is nodata.
        levels: The same from 0 to 1, on the grid where it changes.
        places: Highest first.
        nothing_matches: No window is likely enough to show it, by the card's threshold.
        notes: In sentences.
    """

    sentence: str
    values: NDArray[np.float32]
    levels: Steps
    places: tuple[Place, ...]
    nothing_matches: bool
    notes: tuple[str, ...] = ()

    @property
    def level(self) -> NDArray[np.float32]:
        """`levels` as float32 [h, w]."""
        return self.levels.spread()


@dataclass(frozen=True, slots=True)
class LocalizePlan:
    """The work ahead, before anything is encoded.

    Attributes:
        settings: With the sides in pixels that fit the scene, and the cell.
        windows: How many.
        height, width: Of the maps, in cells.
        notes: What was changed, in sentences.
    """

    settings: LocalizeSettings
    windows: int
    height: int
    width: int
    notes: tuple[str, ...]


def make_plan(scene: Scene, sentences: Sequence[str], settings: LocalizeSettings) -> LocalizePlan:
    """Check what is asked, and fit it to the scene.

    Raises:
        EmptyQueryError: No sentence, or an empty one.
        UsageError: A sentence twice, or metres for a scene without a place.
        TooLargeError: Too many windows.
    """
    if not sentences or any(not sentence.strip() for sentence in sentences):
        raise EmptyQueryError("no sentence to look for", hint='Say one: geoglot localize scene.tif "a ship at a pier"')
    if len(set(sentences)) < len(sentences):
        raise UsageError("a sentence is asked twice", hint="Leave one of them out.")
    info = scene.info
    sides, clamped = fitted_sides(scene, _sides(settings, info.gsd_m))
    windows = sum(len(strip.xs) for strip in ScaleGrid(sides).strips(info))
    if windows > MAX_WINDOWS:
        raise TooLargeError(
            f"the scene has {windows:,} windows, over the limit of {MAX_WINDOWS:,}", hint="Use larger windows."
        )
    cell = settings.cell_px or max(1, sides[0] // CELLS_ACROSS)
    while settings.cell_px is None and (-(-info.width // cell)) * (-(-info.height // cell)) > MAX_CELLS:
        cell *= 2
    notes = [clamped] if clamped else []
    notes += ["the scene has no place on the earth: regions are in pixels"] if info.gsd_m is None else []
    fitted = replace(settings, sides_px=sides, ground_m=(), cell_px=cell)
    return LocalizePlan(fitted, windows, -(-info.height // cell), -(-info.width // cell), tuple(notes))


def make_folder(folder: Path) -> None:
    """Make the folder that results go to.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {error}", hint="Choose another folder.") from error


def _sides(settings: LocalizeSettings, gsd_m: float | None) -> tuple[int, ...]:
    if not settings.ground_m:
        return settings.sides_px
    if gsd_m is None:
        raise UsageError("windows in metres need a scene with a place on the earth", hint="Give sides in pixels.")
    return tuple(max(2, round(metres / gsd_m)) for metres in settings.ground_m)


def localize_scene(
    scene: Scene,
    encoder: DualEncoder,
    sentences: Sequence[str],
    plan: LocalizePlan,
    report: Report = lambda share, words: None,
) -> Iterator[Heat]:
    """The heat of each sentence, one after the other.

    Raises:
        UnknownWordsError: No word of a sentence is known.
        EmptySceneError, UnreadableSceneError: Of the scene.
        UsageError: `finer` with a model that tells no places apart.
    """
    texts = encoder.encode_texts(list(sentences))
    windows = _encoded(scene, encoder, plan.settings, report)
    cover = windows.cover(scene.info.width, scene.info.height, plan.settings.cell_px or 1)
    fine = _PlaceMaps.of(scene, encoder, texts, plan, report) if plan.settings.finer else None
    valid = _valid(scene, plan)
    scorer = _scorer_of(encoder, windows)
    for k, sentence in enumerate(sentences):
        mean = _masked(valid, cover.steps(windows.vectors @ texts[k]))
        if fine is not None:
            mean = Steps.of(mean.spread())
            heat = _masked(valid, Steps.of(_sum_of_two(mean.values, fine.map_of(k))))
        else:
            heat = mean
        levels = replace(heat, values=stretched(heat.values))
        likely = scorer.confidences(windows.vectors, texts[k]) if scorer else None
        nothing = scorer is not None and likely is not None and float(likely.max()) < scorer.calibration.threshold
        places, notes = _places(levels, mean, likely, windows, plan)
        yield Heat(sentence, heat.spread(), levels, places, nothing, notes)
        report(0.9 + 0.1 * (k + 1) / len(sentences), f"map of {sentence!r}")


def _masked(valid: NDArray[np.bool_] | None, steps: Steps) -> Steps:
    """NaN where there is no data; None is valid everywhere."""
    if valid is None:
        return steps
    values = steps.spread()
    values[~valid] = np.nan
    return Steps.of(values)


def _encoded(scene: Scene, encoder: DualEncoder, settings: LocalizeSettings, report: Report) -> WindowVectors:
    share = 0.45 if settings.finer else 0.9

    def progress(done: int, total: int) -> None:
        report(share * done / total, f"{done:,} of {total:,} windows")

    return encode_windows(scene, encoder, ScaleGrid(settings.sides_px), progress)


def _scorer_of(encoder: DualEncoder, windows: WindowVectors) -> Scorer | None:
    """Confidences of a scene's windows, with the scene as its own background; None for a model without calibration."""
    if not encoder.card.calibrated:
        return None
    sample = windows.vectors[sample_rows(len(windows.vectors))]
    return Scorer.measured(sample, background_prompts(encoder), encoder.card.calibration)


@dataclass(frozen=True, slots=True)
class _PlaceMaps:
    """Scores of the places inside the smallest windows."""

    cover: Cover
    scores: NDArray[np.float32]

    @classmethod
    def of(cls, scene: Scene, encoder: DualEncoder, texts: Vectors, plan: LocalizePlan, report: Report) -> _PlaceMaps:
        def progress(done: int, total: int) -> None:
            report(0.45 + 0.45 * done / total, f"{done:,} of {total:,} windows, closer")

        side, cell = plan.settings.sides_px[0], plan.settings.cell_px or 1
        scorer = Scorer.unmeasured(background_prompts(encoder), encoder.card.calibration)
        parts = list(score_places(scene, encoder, scorer, texts, side, progress))
        boxes = to_cells(np.concatenate([boxes for boxes, _ in parts]), cell)
        return cls(Cover(boxes, plan.height, plan.width), np.concatenate([scores for _, scores in parts]))

    def map_of(self, k: int) -> NDArray[np.float32]:
        """Mean score of the places over each cell."""
        return self.cover.mean(self.scores[:, k])


def _sum_of_two(coarse: NDArray[np.float32], fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of two maps in standard deviations; where a place is smaller than a cell the coarse one counts alone."""
    a, b = (standardised(values, least_std=FLAT) for values in (coarse, fine))
    return np.where(np.isfinite(b), (a + b) / 2, a).astype(np.float32)


def _valid(scene: Scene, plan: LocalizePlan) -> NDArray[np.bool_] | None:
    """Cells that hold data [h, w]; None when all do. Read in bands, so that RGB of a huge map is never held whole."""
    cell, height = plan.settings.cell_px or 1, scene.info.height
    valid = np.empty((plan.height, plan.width), np.bool_)
    for top in range(0, plan.height, BAND):
        bottom = min(top + BAND, plan.height)
        window = Window(0, top * cell, scene.info.width, min(bottom * cell, height))
        valid[top:bottom] = scene.valid(window) if cell == 1 else scene.read(window, (bottom - top, plan.width)).valid
    return None if valid.all() else valid


def _places(
    levels: Steps,
    mean: Steps,
    likely: NDArray[np.float64] | None,
    windows: WindowVectors,
    plan: LocalizePlan,
) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    """Regions, the highest first, and what a reader must know."""
    if not np.fmax.reduce(levels.values, axis=None) > 0:
        return (), ("the map is constant: the sentence fits every window alike",)
    areas = blobs(levels.values >= plan.settings.level)
    every = [_place(blob, levels, mean, likely, windows, plan) for blob in areas]
    every.sort(key=lambda place: -place.level)
    least = LEAST_CELLS * (plan.settings.cell_px or 1) ** 2
    places = [place for rank, place in enumerate(every) if not rank or _area(place.runs_px) >= least]
    return tuple(places[: plan.settings.most]), ()


def _area(boxes: NDArray[np.int64]) -> int:
    x0, y0, x1, y1 = boxes.T
    return int(((x1 - x0) * (y1 - y0)).sum())


def _place(
    blob: Blob,
    levels: Steps,
    mean: Steps,
    likely: NDArray[np.float64] | None,
    windows: WindowVectors,
    plan: LocalizePlan,
) -> Place:
    xs, ys = (edges * (plan.settings.cell_px or 1) for edges in (levels.x, levels.y))
    row, column = _top(blob, levels.values)
    half = (plan.settings.cell_px or 1) / 2  # of the first of the cells that are equally high
    x, y = float(xs[column] + half), float(ys[row] + half)
    runs = np.stack([xs[blob.starts], ys[blob.rows], xs[blob.stops], ys[blob.rows + 1]], axis=1)
    x0, y0, x1, y1 = windows.boxes.T
    left, up, right, down = blob.box
    window = Window(int(xs[left]), int(ys[up]), min(int(xs[right]), int(x1.max())), min(int(ys[down]), int(y1.max())))
    over = (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)
    confidence = float(likely[over].max()) if likely is not None and over.any() else None
    score = float(mean.values[row, column])
    return Place(window, (x, y), float(levels.values[row, column]), score, confidence, runs)


def _top(blob: Blob, level: NDArray[np.float32]) -> tuple[int, int]:
    """(row, column) of the blob's highest cell. Mostly the highest of its box is its own: then no run is looked at."""
    x0, y0, x1, y1 = blob.box
    part = np.nan_to_num(level[y0:y1, x0:x1], nan=-np.inf)
    row, column = (int(v) for v in np.unravel_index(int(part.argmax()), part.shape))
    if ((blob.rows == row + y0) & (blob.starts <= column + x0) & (column + x0 < blob.stops)).any():
        return row + y0, column + x0
    runs = zip(blob.rows.tolist(), blob.starts.tolist(), blob.stops.tolist(), strict=True)
    tops = [(float(level[r, a:b].max()), r, a + int(level[r, a:b].argmax())) for r, a, b in runs]
    _, row, column = max(tops, key=lambda top: top[0])
    return row, column
