"""The protocol `selo/air-slt`: sentences with marked regions in scenes, scored by the four metrics of selo.py.

A scene's windows are encoded once for all of its sentences. `strict` is the published protocol; `fast` reads windows as
`geoglot localize` does, takes the mean as it is, and is named apart, because its maps are not smoothed by the median.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from geoglot.data.benchmarks.schema import Benchmark
from geoglot.data.samples import decode
from geoglot.evaluation.embeddings import encode_known
from geoglot.evaluation.metrics import bootstraps
from geoglot.evaluation.number import Number
from geoglot.evaluation.selo import RELEASED, Constants, selo_scores
from geoglot.imagery.multiscale import SIDES_PX, ScaleGrid, fitting_sides
from geoglot.imagery.scene import open_scene
from geoglot.models.encoder import DualEncoder
from geoglot.tasks.localize.maps import Seen, cover_of, see, see_strictly, stretched, strict_probability

Mode = Literal["strict", "fast"]
METRICS = ("Rsu", "Ras", "Rda", "Rmi")
UNSEEN = 1e-9
"""Every window counts that has a valid pixel."""


def localization(
    encoder: DualEncoder,
    data: Benchmark,
    mode: Mode,
    *,
    seed: int = 0,
    constants: Constants = RELEASED,
    told: Callable[[int, int], None] | None = None,
) -> list[Number]:
    """The mean of each metric over the sentences, in percent; Ras is better when lower.

    Memory: the largest scene in full resolution, about 24 bytes a pixel. Cost: the encoder on some 1,100 windows for 25
    megapixels; then per sentence a few passes over the pixels, and in strict mode one for each grey level.

    Args:
        encoder: The model.
        data: With polygons.
        mode: See above.
        seed: Of the bootstrap over sentences.
        constants: Of the metrics.
        told: Called with sentences done and in all.
    """
    texts = encode_known(encoder, [sample.captions[0] for sample in data.samples])
    scores = np.zeros((len(data.samples), len(METRICS)))
    notes, done = [f"mode {mode}"], 0
    for path in dict.fromkeys(sample.image for sample in data.samples):
        seen, (height, width), clamped = _see(path, encoder, mode)
        notes += [clamped] if clamped else []
        cover = cover_of(seen, width, height, 1)
        for at in (i for i, sample in enumerate(data.samples) if sample.image == path):
            mean = cover.mean(seen.vectors @ texts[at])
            p = strict_probability(mean) if mode == "strict" else np.nan_to_num(stretched(mean))
            found = selo_scores(p, (data.polygons or ())[at], constants)
            scores[at] = [100 * value for value in (found.rsu, found.ras, found.rda, found.rmi)]
            done += 1
            if told:
                told(done, len(data.samples))
    unknown = int((~texts.any(1)).sum())
    notes += [f"{unknown} sentences of which the model knows no word: their maps are constant"] if unknown else []
    intervals = bootstraps(lambda rows: scores[rows].mean(0), len(scores), seed=seed)
    protocol = "selo/air-slt" if mode == "strict" else "selo/air-slt-fast"
    return [
        Number(protocol, metric, float(value), interval, len(scores), texts=len(scores), notes=tuple(notes))
        for metric, value, interval in zip(METRICS, scores.mean(0), intervals, strict=True)
    ]


def _see(path: Path, encoder: DualEncoder, mode: Mode) -> tuple[Seen, tuple[int, int], str]:
    """What the model says of a scene's windows; height and width; a sentence when sides were clamped."""
    if mode == "strict":
        image = np.asarray(decode(path))
        height, width = image.shape[:2]
        seen = see_strictly(image, encoder, SIDES_PX)
    else:
        with open_scene(path) as scene:
            height, width = scene.info.height, scene.info.width
            seen = see(scene, encoder, ScaleGrid(SIDES_PX, min_valid=UNSEEN))
    sides = fitting_sides(width, height, SIDES_PX)
    return seen, (height, width), "" if sides == SIDES_PX else f"{path.name}: windows clamped to {list(sides)} px"
