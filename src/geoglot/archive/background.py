"""What ordinary words score on an archive: measured once for each of its states, and kept beside the snapshot."""

from __future__ import annotations

import hashlib
import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from geoglot.archive.snapshot import Snapshot
from geoglot.errors import StorageError
from geoglot.files import write_atomically
from geoglot.models.card import Card
from geoglot.models.encoder import DualEncoder, Vectors, background_prompts
from geoglot.scoring.calibration import SAMPLE, SEED, Scorer, sample_rows
from geoglot.types import Calibration


def load_scorer(snapshot: Snapshot, encoder: DualEncoder | None) -> Scorer:
    """The scorer of an archive's state: from its cache beside the snapshot, or measured (0.1 s) and kept there.

    Without an encoder (chips as queries) there are no prompts' vectors, and the plain cosines' sample stands in.
    """
    if encoder is None:
        none = np.empty((0, snapshot.arrays.vectors.shape[1]), np.float32)
        return Scorer.measured(_sample(snapshot), none, Calibration())
    calibration = encoder.card.calibration
    path = _cache_file(snapshot, encoder.card)
    if path is not None and (cached := _read(path, calibration)) is not None:
        return cached
    scorer = Scorer.measured(_sample(snapshot), background_prompts(encoder), calibration)
    if path is not None:
        with suppress(StorageError):  # a read-only archive: the next process measures again, with the same result
            write_atomically(path, _packed(scorer))
    return scorer


def _sample(snapshot: Snapshot) -> Vectors:
    return np.asarray(snapshot.arrays.vectors[sample_rows(len(snapshot))])


def _cache_file(snapshot: Snapshot, card: Card) -> Path | None:
    if snapshot.folder is None:
        return None
    how = (card.calibration.temperature, card.calibration.alike, SAMPLE, SEED)
    parts = [card.fingerprint, repr(how), *card.background]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return snapshot.folder / f"background-{key}.npz"


def _packed(scorer: Scorer) -> bytes:
    stream = io.BytesIO()
    moments = np.array([scorer.mean, scorer.std])
    np.savez(stream, vectors=scorer.prompts, moments=moments, sample=scorer.sample)
    return stream.getvalue()


def _read(path: Path, calibration: Calibration) -> Scorer | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, std = file["moments"].tolist()
            return Scorer(file["vectors"], calibration, mean, std, file["sample"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # absent or cut short: measured again
