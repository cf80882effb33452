"""Fail when a room's tests cover less than the floor: python tools/coverage_floor.py coverage.json [--floor 85].

A room is a folder or a module at the top of src/geoglot; geoglot_sandbox is one as well. Makes its input:
pytest --cov --cov-report=json. Lines that pyproject.toml excludes do not count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

FLOOR = 85.0
"""Percent of a room's statements."""


def room_of(path: str) -> str:
    """`src/geoglot/archive/store.py` -> `archive`; `src/geoglot/errors.py` -> `errors`."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    package, *inner = parts[parts.index("src") + 1 :] if "src" in parts else parts
    return inner[0].removesuffix(".py") if package == "geoglot" else package


def covered(report: Mapping[str, Any]) -> dict[str, float]:
    """Room -> percent of its statements that ran, over all its files."""
    ran, statements = Counter[str](), Counter[str]()
    for path, file in report["files"].items():
        ran[room_of(path)] += file["summary"]["covered_lines"]
        statements[room_of(path)] += file["summary"]["num_statements"]
    return {room: 100 * ran[room] / count for room, count in sorted(statements.items()) if count}


def main() -> int:
    """Print a line for each room; 1 when one is below the floor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, help="coverage's JSON report")
    parser.add_argument("--floor", type=float, default=FLOOR, help="percent")
    asked = parser.parse_args()
    shares = covered(json.loads(asked.report.read_text("utf-8")))
    for room, share in shares.items():
        print(f"{room:<18} {share:5.1f} %{'' if share >= asked.floor else f'  below {asked.floor:g} %'}")
    return int(any(share < asked.floor for share in shares.values()))


if __name__ == "__main__":
    sys.exit(main())
