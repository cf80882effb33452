"""Kill -9 during ingest, a short run of the benchmark that does it a hundred times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_nine.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 on Windows")
def test_four_kills_leave_no_half_scene_and_lose_nothing() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "4", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK: in the end" in done.stdout
