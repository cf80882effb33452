"""The journal of a run: one JSON line every few steps, TensorBoard's files if wanted, and a report of progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from geoglot.errors import MissingExtraError, StorageError


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        step, steps: Optimiser steps done, of how many.
        epoch: Passes over the data so far.
        loss: Of the last step.
        samples_per_s: Since the last report.
        wait_share: Share of that time spent waiting for data.
    """

    step: int
    steps: int
    epoch: float
    loss: float
    samples_per_s: float
    wait_share: float


OnProgress = Callable[[Progress], None]


class _Writer(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object: ...
    def close(self) -> object: ...


class Journal:
    """`log.jsonl` in the run folder; on the leading process only.

    Args:
        folder: The run's.
        step: Steps done before; lines after them come from an interrupted run and are taken out.
        tensorboard: Also write its files, to `tensorboard/`.

    Raises:
        MissingExtraError: TensorBoard is wanted and not installed.
        StorageError: The log cannot be written.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        self._file = folder / "log.jsonl"
        try:
            kept = [json.dumps(row) + "\n" for row in read_log(self._file) if row["step"] <= step]
            self._file.write_text("".join(kept))
        except OSError as error:
            raise StorageError(f"cannot write {self._file}: {error.strerror}", hint="Make room.") from error
        self._board = _open_board(folder / "tensorboard", step) if tensorboard else None

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a line. `step` is among its keys."""
        try:
            with self._file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {self._file}: {error.strerror}", hint="Make room.") from error
        if self._board:
            for name, value in row.items():
                if name != "step" and isinstance(value, int | float):
                    self._board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Flush TensorBoard's files."""
        if self._board:
            self._board.close()


def read_log(file: Path) -> Iterator[dict[str, Any]]:
    """Lines of a log; a last one that a kill cut short is left out."""
    if not file.is_file():
        return
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _open_board(folder: Path, step: int) -> _Writer:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("TensorBoard's log", "tensorboard") from error
    writer: _Writer = SummaryWriter(str(folder), purge_step=step + 1)
    return writer
