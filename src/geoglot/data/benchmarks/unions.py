"""RET-2 and RET-3: train splits joined, without the images that a test split of a part also shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geoglot.data.benchmarks.schema import Benchmark, Entry, Place
from geoglot.data.phash import hash_files, look_alikes


def read_union(entry: Entry, place: Place, read: Callable[[str, str], Benchmark]) -> Benchmark:
    """Join the parts' train splits; hashes every image of train and test, about a millisecond each.

    Args:
        entry: The union's description.
        place: Names the parts.
        read: Set and split -> the set; raises SourceError when it is not there.
    """
    train = [read(name, "train") for name in place.parts]
    test = [read(name, "test") for name in place.parts]
    samples = [sample for part in train for sample in part.samples]
    leaks = look_alikes(
        hash_files([sample.image for sample in samples]),
        hash_files([sample.image for part in test for sample in part.samples]),
    )
    kept = tuple(sample for sample, leak in zip(samples, leaks, strict=True) if not leak)
    notes = [note for part in (*train, *test) for note in part.notes]
    notes.append(f"{int(np.count_nonzero(leaks)):,} of {len(samples):,} images left out: they look like a test image")
    return Benchmark(entry, kept, (), None, "train", " + ".join(part.source for part in train), tuple(notes))
