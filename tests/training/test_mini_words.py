from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_sources import write_sources  # noqa: E402

from geoglot.config import load_config  # noqa: E402
from geoglot.errors import UsageError  # noqa: E402
from geoglot.models.tokenizers.concepts import ConceptTokenizer  # noqa: E402
from geoglot.models.towers.convnet_training import DualTower, TowerShape  # noqa: E402
from geoglot.training.pools import common_words, make_pool, phrase  # noqa: E402
from geoglot.training.recipes import mini_words  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def test_shipped_config_parses() -> None:
    config = load_config(mini_words.Config, ROOT / "configs" / "mini_words.toml")
    assert set(config.shares) == {"rsicd", "eurosat", "vhr10", "sandbox"}
    assert (ROOT / config.after).is_file()
    with pytest.raises(UsageError, match="positive"):
        mini_words.Config(shares={"rsicd": 1})


def test_common_words_are_those_of_most_classes() -> None:
    tokenizer = ConceptTokenizer.from_glossary()
    said = [["a river and a tree"], ["a forest and a tree"], ["a beach and a tree"], ["a river"]]
    pool = make_pool("x", np.zeros((4, 1, 1, 3), np.uint8), said, [0, 1, 2, 0], {}, tokenizer)
    common = common_words(pool, 0.8, len(tokenizer.names))
    assert [tokenizer.names[token] for token in common] == ["tree"]
    everything = common_words(pool, 0.0, len(tokenizer.names))
    assert {"river", "forest", "beach", "tree"} <= {tokenizer.names[token] for token in everything}


def test_phrases_keep_a_name_and_add_only_common_words() -> None:
    rng = np.random.default_rng(0)
    names, common = np.array([[7, 8, 0, 0], [9, 0, 0, 0]]), np.array([3, 4])
    lengths = set()
    for _ in range(200):
        row = phrase(names, common, 4, rng)
        tokens = row[row != 0].tolist()
        assert row.shape == (4,)
        assert set(tokens) <= {7, 8, 9, 3, 4}
        lengths.add(len(tokens))
    assert lengths == {1, 2, 3, 4}
    row = phrase(names[1:], np.zeros(0, np.int64), 4, rng)
    assert row.tolist() == [9, 0, 0, 0]


def test_only_words_and_projection_learn() -> None:
    towers = DualTower(TowerShape(vocabulary=20, widths=(4, 4, 4, 8), depths=(1, 1, 1, 1), text_width=8, text_heads=2))
    free = mini_words.free_parameters(towers)
    names = {name for name, p in towers.named_parameters() if any(p is one for one in free)}
    assert {"image.project.weight", "log_scale", "text.tokens.weight"} <= names
    assert not [name for name in names if name.startswith("image.s")]


def test_a_run_locks_the_images_and_repeats_itself(tmp_path: Path) -> None:
    write_sources(tmp_path)
    labels = ROOT / "configs" / "mini_labels.toml"
    (tmp_path / "first.toml").write_text(
        f'steps = 2\nrsicd = 6\neurosat = 4\nsandbox = 0\nphases = [[1.0, 32]]\nwarmup = 1\nlabel_names = "{labels}"\n'
    )
    config = mini_words.Config(
        {"rsicd": 8, "eurosat": 6}, after=str(tmp_path / "first.toml"), steps=3, views=1, side_px=32, warmup=1
    )
    (tmp_path / "run").mkdir()
    first = torch.load(mini_words.run(config, tmp_path, tmp_path / "run"), weights_only=True)["weights"]
    again = torch.load(mini_words.run(config, tmp_path, tmp_path / "run"), weights_only=True)["weights"]
    assert all(torch.equal(first[key], again[key]) for key in first)
    before = torch.load(tmp_path / "run" / "before" / "final.pt", weights_only=True)["weights"]
    locked = [key for key in first if key.startswith("image.st")]
    assert locked
    assert all(torch.equal(first[key], before[key]) for key in locked)
    assert not torch.equal(first["text.project.weight"], before["text.project.weight"])
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["words"]["config"]["steps"] == 3
    assert ConceptTokenizer.load(tmp_path / "run" / "tokenizer.json").names
