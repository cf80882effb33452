"""The snapshot: the archive as flat arrays that a query maps into memory without starting the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geoglot.archive.store import Store


def write_snapshot(store: Store) -> None:
    """Write the snapshot of the store's present state."""
