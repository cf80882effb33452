"""Recipe `upsample`: a smoke run from end to end, and that its loss measures what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from geoglot.config import load_config  # noqa: E402
from geoglot.errors import UsageError  # noqa: E402
from geoglot.models.encoder import dense  # noqa: E402
from geoglot.models.load import load_encoder  # noqa: E402
from geoglot.models.upsample import JointBilateral, UpsamplerShape, load_upsampler  # noqa: E402
from geoglot.models.zoo.registry import find_card  # noqa: E402
from geoglot.training.journal import Progress, read_log  # noqa: E402
from geoglot.training.recipes.upsample import Config, Views, look, missed, run, smoke  # noqa: E402
from geoglot.training.registry import run_recipe  # noqa: E402
from geoglot.training.smoke import write_tiny_model  # noqa: E402

CONFIG = Path(__file__).parents[2] / "configs" / "upsample.toml"


def test_smoke(tmp_path: Path) -> None:
    left = run_recipe("upsample", CONFIG, tmp_path, tmp_path / "run", smoke=True)
    rows = list(read_log(tmp_path / "run" / "log.jsonl"))
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(np.isfinite([row["loss"], row["interpolated"]]).all() for row in rows)
    up = load_upsampler(left)
    assert up.factor == 4
    assert up.about["model"] == "geoglot-smoke"


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    config = smoke(load_config(Config, CONFIG), tmp_path)

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    whole = run(config, tmp_path, tmp_path / "whole").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, tmp_path / "broken", stop)
    again = run(config, tmp_path, tmp_path / "broken").read_bytes()
    assert [row["step"] for row in read_log(tmp_path / "broken" / "log.jsonl")] == [1, 2, 3, 4]
    assert again == whole


def test_the_config_is_one() -> None:
    config = load_config(Config, CONFIG)
    find_card(config.model)
    head = CONFIG.read_text().splitlines()
    for line, word in enumerate(("# Recipe", "# Reproduces:", "# Command:", "# Hardware:", "# Expect:")):
        assert head[line].startswith(word)


def test_steps_that_do_not_divide_the_patch_are_refused(tmp_path: Path) -> None:
    config = load_config(Config, CONFIG)
    model = str(write_tiny_model(tmp_path / "model"))
    with pytest.raises(UsageError, match="do not divide a patch of 8 px"):
        run(Config(model, config.data, config.loop, UpsamplerShape(steps=4)), tmp_path, tmp_path / "run")


def test_a_fine_map_moved_and_averaged_is_the_second_view() -> None:
    """Where the truth is known at cells, the right fine map loses nothing, and a wrong shift does."""
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.standard_normal((1, 2, 12, 12)).astype(np.float32))
    second = torch.nn.functional.avg_pool2d(truth[:, :, 1:9, 2:10], 4)
    pictures = torch.zeros(1, 3, 12, 12)
    assert float(missed(Views(truth, second, pictures, (1, 2), 4).foretold(truth), second)) < 1e-12
    assert float(missed(Views(truth, second, pictures, (2, 1), 4).foretold(truth), second)) > 0.1


def test_views_are_shifted_by_whole_cells(tmp_path: Path) -> None:
    encoder = dense(load_encoder(str(write_tiny_model(tmp_path / "model"))))
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 255, (2, 40, 40, 3)).astype(np.uint8)
    views = look(encoder, pictures, 32, 4, 5)
    assert views.first.shape == (2, 5, 4, 4)
    assert views.second.shape == (2, 5, 3, 3)
    assert max(views.shift) < 4
    upsampler = JointBilateral(UpsamplerShape(steps=2, radius=2, width=4))
    loss = missed(views.foretold(upsampler(views.first, views.pictures)), views.second)
    loss.backward()
    assert torch.isfinite(loss)
