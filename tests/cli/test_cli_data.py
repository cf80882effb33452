"""`geoglot data`: what it prints, in both forms, and what wrong use gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from colour_world import Shell
from PIL import Image


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """One COCO set of two images, one of its boxes inverted; one set of masks."""
    for folder in ("d/images", "m/images", "m/masks"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("d/images/a.png", "d/images/b.png", "m/images/a.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / name)
    Image.fromarray(np.ones((20, 30), np.uint8)).save(tmp_path / "m/masks/a.png")
    (tmp_path / "m/classes.json").write_text('["unlabeled", "water"]')
    raw = {
        "images": [{"id": 0, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4]},
            {"id": 1, "image_id": 0, "category_id": 0, "bbox": [1, 2, -3, 4]},
        ],
        "categories": [{"id": 0, "name": "ship"}, {"id": 1, "name": "plane"}],
    }
    (tmp_path / "d/instances.json").write_text(json.dumps(raw))
    (tmp_path / "c.toml").write_text(
        '[[source]]\npath = "d"\nlayout = "coco"\n[[source]]\npath = "m"\nmasks = "folder"\n[rename]\nship = "boat"\n'
    )
    return tmp_path


def test_show(shell: Shell, sets: Path) -> None:
    refused = shell("data", "regions", "show", "d", "--layout", "coco")
    assert refused.exit_code == 2
    assert "annotation 1" in refused.stderr
    assert "--skip-bad" in refused.stderr
    done = shell("data", "regions", "show", "d", "--layout", "coco", "--skip-bad", "--json")
    told = json.loads(done.stdout)
    assert (told["images"], told["regions"], told["categories"]) == (2, 1, {"ship": 1, "plane": 0})
    assert told["skipped"] == {"box (N, N, N, N) is empty or inverted": 1}
    assert "ship: 1" in shell("data", "regions", "show", "d", "--layout", "coco", "--skip-bad").stdout


def test_build(shell: Shell, sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOGLOT_DATA", raising=False)  # a config's paths are relative to it
    words = ("data", "regions", "build", "c.toml", "--out", "out", "--skip-bad")
    dry = shell(*words, "--dry-run", "--json")
    assert dry.exit_code == 0, dry.stderr
    assert not Path("out").exists()
    done = shell(*words, "--copy", "--json")
    told, before = json.loads(done.stdout), json.loads(dry.stdout)
    assert told["categories"] == before["categories"] == {"boat": 1, "plane": 0, "water": 1}
    assert (told["captioned now"], told["done before"]) == (3, 0)
    assert "template" in told["captioners"][0]
    again = json.loads(
        shell("data", "regions", "build", "c.toml", "--out", "out", "--skip-bad", "--copy", "--json").stdout
    )
    assert (again["captioned now"], again["done before"]) == (0, 3)
    back = json.loads(shell("data", "regions", "show", "out", "--layout", "mgrs", "--json").stdout)
    assert (back["images"], back["regions"]) == (3, 2)
    refused = shell("data", "regions", "build", "c.toml", "--out", "out")
    assert refused.exit_code == 2
    assert "annotation 1" in refused.stderr


def test_masks(shell: Shell, sets: Path) -> None:
    listed = json.loads(shell("data", "masks", "--json").stdout)
    assert {"loveda", "potsdam", "vaihingen", "isaid", "uavid", "udd5", "vdd", "openearthmap"} <= set(listed)
    told = json.loads(shell("data", "masks", "folder", "m", "--json").stdout)
    assert (told["images"], told["classes"]) == (1, ["water"])
    assert "water" in shell("data", "masks", "folder", "m").stdout
    absent = shell("data", "masks", "loveda", "m")
    assert absent.exit_code == 2
    assert "zenodo.org" in absent.stderr
    assert shell("data", "masks", "loveda").exit_code == 2
