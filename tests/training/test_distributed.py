from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import joint_batches  # noqa: E402
from tiny_towers import alone, grads, objective, random_batch  # noqa: E402

from geoglot.training.grad_cache import backward  # noqa: E402
from geoglot.training.journal import read_log  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have left what they found."""
    folder = tmp_path_factory.mktemp("joint")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [*command, str(HERE / "joint_batches.py"), str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", joint_batches.CASES)
def test_two_processes_have_the_gradient_of_the_joint_batch(joint: Path, name: str) -> None:
    kind, captions, _, _ = joint_batches.CASES[name]
    model = objective(kind)
    backward(model, random_batch(12, captions), alone())
    expected = grads(model)
    for rank in range(2):
        found = torch.load(joint / f"grads-{rank}.pt")[name]
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.allclose(found[key], value, atol=1e-6, rtol=1e-4), (key, rank)


@pytest.mark.parametrize("sizes", joint_batches.REGIONS)
def test_two_processes_align_the_joint_regions(joint: Path, sizes: tuple[int, int]) -> None:
    """As DDP would have it, the mean over processes is the loss and the gradient of all regions together."""
    loss, *expected = joint_batches.region_grads(slice(None), alone())
    found = [torch.load(joint / f"regions-{rank}.pt")[sizes] for rank in range(2)]
    assert sum(one[0] for one in found) / 2 == pytest.approx(loss, abs=1e-6)
    for at, whole in enumerate(expected, start=1):
        assert torch.allclose(torch.cat([one[at] for one in found]) / 2, whole, atol=1e-6)


def test_processes_agree_on_accumulated_gradients_with_dropout(joint: Path) -> None:
    left, right = (torch.load(joint / f"grads-{rank}.pt")["accumulated-dropout"] for rank in range(2))
    assert all(torch.equal(left[key], right[key]) for key in left)
    without = objective("infonce")
    for turn in range(2):
        backward(without, random_batch(12, seed=turn), alone(), scale=lambda loss: loss / 2)
    assert not torch.allclose(left["towers.visual.0.weight"], grads(without)["towers.visual.0.weight"], atol=1e-5)


def test_a_run_of_two_processes_repeats_a_run_of_one(joint: Path, tmp_path: Path) -> None:
    joint_batches.loop_run(joint / "data", tmp_path / "run", alone())
    one, two = ([row["loss"] for row in read_log(f / "run" / "log.jsonl")] for f in (tmp_path, joint))
    assert len(one) == joint_batches.LOOP.steps
    assert two == pytest.approx(one, abs=1e-5)
    assert one[-1] < one[0]
    left, right = (torch.load(f / "run" / "final.pt")["weights"] for f in (tmp_path, joint))
    assert all(torch.allclose(left[key], right[key], atol=1e-5) for key in left)
    halves = [row["loss"] for row in read_log(joint / "half" / "log.jsonl")]
    assert halves == two, "saving must not change what follows"
