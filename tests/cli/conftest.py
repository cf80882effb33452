"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from colour_world import GRID, ColourWords, Shell, paint

from geoglot.archive.ingest import ingest


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space and a letter outside ASCII, holding scenes and an archive of them."""
    folder = tmp_path_factory.mktemp("world") / "Bilder für später"
    scenes = folder / "scenes"
    scenes.mkdir(parents=True)
    paint(scenes / "coast.tif", ("water", "water", "forest", "desert"), date="2019:06:01 10:00:00")
    paint(scenes / "town_été.tif", ("roof", "forest", "desert", "roof"), date="2021:03:05 10:00:00")
    paint(scenes / "plain.png", ("forest", "water", "desert", "roof"), placed=False)
    ingest(folder / ".geoglot", scenes, ColourWords(), GRID)
    return folder


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, world: Path, tmp_path: Path) -> Shell:
    """The command line with the colour model, its archive named by the environment."""
    monkeypatch.setattr("geoglot.models.load.load_encoder", lambda *_, **__: ColourWords())
    monkeypatch.setenv("GEOGLOT_ARCHIVE", str(world / ".geoglot"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return Shell()
