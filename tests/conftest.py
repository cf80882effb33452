"""Fixtures that every room shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LANCEDB_LOG", "error")
# No deadlines: machines are shared. In CI the examples follow from the code alone: a commit always says the same.
settings.register_profile("geoglot", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("geoglot")


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
