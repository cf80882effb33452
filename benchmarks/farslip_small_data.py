"""The training data of farslip_small.py: windows of real scenes with regions, decoded once into arrays.

    python benchmarks/farslip_small_data.py --data ../shared/data --work runs/farslip-small

NWPU VHR-10 train: windows around objects; regions are the objects' boxes. Dubai train and the New York maps: windows
anywhere; regions are squares that lie inside one class of the mask, because the box of a road says nothing about roads.
`objects`, made with --namer, are windows like those of VHR-10, with squares beside the objects as well, each named by a
tuned model with the best of a few plain words: without them nothing says that an empty apron is no airplane.
RSICD train: whole images with their captions, so that words do not drift. Every seventh image of VHR-10 train is held
out for choosing. Windows are turned and mirrored: seen from above there is no up.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoglot.data.regions import Region, RegionRecord, RegionSet, RegionSource, open_regions
from geoglot.data.samples import load_pixels, read_samples
from geoglot.data.segmentation import IGNORED, open_segmentation
from geoglot.errors import UnknownWordsError
from geoglot.models.encoder import DualEncoder
from geoglot.models.load import load_encoder
from geoglot.models.tokenizers.concepts import ConceptTokenizer

SIDE = 160  # of a stored window
SHARES = {"rsicd": 0.5, "vhr10": 0.2, "dubai": 0.2, "nymaps": 0.1}
VIT_SHARES = {"rsicd_all": 0.8, "vhr10": 0.08, "dubai": 0.08, "nymaps": 0.04}
WINDOWS = {"vhr10": 5, "dubai": 40, "dubai_fine": 80, "nymaps": 2, "objects": 6}
SIDES = {"dubai": (72, 320), "dubai_fine": (40, 160), "nymaps": (72, 320)}  # of windows of scenes with masks, in px
RSICD = 3000
SQUARES = (96, 64, 48, 32, 24)  # sides of regions inside a mask, in a stored window
PLAIN = (
    "water", "land", "road", "building", "vegetation", "grassland", "parking lot", "runway", "forest",
    "residential area",
)  # fmt: skip
PURE, SMALLEST_SHARE = 0.85, 0.03
Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Chip:
    """A window: pixels, what is said of it, and boxes in it with their categories."""

    pixels: Pixels
    captions: tuple[str, ...]
    regions: tuple[tuple[Box, str], ...]


@dataclass(frozen=True)
class Chips:
    """A set of regions over one array (region_pairs.RegionImages): what training reads."""

    name: str
    pixels: Pixels
    rows: list[dict[str, object]]
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, i: int) -> RegionRecord:
        row = self.rows[i]
        regions = tuple(Region(tuple(box), category) for box, category in row["regions"])  # type: ignore[attr-defined]
        said = tuple(row["captions"])  # type: ignore[arg-type]
        return RegionRecord(f"{self.name}/{i}", SIDE, SIDE, said, regions, self.name)

    def image(self, i: int) -> Pixels:
        return np.asarray(self.pixels[i])

    def fingerprint(self) -> str:
        return f"{zlib.crc32(json.dumps(self.rows).encode()):x}-{len(self.rows)}"


def load(work: Path, names: Sequence[str] = tuple(SHARES)) -> list[Chips]:
    """Prepared sets, pixels mapped from their files. "dubai_even" is "dubai" with as many regions of each class."""
    sets = []
    for name in names:
        stored = name.removesuffix("_even")
        pixels, rows = np.load(work / f"{stored}.npy", mmap_mode="r"), json.loads((work / f"{stored}.json").read_text())
        if name != stored:
            rows = even(rows)
            kept = [i for i, row in enumerate(rows) if row["regions"]]
            pixels, rows = pixels[kept], [rows[i] for i in kept]
        sets.append(Chips(name, pixels, rows))
    return sets


def even(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same windows with regions left out at random, so that no class has many more than the rarest."""
    counts = Counter(category for row in rows for _, category in row["regions"])
    rng, most = np.random.default_rng(4), 1.2 * min(counts.values())
    return [row | {"regions": [r for r in row["regions"] if rng.random() < most / counts[r[1]]]} for row in rows]


def prepare(data: Path, work: Path, model: Path, namer: Path | None) -> None:
    """Write every set that is not there yet. Minutes, most of it decoding."""
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = ConceptTokenizer.load(model / "tokenizer.json")
    makers = {"rsicd": rsicd(data, tokenizer), "vhr10": vhr10(data), "dubai": masks(data, "dubai")}
    makers |= {"dubai_fine": masks(data, "dubai", "dubai_fine")}
    makers |= {"nymaps": masks(data, "nymaps"), "rsicd_all": rsicd(data, tokenizer, None)}
    if namer:
        makers["objects"] = objects(data, load_encoder(str(namer), runtime="torch", threads=1))
    for name, maker in makers.items():
        if (work / f"{name}.json").is_file():
            continue
        chips = list(maker)
        np.save(work / f"{name}.npy", np.stack([chip.pixels for chip in chips]))
        rows = [{"captions": chip.captions, "regions": chip.regions} for chip in chips]
        (work / f"{name}.json").write_text(json.dumps(rows))
        print(f"{name}: {len(chips)} windows, {sum(len(chip.regions) for chip in chips)} regions", flush=True)


def rsicd(data: Path, tokenizer: ConceptTokenizer, most: int | None = RSICD) -> Iterator[Chip]:
    """Whole images; captions of which no word is known are left out."""
    samples = read_samples(data / "rsicd" / "captions.jsonl", "train")
    order = np.random.default_rng(0).permutation(len(samples))[:most]
    chosen = [samples[i] for i in order]
    for sample, pixels in zip(chosen, load_pixels(chosen, SIDE), strict=True):
        said = tuple(caption for caption in sample.captions if _known(caption, tokenizer))
        if said:
            yield Chip(pixels, said, ())


def _known(text: str, tokenizer: ConceptTokenizer) -> bool:
    try:
        tokenizer.known(text)
    except UnknownWordsError:
        return False
    return True


def vhr10_parts(data: Path) -> tuple[RegionSet, list[int], list[int]]:
    """VHR-10 train, images to train on, images to choose on."""
    whole = open_regions(RegionSource("vhr10", "coco", split="train"), data)
    held_out = list(range(0, len(whole), 7))
    return whole, [i for i in range(len(whole)) if i % 7], held_out


def vhr10(data: Path) -> Iterator[Chip]:
    """Windows around objects, one and a half to four times as long as the object."""
    whole, train, _ = vhr10_parts(data)
    rng = np.random.default_rng(1)
    for i in train:
        regions, image = whole.record(i).regions, whole.image(i)
        for at in rng.permutation(len(regions))[: WINDOWS["vhr10"]]:
            window = _around(regions[at].box_px, image.shape[:2], rng)
            seen = [(box, region.category) for region in regions if (box := _inside(region.box_px, window))]
            pixels, boxes = turned(_resized(image, window), [box for box, _ in seen], int(rng.integers(8)))
            names = [name for _, name in seen]
            yield Chip(pixels, (said(names),), tuple(zip(boxes, names, strict=True)))


def objects(data: Path, encoder: DualEncoder) -> Iterator[Chip]:
    """Windows around objects and, one in four, anywhere; regions are the objects and up to four squares beside them."""
    whole, train, _ = vhr10_parts(data)
    rng = np.random.default_rng(3)
    namer = Namer(encoder)
    for i in train:
        regions, image = whole.record(i).regions, whole.image(i)
        for _ in range(WINDOWS["objects"]):
            at = regions[int(rng.integers(len(regions)))].box_px if regions and rng.random() < 0.75 else None
            window = _around(at, image.shape[:2], rng) if at else _anywhere(image.shape[:2], rng)
            marked = [(_moved(region.box_px, window), region.category) for region in regions]
            seen = [(box, name) for (box, name), r in zip(marked, regions, strict=True) if _inside(r.box_px, window)]
            seen = [(_cut(box), name) for box, name in seen]
            pixels = _resized(image, window)
            beside = _beside([box for box, _ in marked], rng)
            named = seen + list(zip(beside, namer.names(pixels, beside), strict=True))
            if named:
                pixels, boxes = turned(pixels, [box for box, _ in named], int(rng.integers(8)))
                names = [name for _, name in named]
                about = [name for _, name in seen] or names
                yield Chip(pixels, (said(about),), tuple(zip(boxes, names, strict=True)))


@dataclass
class Namer:
    """Names squares by plain words."""

    encoder: DualEncoder

    def __post_init__(self) -> None:
        self.vectors = self.encoder.encode_texts(list(PLAIN))

    def names(self, pixels: Pixels, boxes: Sequence[Box]) -> list[str]:
        if not boxes:
            return []
        side = self.encoder.card.image_px
        image = Image.fromarray(pixels)
        seen = np.stack([np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box)) for box in boxes])
        return [PLAIN[at] for at in (self.encoder.encode_images(seen) @ self.vectors.T).argmax(1)]


def _anywhere(size: tuple[int, ...], rng: np.random.Generator) -> Box:
    side = rng.uniform(80, min(280, *size[:2]))
    left, top = rng.uniform(0, size[1] - side), rng.uniform(0, size[0] - side)
    return left, top, left + side, top + side


def _moved(box: Box, window: Box) -> Box:
    scale, left, top = SIDE / (window[2] - window[0]), window[0], window[1]
    return (box[0] - left) * scale, (box[1] - top) * scale, (box[2] - left) * scale, (box[3] - top) * scale


def _cut(box: Box) -> Box:
    return max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(SIDE)), min(box[3], float(SIDE))


def _beside(taken: Sequence[Box], rng: np.random.Generator, most: int = 4) -> list[Box]:
    """Squares of a stored window that touch no object."""
    found: list[Box] = []
    for _ in range(4 * most):
        side = float(rng.uniform(28, 72))
        x, y = rng.uniform(0, SIDE - side, 2).tolist()
        apart = all(x >= b[2] or y >= b[3] or x + side <= b[0] or y + side <= b[1] for b in taken)
        if apart and len(found) < most:
            found.append((x, y, x + side, y + side))
    return found


def _around(box: Box, size: tuple[int, ...], rng: np.random.Generator) -> Box:
    height, width = size[:2]
    longer = max(box[2] - box[0], box[3] - box[1])
    side = min(max(longer * rng.uniform(1.5, 4), 56), height, width)
    left = rng.uniform(max(0, box[2] - side), min(box[0], width - side)) if longer < side else box[0]
    top = rng.uniform(max(0, box[3] - side), min(box[1], height - side)) if longer < side else box[1]
    left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    return left, top, left + side, top + side


def _inside(box: Box, window: Box) -> Box | None:
    """The box in a stored window's pixels; None where less than seven tenths of it are seen."""
    x0, y0, x1, y1 = max(box[0], window[0]), max(box[1], window[1]), min(box[2], window[2]), min(box[3], window[3])
    seen = max(0.0, x1 - x0) * max(0.0, y1 - y0)
    if seen < 0.7 * (box[2] - box[0]) * (box[3] - box[1]):
        return None
    scale = SIDE / (window[2] - window[0])
    return (x0 - window[0]) * scale, (y0 - window[1]) * scale, (x1 - window[0]) * scale, (y1 - window[1]) * scale


def masks(data: Path, name: str, sizes: str = "") -> Iterator[Chip]:
    """Windows of scenes with dense masks, as many and as long as `sizes` (by default the set's own) says."""
    sizes = sizes or name
    scenes = open_segmentation(name, data / name, "train")
    words = [synonyms[0] for synonyms in scenes.classes]
    vague = {words.index("land")} if name == "nymaps" else set()  # on a street map it is all that has no name
    rng = np.random.default_rng(2)
    for i in range(len(scenes)):
        image, mask = scenes.image(i), scenes.mask(i)
        shortest = min(mask.shape)
        for _ in range(WINDOWS[sizes]):
            side = math.exp(rng.uniform(*(math.log(min(px, shortest)) for px in SIDES[sizes])))
            left, top = rng.uniform(0, mask.shape[1] - side), rng.uniform(0, mask.shape[0] - side)
            window = (left, top, left + side, top + side)
            labels = np.asarray(Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.NEAREST, box=window))
            shares = {c: float((labels == c).mean()) for c in np.unique(labels).tolist() if c not in {IGNORED, *vague}}
            most = sorted((c for c in shares if shares[c] > 0.1), key=lambda c: -shares[c])
            if not most:
                continue
            found = [(box, c) for c in shares if shares[c] > SMALLEST_SHARE for box in squares(labels == c, rng)]
            pixels, boxes = turned(_resized(image, window), [box for box, _ in found], int(rng.integers(8)))
            regions = tuple((box, words[c]) for box, (_, c) in zip(boxes, found, strict=True))
            yield Chip(pixels, (said([words[c] for c in most]),), regions)


def squares(there: NDArray[np.bool_], rng: np.random.Generator, most: int = 2) -> list[Box]:
    """Up to `most` squares that lie nearly whole inside a mask [S, S], the largest sizes first."""
    sums = np.pad(there.astype(np.int32).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    found: list[Box] = []
    for side in SQUARES:
        inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        places = np.argwhere(inside >= PURE * side * side)
        if len(places) and len(found) < most:
            y, x = places[rng.integers(len(places))].tolist()
            found.append((float(x), float(y), float(x + side), float(y + side)))
    return found


def turned(pixels: Pixels, boxes: Sequence[Box], way: int) -> tuple[Pixels, list[Box]]:
    """One of the eight ways to lay a square down: mirrored (1, 2), rows and columns exchanged (4)."""
    if way & 1:
        pixels, boxes = pixels[:, ::-1], [(SIDE - x1, y0, SIDE - x0, y1) for x0, y0, x1, y1 in boxes]
    if way & 2:
        pixels, boxes = pixels[::-1], [(x0, SIDE - y1, x1, SIDE - y0) for x0, y0, x1, y1 in boxes]
    if way & 4:
        pixels, boxes = pixels.transpose(1, 0, 2), [(y0, x0, y1, x1) for x0, y0, x1, y1 in boxes]
    return np.ascontiguousarray(pixels), list(boxes)


def _resized(image: Pixels, window: Box) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=window))


def said(names: Sequence[str]) -> str:
    """A caption out of categories."""
    names = list(dict.fromkeys(names))
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"a satellite image of {listed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model that training begins with")
    parser.add_argument("--namer", type=Path, help="folder of a tuned model that names what lies beside objects")
    args = parser.parse_args()
    prepare(args.data, args.work, args.model, args.namer)


if __name__ == "__main__":
    main()
