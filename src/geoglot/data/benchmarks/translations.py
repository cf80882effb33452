"""Captions of a retrieval set in other languages: `<data>/translations/<set>.<language>.jsonl`.

One object a line, `image` (file name) and `captions`, as many and in the same order as the set has for that image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geoglot.data.samples import Sample
from geoglot.errors import SourceError


def read_translations(name: str, root: Path, samples: Sequence[Sample]) -> dict[str, tuple[Sample, ...]]:
    """Language -> the samples in it; English is the set itself.

    Args:
        name: Of the set.
        root: The data folder.
        samples: The set.

    Raises:
        SourceError: There is no translation, a line is damaged, or captions are missing for an image.
    """
    files = sorted((root / "translations").glob(f"{name}.*.jsonl"))
    if not files:
        raise SourceError(
            f"no translated captions of {name!r} in {root / 'translations'}",
            hint=f'Put {name}.<language>.jsonl there, one {{"image": …, "captions": […]}} a line.',
        )
    return {"en": tuple(samples)} | {file.name.split(".")[-2]: _translated(file, samples) for file in files}


def _translated(file: Path, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    said: dict[str, tuple[str, ...]] = {}
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                said[Path(row["image"]).name] = tuple(str(caption).strip() for caption in row["captions"])
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(f"{file}:{number} is not a translated sample: {error!r}") from error
    for sample in samples:
        found = said.get(sample.image.name, ())
        if len(found) != len(sample.captions) or not all(found):
            raise SourceError(
                f"{file} has {len(found)} captions for {sample.image.name}, the set has {len(sample.captions)}",
                hint="Translate every caption, in the set's order; repeat the English one where there is no other.",
            )
    return tuple(replace(sample, captions=said[sample.image.name]) for sample in samples)
