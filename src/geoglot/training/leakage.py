"""Before training: are test images among the training images? Looks at pixels, perceptual hashes and embeddings."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geoglot.data.decode import Prepare, open_picture
from geoglot.data.leakage import COSINE, Leak, Look, find_leaks, find_near, look
from geoglot.data.pairs import FilePairs, PairSet
from geoglot.data.sources import DataSource, open_source
from geoglot.data.tables import SUFFIXES
from geoglot.errors import SampleError, SourceError
from geoglot.training.objective import Contrastive

log = logging.getLogger("geoglot.leakage")

NAMED = 20
"""Leaks named in the log; the file has all."""

BLOCK = 256


def open_pictures(source: DataSource, base: Path) -> PairSet:
    """The images of a test set: a source of pairs, or any folder of images, captions or not.

    Raises:
        SourceError: No image is there.
    """
    folder = base / source.path
    if not folder.is_dir() or any(folder.glob("*.tar")):
        return open_source(source, base)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise SourceError(f"no image in {folder}", hint="Check the leakage sources of the config.")
    return FilePairs(source.path, paths, [("",)] * len(paths))


def check_leakage(
    train: Sequence[PairSet],
    test: Sequence[PairSet],
    out: Path,
    *,
    model: Contrastive | None = None,
    threads: int = 2,
    cosine: float = COSINE,
) -> list[Leak]:
    """Look for test images in the training data; warn with names; write `leaks.tsv`.

    Decodes every image once: some hundred a second and thread. With a model every image also goes through its tower.

    Args:
        train, test: Image sets.
        out: Folder of `leaks.tsv`.
        model: Whose embeddings to compare; None: pixels and perceptual hashes only.
        threads: That decode.
        cosine: Of embeddings that count as the same picture.
    """
    looks = [one for data in test for one in looks_of(data, threads)]
    found = find_leaks(chain.from_iterable(looks_of(data, threads) for data in train), looks)
    if model is not None:
        found += _near(train, test, model, cosine, {(leak.train, leak.test) for leak in found})
    rows = [f"{leak.train}\t{leak.test}\t{leak.by}\t{leak.value:g}\n" for leak in found]
    out.mkdir(parents=True, exist_ok=True)
    (out / "leaks.tsv").write_text("".join(["train\ttest\tby\tvalue\n", *rows]), "utf-8", "backslashreplace")
    _warn(found, out / "leaks.tsv")
    return found


def looks_of(data: PairSet, threads: int = 2) -> Iterator[Look]:
    """The fingerprint of each image; corrupt ones are left out, as training leaves them out."""

    def one(record: int) -> Look | None:
        try:
            pair = data.read(record)
            with open_picture(pair.image, pair.name) as picture:
                return look(pair.name, picture)
        except (SampleError, OSError, ValueError) as error:
            log.debug("not compared: %s", error)
            return None

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(data), BLOCK):
            yield from (seen for seen in pool.map(one, range(start, min(len(data), start + BLOCK))) if seen)


def _near(
    train: Sequence[PairSet],
    test: Sequence[PairSet],
    model: Contrastive,
    cosine: float,
    known: set[tuple[str, str]],
) -> list[Leak]:
    blocks = [block for data in test for block in embeddings(data, model)]
    names, vectors = [n for block, _ in blocks for n in block], np.concatenate([v for _, v in blocks])
    found = []
    for block, mine in chain.from_iterable(embeddings(data, model) for data in train):
        found += find_near(mine, vectors, block, names, cosine)
    return [leak for leak in found if (leak.train, leak.test) not in known]


@torch.no_grad()
def embeddings(data: PairSet, model: Contrastive) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """(names, unit vectors [b, D]) of all images, block by block, without augmentation."""
    prepare, rng = Prepare(model.side_px), np.random.default_rng(0)
    device, was = next(model.parameters()).device, model.training
    model.eval()
    for start in range(0, len(data), BLOCK):
        names, images = [], []
        for record in range(start, min(len(data), start + BLOCK)):
            try:
                pair = data.read(record)
                images.append(prepare(pair, rng).image)
                names.append(pair.name)
            except SampleError as error:
                log.debug("not compared: %s", error)
        if images:
            yield names, model.image_rows(torch.from_numpy(np.stack(images)).to(device)).cpu().numpy()
    model.train(was)


def _warn(found: Sequence[Leak], file: Path) -> None:
    if not found:
        log.info("no test image was found among the training images")
        return
    ways = ", ".join(f"{count} by {way}" for way, count in Counter(leak.by for leak in found).items())
    tests = len({leak.test for leak in found})
    log.warning("%d test images are among the training images (%s); all are listed in %s", tests, ways, file)
    for leak in found[:NAMED]:
        log.warning("  %s  is  %s  (%s %g)", leak.train, leak.test, leak.by, leak.value)
