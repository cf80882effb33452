"""Chips of all training sources, decoded once and kept in memory, with what is known of each: captions, class, regions.

Every chip is a square of 8-bit RGB. What lies where is a coarse grid of numbers: 0 for unknown, k + 1 for the k-th of
the source's classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoglot.data.decode import Prepared, choose
from geoglot.data.pairs import Pair, identity
from geoglot.data.regions import RegionSource, open_regions
from geoglot.data.samples import Sample, load_pixels
from geoglot.data.segmentation import SegmentationSet
from geoglot.data.segmentation.sets import IGNORED
from geoglot.errors import SourceError
from geoglot.models.tokenizers.concepts import ConceptTokenizer
from geoglot.training.recipes.pair.sentences import Vocabulary

SIDE_PX, GRID = 160, 40
"""Sides of a chip and of its grid of regions."""

Classes = Mapping[str, Sequence[str]]
"""Class of a source -> concepts of the glossary, the first of which is the class itself."""
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Chip(Pair):
    """A chip as a pair whose image is decoded already.

    Attributes:
        pixels: uint8 [S, S, 3].
        source: Number of the set.
        label: Concept of its class; -1 for none.
        shows: All concepts that it is known to show.
        regions: uint8 [GRID, GRID].
    """

    pixels: Pixels
    source: int
    label: int
    shows: tuple[int, ...]
    regions: Pixels


@dataclass(slots=True)
class ChipSet:
    """A source as a `PairSet`.

    Attributes:
        pixels: uint8 [N, S, S, 3], any S.
        captions: Of each chip; may be empty.
        labels: int64 [N], as `Chip.label`.
        shows: Of each chip.
        classes: Concepts of the numbers in `regions`, or of the classes.
        regions: uint8 [N, GRID, GRID]; None where nothing is known.
        source: Number of the set.
    """

    name: str
    pixels: Pixels
    captions: list[tuple[str, ...]]
    labels: NDArray[np.int64]
    shows: list[tuple[int, ...]]
    classes: tuple[int, ...]
    regions: Pixels | None = None
    source: int = 0
    skipped: Sequence[tuple[str, str]] = ()
    image_ids: NDArray[np.int64] = field(init=False)
    blocks: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.image_ids = np.array([identity(f"{self.name}/{at}") for at in range(len(self))], np.int64)
        self.blocks = np.array([0, len(self)])

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, record: int) -> Chip:
        regions = np.zeros((GRID, GRID), np.uint8) if self.regions is None else self.regions[record]
        captions, label = self.captions[record], int(self.labels[record])
        name = f"{self.name}/{record}"
        return Chip(name, b"", captions, self.pixels[record], self.source, label, self.shows[record], regions)

    def fingerprint(self) -> str:
        facts = repr((self.captions, self.labels.tolist(), self.shows, self.classes)).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(facts + self.pixels[:: max(1, len(self) // 64)].tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class PrepareChip:
    """A chip to pixels and K texts: some captions, the rest sentences about concepts that it shows.

    Attributes:
        vocabulary: How concepts are said.
        rarity: float64 [C]: how readily a concept is named.
        texts: K.
        foreign: Share of sentences in other languages.
        captions: At most so many of the texts are captions.
    """

    vocabulary: Vocabulary
    rarity: NDArray[np.float64]
    texts: int
    foreign: float
    captions: int = 2

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Prepared:
        """All chance comes from `rng`."""
        if not isinstance(pair, Chip):
            raise TypeError("this preparation is for chips")
        captions = choose(pair.captions, min(self.texts - 1, self.captions), rng) if pair.captions else ()
        named = [self._concept(pair, rng) for _ in range(self.texts - len(captions))]
        said = tuple(self.vocabulary.wordings[concept].draw(rng, self.foreign) for concept in named)
        shows = np.zeros(len(self.vocabulary.ids), np.bool_)
        shows[list(pair.shows)] = True
        extras: dict[str, NDArray[Any]] = {
            "shows": shows,
            "names": np.array([-1] * len(captions) + named),
            "label": np.array(pair.label),
            "source": np.array(pair.source),
            "regions": pair.regions,
        }
        return Prepared(_enlarged(pair.pixels), captions + said, extras)

    def _concept(self, chip: Chip, rng: np.random.Generator) -> int:
        """The class half of the time, else any that it shows, the rarer the likelier."""
        if chip.label >= 0 and (rng.random() < 0.5 or len(chip.shows) < 2):
            return chip.label
        weight = self.rarity[list(chip.shows)]
        return int(rng.choice(chip.shows, p=weight / weight.sum()))


def _enlarged(pixels: Pixels) -> Pixels:
    if len(pixels) == SIDE_PX:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def captioned(name: str, samples: Sequence[Sample], side_px: int, classes: Classes, vocabulary: Vocabulary) -> ChipSet:
    """RSICD and EuroSAT: whole images with captions, a class, or both. What captions mention is shown, too."""
    tokenizer = ConceptTokenizer.from_glossary()
    labels, shows = list[int](), list[tuple[int, ...]]()
    for sample in samples:
        own = [vocabulary.number(concept) for concept in classes.get(sample.label or "", ())]
        labels.append(own[0] if own else -1)
        shows.append(tuple(sorted({*own, *vocabulary.mentioned(sample.captions, tokenizer)})))
    keep = [at for at, known in enumerate(shows) if known]
    pixels = load_pixels([samples[at] for at in keep], side_px)
    numbers = tuple(sorted({labels[at] for at in keep} - {-1}))
    captions = [samples[at].captions for at in keep]
    return ChipSet(name, pixels, captions, np.array([labels[at] for at in keep]), [shows[at] for at in keep], numbers)


def boxed(folder: Path, classes: Classes, vocabulary: Vocabulary, seed: int, *, split: str = "train") -> ChipSet:
    """VHR-10: windows around objects and whole images, from the object filling it to a twelfth of it."""
    found = open_regions(RegionSource(str(folder), "coco", split))
    numbers = {category: vocabulary.number(concepts[0]) for category, concepts in classes.items()}
    order = tuple(dict.fromkeys(numbers.values()))
    rng = np.random.default_rng(seed)
    chips, labels, shows, grids = list[Pixels](), list[int](), list[tuple[int, ...]](), list[Pixels]()
    for at, record in enumerate(found.records):
        if not record.regions:
            continue
        image = Image.fromarray(found.image(at))
        boxes = [(region.box_px, numbers[region.category]) for region in record.regions]
        whole = (0.0, 0.0, *map(float, image.size))
        for box, concept in [*boxes, (whole, -1)]:
            window = _window(box, image.size, rng) if concept >= 0 else _square(image.size, rng)
            grid = _grid_of(boxes, window, order)
            there = tuple(order[k - 1] for k in np.unique(grid) if k)
            if not there:
                continue
            chips.append(_cut(image, window))
            labels.append(concept if concept >= 0 and (window[2] - window[0]) < 2 * max(_sides(box)) else -1)
            shows.append(tuple(sorted({*there, *([concept] if concept >= 0 else [])})))
            grids.append(grid)
    if not chips:
        raise SourceError(f"{folder} has no objects of {split!r}")
    return ChipSet("vhr10", np.stack(chips), [()] * len(chips), np.array(labels), shows, order, np.stack(grids))


def _sides(box: Sequence[float]) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def _window(box: Sequence[float], size: tuple[int, int], rng: np.random.Generator) -> tuple[float, ...]:
    """A square of 1.2 to 8 times the box's longer side, moved inside the image, with the box inside where it fits."""
    longer = max(_sides(box))
    side = min(max(longer * math.exp(rng.uniform(math.log(1.2), math.log(8.0))), 40.0), *size)
    room = max(0.0, side - longer) / 2
    left = (box[0] + box[2] - side) / 2 + rng.uniform(-room, room)
    top = (box[1] + box[3] - side) / 2 + rng.uniform(-room, room)
    left, top = float(np.clip(left, 0, size[0] - side)), float(np.clip(top, 0, size[1] - side))
    return left, top, left + side, top + side


def _square(size: tuple[int, int], rng: np.random.Generator) -> tuple[float, ...]:
    side = min(size)
    left, top = rng.uniform(0, size[0] - side), rng.uniform(0, size[1] - side)
    return left, top, left + side, top + side


def _cut(image: Image.Image, window: tuple[float, ...]) -> Pixels:
    left, top, right, bottom = window
    resized = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    return np.asarray(resized)


def _grid_of(boxes: Sequence[tuple[Sequence[float], int]], window: tuple[float, ...], order: tuple[int, ...]) -> Pixels:
    """Boxes inside a window as a grid; larger ones first, so that a ship in a harbor stays a ship."""
    grid = np.zeros((GRID, GRID), np.uint8)
    scale = GRID / (window[2] - window[0])
    for box, concept in sorted(boxes, key=lambda one: -math.prod(_sides(one[0]))):
        x0, y0, x1, y1 = (round((value - window[at % 2]) * scale) for at, value in enumerate(box))
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, GRID), min(y1, GRID)
        if x1 > x0 and y1 > y0:
            grid[y0:y1, x0:x1] = order.index(concept) + 1
    return grid


def masked(
    name: str,
    scenes: SegmentationSet,
    classes: Classes,
    vocabulary: Vocabulary,
    seed: int,
    *,
    per_scene: int,
    sides_px: tuple[int, int],
) -> ChipSet:
    """Squares of scenes with a class for each pixel.

    Args:
        name: Of the source.
        scenes: Images and masks.
        classes: Concepts of their classes.
        vocabulary: Numbers of concepts.
        seed: Of places and sizes.
        per_scene: Squares of each scene.
        sides_px: Least and most side, in pixels of the scene.
    """
    numbers = [vocabulary.number(classes[words[0]][0]) if words[0] in classes else -1 for words in scenes.classes]
    order = tuple(dict.fromkeys(number for number in numbers if number >= 0))
    table = np.zeros(256, np.uint8)
    for at, number in enumerate(numbers):
        if number >= 0 and at != IGNORED:
            table[at] = order.index(number) + 1
    rng = np.random.default_rng(seed)
    chips, labels, shows, grids = list[Pixels](), list[int](), list[tuple[int, ...]](), list[Pixels]()
    for at in range(len(scenes)):
        image, mask = Image.fromarray(scenes.image(at)), Image.fromarray(table[scenes.mask(at)])
        for _ in range(per_scene):
            side = min(math.exp(rng.uniform(*np.log(sides_px))), *image.size)
            left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
            window = (left, top, left + side, top + side)
            grid = np.asarray(mask.resize((GRID, GRID), Image.Resampling.NEAREST, box=window))
            share = np.bincount(grid.ravel(), minlength=len(order) + 1)[1:] / grid.size
            there = tuple(order[k] for k in np.flatnonzero(share > 0.15))
            if there:
                chips.append(_cut(image, window))
                labels.append(order[int(share.argmax())] if share.max() > 0.8 else -1)
                shows.append(there)
                grids.append(grid)
    if not chips:
        raise SourceError(f"no square of {scenes.source} shows a class")
    return ChipSet(name, np.stack(chips), [()] * len(chips), np.array(labels), shows, order, np.stack(grids))


def drawn(vocabulary: Vocabulary, per_kind: int, seed: int, cache: Path) -> ChipSet:
    """Chips of the drawn country, with captions in ten languages; drawn once a run folder."""
    file = cache / f"drawn-{seed}-{per_kind}.npz"
    if not file.is_file():
        _draw(file, per_kind, seed)
    with np.load(file) as stored:
        pixels, rows = stored["pixels"], json.loads(str(stored["rows"]))
    labels, shows = list[int](), list[tuple[int, ...]]()
    for kind, names, _ in rows:
        labels.append(vocabulary.ids.index(kind) if kind in vocabulary.ids else -1)
        shows.append(tuple(sorted({vocabulary.ids.index(one) for one in (*names, kind) if one in vocabulary.ids})))
    keep = [at for at, known in enumerate(shows) if known]
    captions = [tuple(rows[at][2]) for at in keep]
    numbers = tuple(sorted({labels[at] for at in keep} - {-1}))
    return ChipSet(
        "drawn", pixels[keep], captions, np.array([labels[at] for at in keep]), [shows[at] for at in keep], numbers
    )


def _draw(file: Path, per_kind: int, seed: int) -> None:
    """Write chips, and of each its kind, concepts, and two captions, one of them in any language."""
    from geoglot.data.drawn import KINDS, draw_sample

    rng = np.random.default_rng(seed)
    chips, rows = list[Pixels](), list[tuple[str, list[str], list[str]]]()
    for kind in KINDS:
        for index in range(per_kind):
            sample = draw_sample(kind, seed * 1_000_003 + index, SIDE_PX)
            languages = ["en", list(sample.captions)[rng.integers(len(sample.captions))]]
            said = [sample.captions[code][rng.integers(len(sample.captions[code]))] for code in languages]
            chips.append(sample.rgb)
            rows.append((("car" if kind == "cars" else kind), list(sample.labels), said))
    np.savez(file, pixels=np.stack(chips), rows=np.array(json.dumps(rows)))
