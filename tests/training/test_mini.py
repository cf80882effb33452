from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from geoglot.config import load_config  # noqa: E402
from geoglot.data.object_crops import object_crops  # noqa: E402
from geoglot.errors import SourceError, UnknownNameError, UsageError  # noqa: E402
from geoglot.models.tokenizers.concepts import ConceptTokenizer  # noqa: E402
from geoglot.training.labels import LabelNames  # noqa: E402
from geoglot.training.pools import make_pool, token_uses, vary_tokens  # noqa: E402
from geoglot.training.recipes import mini  # noqa: E402
from geoglot.training.views import ViewRanges, random_views  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def toy_data(tmp_path: Path) -> Path:
    """Two sources in the layout of the real ones; class = colour, so that there is something to learn."""
    rng = np.random.default_rng(0)
    for name, file, labels in (
        ("rsicd", "captions.jsonl", ("forest", "desert")),
        ("eurosat", "labels.jsonl", ("Forest", "SeaLake")),
    ):
        (tmp_path / name).mkdir()
        rows = []
        for index in range(24):
            base = np.array([[30, 90, 30], [200, 170, 110]][index % 2])
            pixels = np.clip(base + rng.integers(-20, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
            row = {"image": f"{index}.png", "split": "train", "label": labels[index % 2]}
            if file.startswith("captions"):
                row["captions"] = [("many green trees", "yellow sand")[index % 2]] * 5
            rows.append(json.dumps(row))
        (tmp_path / name / file).write_text("\n".join(rows))
    return tmp_path


def _config(**changes: object) -> mini.Config:
    config = mini.smoke(load_config(mini.Config, ROOT / "configs" / "mini.toml"), Path())
    return replace(config, sandbox=0, label_names=str(ROOT / "configs" / "mini_labels.toml"), **changes)


def test_shipped_config_parses() -> None:
    config = load_config(mini.Config, ROOT / "configs" / "mini.toml")
    assert config.side_px(0) == 64
    assert config.side_px(config.steps - 1) == 96


def test_unknown_key_suggests(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("stepz = 3")
    with pytest.raises(UnknownNameError) as caught:
        load_config(mini.Config, tmp_path / "c.toml")
    assert "steps" in caught.value.hint
    with pytest.raises(UsageError, match="phases"):
        mini.Config(phases=((0.5, 32),))


def test_resume_gives_the_same_weights(toy_data: Path, tmp_path: Path) -> None:
    whole = mini.run(_config(), toy_data, tmp_path / "whole")
    mini.run(_config(), toy_data, tmp_path / "broken")
    state = torch.load(tmp_path / "broken" / "last.pt", weights_only=True)
    assert state["step"] == 4

    class Stop(Exception):
        pass

    def stop_at_two(out: Path, step: int, *rest: object) -> None:
        original(out, step, *rest)
        if step == 2:
            raise Stop

    original = mini._save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "_save", stop_at_two)
        with pytest.raises(Stop):
            mini.run(_config(), toy_data, tmp_path / "again")
    resumed = mini.run(_config(), toy_data, tmp_path / "again")
    left, right = (torch.load(f, weights_only=True)["weights"] for f in (whole, resumed))
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_learns_two_colours(toy_data: Path, tmp_path: Path) -> None:
    config = _config(steps=40, rsicd=16, eurosat=8, warmup=4, learning_rate=2e-3, checkpoint_every=40, ema=0.5)
    mini.run(config, toy_data, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 40
    weights = torch.load(tmp_path / "run" / "final.pt", weights_only=True)
    towers = mini.DualTower(mini.TowerShape(**weights["shape"])).eval()
    towers.load_state_dict(weights["weights"])
    tokenizer = ConceptTokenizer.load(tmp_path / "run" / "tokenizer.json")
    texts = towers.text(torch.from_numpy(tokenizer(["forest", "desert"])))
    colours = torch.tensor([[30, 90, 30], [200, 170, 110]]).float()[:, :, None, None] / 255
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.1
    images = towers.image(colours.expand(2, 3, 32, 32) + noise)
    scores = torch.nn.functional.cosine_similarity(images[:, None], texts[None], dim=2)
    assert scores.argmax(1).tolist() == [0, 1]


def test_class_names_are_said_in_phrases_when_asked(toy_data: Path, tmp_path: Path) -> None:
    def names_said(common: float) -> list[int]:
        config = _config(common=common, label_share=1.0)
        pools, tokenizer, _ = mini.build_pools(config, toy_data, tmp_path)
        return [int((row != 0).sum()) for b in mini.batches(config, pools, tokenizer, 0) for row in b.tokens]

    assert max(names_said(0.1)) > max(names_said(0.0))


def test_a_run_starts_from_the_one_before(toy_data: Path, tmp_path: Path) -> None:
    before = tmp_path / "first.toml"
    before.write_text(
        "steps = 2\nrsicd = 6\neurosat = 4\nsandbox = 0\nphases = [[1.0, 32]]\nwarmup = 1\n"
        f'label_names = "{ROOT / "configs" / "mini_labels.toml"}"\n'
    )
    still = _config(after=str(before), steps=1, learning_rate=0.0, ema=0.0)
    mini.run(still, toy_data, tmp_path / "run")
    first, second = (
        torch.load(tmp_path / "run" / part / "final.pt", weights_only=True)["weights"] for part in ("before", ".")
    )
    learned = [key for key in first if "running" not in key and "num_batches" not in key]
    assert all(torch.equal(first[key], second[key]) for key in learned)
    tokens = [(tmp_path / "run" / part / "tokenizer.json").read_bytes() for part in ("before", ".")]
    assert tokens[0] == tokens[1]


def test_classes_of_two_sources_that_share_a_name_are_kin() -> None:
    names = LabelNames({"a": {"Forest": ["forest", "woods"]}, "b": {"F": ["forest"], "R": ["river"]}})
    assert [names.number("a", "Forest"), names.number("b", "F"), names.number("b", "R")] == [0, 1, 2]
    assert names.number("b", None) == -1
    assert names.number("c", "bare_land") == 3
    assert names.of(3) == ["bare land"]
    assert names.kin().tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


def test_object_crops_show_their_object(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[20:40, 250:290] = 255
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    raw = {
        "images": [{"id": 0, "file_name": "a.png", "split": "train"}, {"id": 1, "file_name": "b.png", "split": "test"}],
        "annotations": [{"image_id": 0, "category_id": 3, "bbox": [250, 20, 40, 20]}],
        "categories": [{"id": 3, "name": "ship"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(raw))
    for seed in range(20):
        chips, labels = object_crops(tmp_path, seed, side_px=64)
        assert chips.shape == (1, 64, 64, 3)
        assert labels == ["ship"]
        share = (chips[0, :, :, 0] > 127).mean()
        assert 0.04 < share < 0.4  # 2:1 box in windows of 1.2 to 3 times its longer side
    with pytest.raises(SourceError, match="no detection set"):
        object_crops(tmp_path / "nowhere", 0)


def test_pool_draws_fitting_texts() -> None:
    tokenizer = ConceptTokenizer.from_glossary()
    pixels = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1).repeat(3, 3)
    pool = make_pool("x", pixels, [["a river"], ["qqq"], []], [-1, -1, 0], {0: ["forest"]}, tokenizer)
    assert len(pool.pixels) == 2  # the chip of which nothing is known is gone
    chips, rows, named = pool.draw(2, 0.0, np.random.default_rng(0))
    by_chip = dict(zip(chips.tolist(), zip(rows[:, 0].tolist(), named.tolist(), strict=True), strict=True))
    river, forest = (tokenizer.names.index(n) for n in ("river", "forest"))
    assert by_chip == {0: (river, -1), 1: (forest, 0)}
    uses = token_uses([pool], len(tokenizer.names))
    assert uses[river] == uses[forest] == 1


def test_vary_tokens_never_empties_and_never_invents() -> None:
    rng = np.random.default_rng(0)
    rows = np.zeros((500, 8), np.int64)
    for row in rows:
        size = rng.integers(1, 9)
        row[:size] = rng.integers(1, 30, size)
    out = vary_tokens(rows, 10, rng)
    for before, after in zip(rows, out, strict=True):
        kept = after[after != 0].tolist()
        assert kept
        assert all(kept.count(t) <= before.tolist().count(t) for t in kept)
    assert (out != rows).any()


def test_views_without_change_are_a_resize() -> None:
    still = ViewRanges(scale=(1.0, 1.0), turn_degrees=0.0, light=0.0, tint=0.0, grey=0.0)
    chip = torch.randint(0, 255, (1, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    view = random_views(chip, 32, still, torch.Generator().manual_seed(0))[0]
    plain = chip[0].permute(2, 0, 1).float() / 255
    turned = [torch.rot90(p, k, (1, 2)) for k in range(4) for p in (plain, plain.flip(2))]
    assert min(float((view - t).abs().max()) for t in turned) < 1e-3
