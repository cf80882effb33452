"""`geoglot index`: add, look, check, remove."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from colour_world import Shell, paint


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good scenes and two bad ones; the archive is the default one of the current folder."""
    monkeypatch.delenv("GEOGLOT_ARCHIVE")
    folder = tmp_path / "neue Szenen é"
    folder.mkdir()
    paint(folder / "a.tif", ("water", "forest", "roof", "desert"))
    paint(folder / "b.tif", ("desert", "desert", "roof", "forest"))
    (folder / "broken.tif").write_bytes(b"II*\0nonsense")
    (folder / "empty.png").write_bytes(b"")
    return folder


def told(shell: Shell, *words: str | Path) -> dict[str, Any]:
    done = shell("index", *words, "--json")
    assert done.exit_code == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_life_of_an_archive(shell: Shell, scenes: Path, tmp_path: Path) -> None:
    rehearsed = told(shell, scenes, "--dry-run")
    assert (len(rehearsed["added"]), rehearsed["dry_run"]) == (4, True)
    assert not (tmp_path / ".geoglot").exists()

    done = shell("index", scenes)
    assert done.exit_code == 0
    assert "2 added" in done.stdout
    assert "2 scenes could not be used" in done.stderr
    assert "broken.tif" in done.stderr
    assert "is an empty file" in done.stderr
    assert shell("index", "add", scenes, "--strict").exit_code == 2

    info = told(shell, "info")
    assert (info["scenes"], info["undated"]) == (2, 2)
    assert info["chips"] > 0
    assert max(len(line) for line in shell("index", "info").stdout.splitlines()) <= 80
    assert told(shell, "check") == {"ok": True, "problems": []}

    assert told(shell, "remove", "a.tif")["removed"] == [str(scenes / "a.tif")]
    assert told(shell, "info")["scenes"] == 1
    assert told(shell, scenes)["added"] == [str(scenes / "a.tif")]

    (scenes / "b.tif").unlink()
    gone = shell("index", "check")
    assert gone.exit_code == 1
    assert "b.tif" in gone.stdout
    assert told(shell, scenes, "--keep")["removed"] == []
    assert told(shell, scenes)["removed"] == [str(scenes / "b.tif")]
    assert told(shell, "remove", str(scenes))["removed"] == [str(scenes / "a.tif")]


def test_the_grid_is_kept(shell: Shell, scenes: Path) -> None:
    grid = told(shell, scenes / "a.tif", "--chip-m", "640", "--overlap", "0")["grid"]
    assert (grid["ground_m"], grid["overlap"]) == ([640.0], 0.0)
    assert told(shell, scenes / "b.tif")["grid"] == grid
    refused = shell("index", scenes / "b.tif", "--overlap", "0.5")
    assert refused.exit_code == 2
    assert "another chip grid" in refused.stderr


def test_wrong_use_is_explained(shell: Shell, scenes: Path, tmp_path: Path) -> None:
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        (("nowhere",), "'nowhere'"),
        (("info",), "no archive at"),
        (("check",), "no archive at"),
        (("remove", "x.tif"), "no archive at"),
        ((scenes, "--overlap", "1.5"), "overlap"),
        ((scenes, "--chip-m", "-3"), "positive"),
    ]
    for words, expected in cases:
        done = shell("index", *words)
        assert done.exit_code == 2, words
        assert expected in done.stderr
    shutil.rmtree(tmp_path / ".geoglot", ignore_errors=True)
    (tmp_path / ".geoglot").mkdir()
    (tmp_path / ".geoglot" / "archive.json").write_text('{"format_version": 99}')
    assert "Upgrade geoglot" in shell("index", "info").stderr


def test_unknown_scenes_are_not_removed(shell: Shell, world: Path) -> None:
    done = shell("index", "remove", "cost.tif")
    assert done.exit_code == 2
    assert "Did you mean 'coast.tif'?" in done.stderr
    assert told(shell, "info")["scenes"] == 3
