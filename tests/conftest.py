"""Fixtures that every room shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LANCEDB_LOG", "error")


def _data_folder() -> Path:
    named = os.environ.get("GEOGLOT_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real imagery; skips the test when it is not on this machine."""
    folder = _data_folder()
    if not (folder / "README.md").is_file():
        pytest.skip(f"real imagery not found at {folder}; set GEOGLOT_DATA to its folder")
    return folder
