"""`geoglot doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from colour_world import Shell

from geoglot.cli import doctor
from geoglot.models.zoo.registry import DEFAULT_MODEL, bundled_models


def test_it_looks_at_everything(shell: Shell, world: Path) -> None:
    done = shell("doctor", "--json")
    told = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in told["checks"]}
    assert {"geoglot", "python", "processor", "folder", "gdal", "archive", "extra geo", "extra torch"} <= set(states)
    assert set(doctor.required_packages()) >= {"numpy", "rasterio", "lancedb", "onnxruntime"}
    assert all(states[name] == "ok" for name in doctor.required_packages())
    assert told["ok"] == ("broken" not in states.values())
    assert done.exit_code == (0 if told["ok"] else 1)


def test_the_bundled_model_is_whole(shell: Shell) -> None:
    if not bundled_models():
        pytest.skip("no model is bundled in this checkout")
    states = {check["name"]: check["state"] for check in json.loads(shell("doctor", "--json").stdout)["checks"]}
    assert states[f"model {DEFAULT_MODEL}"] == "ok"


def test_what_is_missing_comes_with_its_command(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "required_packages", lambda: ("numpy", "nosuchpackage"))
    monkeypatch.setattr(doctor, "extra_packages", lambda: {"sky": ("nosuchextra",)})
    done = shell("doctor")
    assert done.exit_code == 1
    assert "BROKEN" in done.stdout
    assert "Run: pip install nosuchpackage" in done.stdout
    assert 'Run: pip install "geoglot[sky]"' in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_a_damaged_archive_is_found(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "archive.json").write_text("not json")
    done = shell("doctor", "--archive", tmp_path)
    assert done.exit_code == 1
    assert "cannot be read" in " ".join(done.stdout.split())  # the table breaks lines where a path is long
