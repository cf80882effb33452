"""The working stages of ingest, as generators: sources -> chips -> vectors, one ordered stream of events.

    SceneStarts  ChipRead ...  SceneDone                  a scene that was read
    SceneStarts  ChipRead ...  SceneFailed                a scene that broke while it was read: forget its chips
    SceneFailed                                           a scene that could not be opened
    SceneStarts  ChipRead ...  SceneStarts  ChipRead ...  a scene that changed: forget what came before

`encode_chips` turns runs of ChipRead into ChipsEncoded and leaves the rest as it is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoglot.archive.ingest_report import Failure, StageClock
from geoglot.errors import SceneChangedError, SceneError, SourceError
from geoglot.imagery.addresses import Source, fingerprint
from geoglot.imagery.chips import read_chips
from geoglot.imagery.grid import ChipGrid
from geoglot.imagery.limits import Limits
from geoglot.imagery.reach import Reach
from geoglot.imagery.scene import open_scene
from geoglot.models.encoder import DualEncoder
from geoglot.types import Chip, SceneInfo

BATCH = 32
"""Chips per call of the encoder."""


class Bounds(NamedTuple):
    """How large scenes may be, and where they may lie."""

    limits: Limits
    reach: Reach


@dataclass(frozen=True, slots=True)
class SceneStarts:
    """A scene was opened; its chips follow."""

    info: SceneInfo


@dataclass(frozen=True, slots=True)
class ChipRead:
    """A chip with its pixels, uint8 [S, S, 3]."""

    chip: Chip
    image: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ChipsEncoded:
    """Chips of one scene with vectors, float32 [N, D]."""

    chips: list[Chip]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SceneDone:
    """The scene that was started is complete; `empty` of its chips were left out."""

    uri: str
    empty: int


@dataclass(frozen=True, slots=True)
class SceneFailed:
    """A scene cannot be used."""

    failure: Failure


Mark = SceneStarts | SceneDone | SceneFailed


def read_scenes(
    sources: Iterable[Source], grid: ChipGrid, size_px: int, bounds: Bounds, clock: StageClock
) -> Generator[Mark | ChipRead, None, None]:
    """Read every source; one that changes meanwhile is read once more. Memory: a strip of one scene."""
    for source in sources:
        error = yield from _read_if_steady(source, grid, size_px, bounds, clock)
        if isinstance(error, SceneChangedError):
            error = yield from _read_if_steady(source, grid, size_px, bounds, clock)
        if error:
            yield SceneFailed(Failure.of(source.uri, error))


def _read_if_steady(
    source: Source, grid: ChipGrid, size_px: int, bounds: Bounds, clock: StageClock
) -> Generator[Mark | ChipRead, None, SceneError | SourceError | None]:
    """Read a scene; returns what is wrong with it. A file that changed is blamed before what it made the reader say."""
    problem: SceneError | SourceError | None = None
    before, empty = "", 0
    try:
        before = fingerprint(source.uri, bounds.reach)
        empty = yield from _read_scene(source, grid, size_px, bounds, clock)
    except (SceneError, SourceError) as error:
        problem = error
    if before and _fingerprint_or_gone(source.uri, bounds.reach) != before:
        return SceneChangedError(f"{source.uri} changed while it was read, twice in a row")
    if problem is None:
        yield SceneDone(source.uri, empty)
    return problem


def _read_scene(
    source: Source, grid: ChipGrid, size_px: int, bounds: Bounds, clock: StageClock
) -> Generator[SceneStarts | ChipRead, None, int]:
    """Yield the chips of a scene; returns how many were left out as empty."""
    read = 0
    with clock.time("read"):
        scene = open_scene(source, *bounds)
    with scene:
        yield SceneStarts(scene.info)
        for chip, image in _timed(read_chips(scene, grid, size_px), clock):
            read += 1
            yield ChipRead(chip, image)
        return sum(len(strip.xs) for strip in grid.strips(scene.info)) - read


def _timed(
    chips: Iterator[tuple[Chip, NDArray[np.uint8]]], clock: StageClock
) -> Iterator[tuple[Chip, NDArray[np.uint8]]]:
    while True:
        with clock.time("read"):
            item = next(chips, None)
        if item is None:
            return
        yield item


def _fingerprint_or_gone(uri: str, reach: Reach) -> str:
    try:
        return fingerprint(uri, reach)
    except SourceError:
        return "gone"


def encode_chips(
    events: Iterable[Mark | ChipRead], encoder: DualEncoder, clock: StageClock, batch: int = BATCH
) -> Generator[Mark | ChipsEncoded, None, None]:
    """Encode in full batches that may span scenes, so that small scenes do not starve the encoder; order is kept."""
    held: list[Mark | ChipRead] = []
    chips = 0
    for event in events:
        held.append(event)
        chips += isinstance(event, ChipRead)
        if chips in (0, batch):
            yield from _encode(held, encoder, clock)
            held, chips = [], 0
    yield from _encode(held, encoder, clock)


def _encode(held: list[Mark | ChipRead], encoder: DualEncoder, clock: StageClock) -> Iterator[Mark | ChipsEncoded]:
    images = [event.image for event in held if isinstance(event, ChipRead)]
    if not images:
        vectors = np.empty((0, encoder.card.dim), np.float32)
    else:
        with clock.time("encode"):
            vectors = encoder.encode_images(np.stack(images))  # [N, D]
    taken = 0
    for kind, run in groupby(held, key=type):
        if kind is ChipRead:
            chips = [event.chip for event in run if isinstance(event, ChipRead)]
            yield ChipsEncoded(chips, vectors[taken : taken + len(chips)])
            taken += len(chips)
        else:
            yield from (event for event in run if not isinstance(event, ChipRead))
