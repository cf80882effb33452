"""Two small archives behind a server in this process, with a model that knows colours by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from colour_world import GRID, ColourWords, paint
from fastapi.testclient import TestClient

from geoglot.archive.ingest import ingest
from geoglot.server.app import create_app
from geoglot.server.archives import ArchivePool
from geoglot.server.settings import Settings

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`north/` and `south/`: archives beside the scenes they hold."""
    folder = tmp_path_factory.mktemp("served world")
    for name in ("north", "south"):
        (folder / f"{name}-scenes").mkdir()
    paint(folder / "north-scenes" / "coast.tif", ("water", "water", "forest", "desert"), date="2019:06:01 10:00:00")
    paint(folder / "north-scenes" / "town_été.tif", ("roof", "forest", "desert", "roof"), date="2021:03:05 10:00:00")
    paint(folder / "north-scenes" / "plain.png", ("forest", "water", "desert", "roof"), placed=False)
    paint(folder / "south-scenes" / "southern isle.tif", ("water", "roof", "roof", "forest"))
    for name in ("north", "south"):
        ingest(folder / name, folder / f"{name}-scenes", ColourWords(), GRID)
    return folder


@pytest.fixture
def serve(served: Path, tmp_path: Path) -> Iterator[Serve]:
    """Makes clients of servers with other settings, or other archives."""
    opened: list[TestClient] = []

    def make(archives: dict[str, Path] | None = None, **changes: Any) -> TestClient:
        pool = ArchivePool(
            archives or {"north": served / "north", "south": served / "south"}, lambda name: ColourWords()
        )
        settings = replace(Settings(state=tmp_path / f"state-{len(opened)}", follow_s=0.05), **changes)
        client = TestClient(create_app(pool, settings), raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture(scope="session")
def client(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server with the usual settings."""
    pool = ArchivePool({"north": served / "north", "south": served / "south"}, lambda name: ColourWords())
    state = tmp_path_factory.mktemp("state")
    with TestClient(create_app(pool, Settings(state=state, follow_s=0.05)), raise_server_exceptions=False) as made:
        yield made
