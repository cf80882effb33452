from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tiny_sources import write_sources  # noqa: E402

from geoglot.config import load_config  # noqa: E402
from geoglot.errors import UsageError  # noqa: E402
from geoglot.training.recipes import mini_blend  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def toy_config(folder: Path) -> mini_blend.Config:
    """first -> captions, first -> words."""
    labels = ROOT / "configs" / "mini_labels.toml"
    usual = "steps = 2\nrsicd = 6\neurosat = 4\nsandbox = 0\nwarmup = 1\nphases = [[1.0, 32]]\n"
    usual += f'label_names = "{labels}"\n'
    (folder / "first.toml").write_text(usual)
    (folder / "captions.toml").write_text(usual + f'seed = 1\nafter = "{folder / "first.toml"}"\n')
    words = f'after = "{folder / "first.toml"}"\nsteps = 2\nviews = 1\nside_px = 32\nwarmup = 1\n'
    (folder / "words.toml").write_text(words + "shares = { rsicd = 8, eurosat = 6 }\n")
    return mini_blend.Config(str(folder / "words.toml"), str(folder / "captions.toml"), 0.25)


def test_shipped_config_has_a_run_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(mini_blend.Config, ROOT / "configs" / "mini_blend.toml")
    assert mini_blend.common_run(config, Path("x")) == Path("x/before/before")  # captions -> mini_2 -> mini_1


def test_one_command_trains_all_and_writes_the_mean(tmp_path: Path) -> None:
    write_sources(tmp_path)
    out = tmp_path / "run"
    out.mkdir()
    final = mini_blend.run(toy_config(tmp_path), tmp_path, out)
    mean, words, captions, first = (
        torch.load(file, weights_only=True)["weights"]
        for file in (
            final,
            out / "words" / "final.pt",
            out / "captions" / "final.pt",
            out / "captions" / "before" / "final.pt",
        )
    )
    for key, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * words[key] + 0.25 * captions[key])
    locked = next(key for key in first if key.startswith("image.st"))
    assert torch.equal(words[locked], first[locked])  # the words did begin with the run that the captions began with
    assert not torch.equal(captions[locked], first[locked])
    assert (out / "run.json").is_file()
    written = final.stat().st_mtime_ns, (out / "words" / "final.pt").stat().st_mtime_ns
    mini_blend.run(toy_config(tmp_path), tmp_path, out)
    assert (out / "words" / "final.pt").stat().st_mtime_ns == written[1]  # what is there is not trained again


def test_runs_without_a_common_beginning_are_refused(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    alone = mini_blend.Config(config.words, str(tmp_path / "other.toml"), 0.5)
    (tmp_path / "other.toml").write_text("steps = 2\n")
    with pytest.raises(UsageError, match="does not go on from"):
        mini_blend.common_run(alone, tmp_path)
