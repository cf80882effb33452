"""`geoglot models`: what it prints, in both forms, and what wrong use gets. Pulling: tests/models/test_install.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_world import ColourWords, Shell

from geoglot.cli import models as command
from geoglot.models.zoo import install
from geoglot.models.zoo.bundle import bundle
from geoglot.models.zoo.install import Installed
from geoglot.models.zoo.registry import find_card


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEOGLOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def told(shell: Shell, *words: str | Path) -> Any:
    done = shell("models", *words, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_list(shell: Shell) -> None:
    rows = {row["name"]: row for row in told(shell, "list")}
    assert len(rows) == 43
    keys = ["name", "family", "parameters", "dim", "image_px", "languages", "licence", "installed", "runtimes"]
    assert all(list(row) == keys for row in rows.values())
    assert rows["georsclip-vit-b-32"]["parameters"] == 151_277_313
    assert rows["geoglot-mini"]["runtimes"] == ["light"]
    assert [row["name"] for row in told(shell, "list", "--installed")] == ["geoglot-mini"]
    table = shell("models", "list")
    assert all(name in table.stdout for name in rows)
    assert "yes" in table.stdout
    assert max(map(len, table.stdout.splitlines())) <= 80


def test_show(shell: Shell) -> None:
    shown = shell("models", "show", "clip-rs").stdout
    for part in ("undecided", "none stated", "not calibrated", "no. Run: geoglot models pull clip-rs", "not stated"):
        assert part in shown
    assert told(shell, "show", "clip-rs")["doubts"]["activation"] == "undecided"
    mini = told(shell, "show", "geoglot-mini")
    assert (mini["installed"], mini["calibrated"]) == (True, True)
    assert mini["fingerprint"] == find_card().fingerprint
    assert "Apache-2.0" in shell("models", "show", "geoglot-mini").stdout
    unknown = shell("models", "show", "remotclip-vit-b-32")
    assert unknown.exit_code == 2
    assert "Did you mean 'remoteclip-vit-b-32'?" in unknown.stderr


def test_pull_prints_the_terms_and_wants_consent(shell: Shell) -> None:
    done = shell("models", "pull", "metaclip-vit-b-32")
    assert done.exit_code == 2
    assert "NON-COMMERCIAL USE ONLY" in done.stderr
    assert "--accept-licence" in done.stderr
    choose = shell("models", "pull", "clip-rs", "--accept-licence")
    assert "--activation quick_gelu (if from OpenAI)" in choose.stderr
    path = shell("models", "pull", "lrsclip-vit-b-16", "-y")
    assert "no public address" in path.stderr
    wrong = shell("models", "pull", "clip-rs", "-y", "--activation", "quickgelu")
    assert "Did you mean 'quick_gelu'?" in wrong.stderr


def test_pull_hands_on_what_was_asked(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def pull(name: str, **options: Any) -> Installed:
        options.pop("on_progress")("x", 1, None)
        asked.append((name, options))
        return Installed(find_card(), ("a note",))

    monkeypatch.setattr(install, "pull", pull)
    done = shell("models", "pull", "openai-vit-b-32", "--force")
    assert done.exit_code == 0
    assert "MIT" in done.stderr
    assert "a note" in done.stderr
    assert "geoglot-mini is in" in done.stdout
    shell("models", "pull", "hf-hub:some/body", "-y", "--activation", "gelu")
    assert asked == [
        ("openai-vit-b-32", {"accept_licence": False, "activation": None, "force": True}),
        ("hf-hub:some/body", {"accept_licence": True, "activation": "gelu", "force": False}),
    ]


def test_offline_is_told(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = shell("models", "pull", "openai-vit-b-32")
    assert done.exit_code == 2
    assert "HF_HUB_OFFLINE is set" in done.stderr or "not installed" in done.stderr


def test_bundle_there_and_back(shell: Shell, home: Path, tmp_path: Path) -> None:
    made = told(shell, "bundle", "geoglot-mini", "-o", tmp_path / "mini.tar")
    assert made["size_bytes"] == (tmp_path / "mini.tar").stat().st_size
    assert (tmp_path / "mini.tar").read_bytes() == bundle("geoglot-mini", tmp_path / "same.tar").read_bytes()
    assert "is in" in shell("models", "pull", tmp_path / "mini.tar").stdout
    assert (home / "models" / "geoglot-mini" / "card.toml").is_file()
    assert shell("models", "bundle", tmp_path / "mini.tar", "--unpack").exit_code == 2
    assert told(shell, "bundle", tmp_path / "mini.tar", "--unpack", "--force")["installed"]
    both = shell("models", "bundle", "x", "--unpack", "-o", "y")
    assert "given together" in both.stderr
    missing = shell("models", "bundle", "rs-m-clip")
    assert "is not on this machine; looked in" in missing.stderr
    assert "geoglot models pull rs-m-clip" in missing.stderr


def test_convert_hands_on_what_was_asked(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        install, "convert", lambda path, **options: asked.append((path, options)) or Installed(find_card(), ())
    )
    shell("models", "convert", tmp_path / "a.pt", "--name", "mine", "--activation", "gelu", "--tokenizer", "t.json")
    expected = {"card_name": None, "name": "mine", "activation": "gelu", "tokenizer": Path("t.json")}
    assert asked == [(tmp_path / "a.pt", expected)]


def test_export_hands_on_what_was_asked(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def export(card: Any, precision: str, chips: Any, chips_from: str, **options: Any) -> Any:
        asked.append((card.name, precision, chips.shape[1:], chips_from, options))
        agreement = {"image_cosine": [0.999, 0.995], "text_cosine": [1.0, 0.998], "order": 0.97, "first": 0.86}
        agreement |= {"pictures": 44, "texts": 64}
        return replace(card, about={"export": about | {"agreement": agreement}})

    about = {"measured_on": "44 chips drawn by the sandbox", "kept_fp32": ["visual", ""]}

    monkeypatch.setattr(install, "export", export)
    monkeypatch.setattr(command, "_pictures", lambda files, side: [np.zeros((side, side, 3), np.uint8)] * 2)
    done = shell("models", "export", "geoglot-mini", "--name", "light")
    assert "cosine of pictures  mean 0.9990, least 0.9950" in done.stdout
    assert "on 44 chips drawn by the sandbox; 2 products left in fp32" in done.stderr
    assert told(shell, "export", "geoglot-mini")["about"]["export"]["kept_fp32"] == ["visual", ""]
    del asked[1]
    options = {"name": "light", "allow_below": False}
    side = find_card("geoglot-mini").image_px
    assert asked == [("geoglot-mini", "int8", (side, side, 3), "2 chips drawn by the sandbox", options)]
    assert "unknown precision 'int4'" in shell("models", "export", "geoglot-mini", "--precision", "int4").stderr


def test_compare(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("water\n\nforest\n")
    drawn = [np.full((8, 8, 3), colour, np.uint8) for colour in ((20, 60, 220), (20, 160, 40), (230, 190, 60))]
    monkeypatch.setattr(command, "_pictures", lambda files, side: drawn)
    same = told(shell, "compare", "a", "b", "--texts", tmp_path / "t.txt")
    assert same["image_cosine"] == pytest.approx([1, 1])
    assert (same["order"], same["first"], same["pictures"], same["texts"]) == (pytest.approx(1), 1, 3, 2)

    class Wide(ColourWords):
        def encode_images(self, images: Any) -> Any:
            return np.pad(super().encode_images(images), ((0, 0), (0, 1)))

        def encode_texts(self, texts: Any) -> Any:
            return np.pad(-super().encode_texts(texts), ((0, 0), (0, 1)))

    both = iter([ColourWords(), Wide()])
    monkeypatch.setattr("geoglot.models.load.load_encoder", lambda *_, **__: next(both))
    table = shell("models", "compare", "a", "b", "--texts", tmp_path / "t.txt").stdout
    assert "not comparable: the widths differ" in table
    assert "-1.000" in table
    assert shell("models", "compare", "a", "b", "--texts", tmp_path / "none.txt").exit_code == 2


def test_drawn_chips_and_texts() -> None:
    texts = command._texts(None)
    assert len(texts) == len(set(texts)) > 40
    assert command._pictures([], 64)[0].shape == (224, 224, 3)
