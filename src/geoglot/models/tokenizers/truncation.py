"""How many of an encoder's texts were longer than its context: counted always, said once."""

from __future__ import annotations

import logging
from threading import Lock

from geoglot.models.tokenizers.protocol import TokenRows

log = logging.getLogger("geoglot.models")


class TruncationCount:
    """Texts that an encoder read, and how many of them were cut. Safe to share between threads."""

    def __init__(self) -> None:
        self.texts = 0
        self.cut = 0
        self._lock = Lock()

    @property
    def share(self) -> float:
        """Part of the texts that lost tokens, 0 to 1."""
        return self.cut / self.texts if self.texts else 0.0

    def add(self, rows: TokenRows) -> None:
        """Count a batch; the first one that holds a cut text is logged as a warning."""
        cut = int(rows.truncated.sum())
        with self._lock:
            first = cut > 0 and self.cut == 0
            self.texts += len(rows.ids)
            self.cut += cut
        if first:
            share = 100 * cut / len(rows.ids)
            context, longest = rows.ids.shape[1], int(rows.lengths.max())
            log.warning(
                "%d of %d texts (%.0f %%) are longer than the %d tokens that the model reads and were cut; "
                "the longest has %d",
                cut,
                len(rows.ids),
                share,
                context,
                longest,
            )
