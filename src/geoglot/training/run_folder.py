"""A run's folder: `run.json` (what was asked, of what data), `last.pt` (to go on from), `best.pt`, `final.pt`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoglot.data.pairs import PairSet
from geoglot.errors import StorageError, UsageError
from geoglot.files import replacing, write_atomically
from geoglot.training.distributed import World
from geoglot.training.loop_config import MAY_CHANGE
from geoglot.version import __version__

RUN, LAST, BEST, FINAL = "run.json", "last.pt", "best.pt", "final.pt"
MAKE_ROOM = "Make room; the run can be resumed."


def facts_of(recipe: str, config: object, sets: Sequence[PairSet], world: World) -> dict[str, Any]:
    """The facts in `run.json` at the start: enough to run it again and to know whether the data is the same."""
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError("a config is a dataclass")
    return {
        "recipe": recipe,
        "config": plain(asdict(config)),
        "data": [
            {"name": s.name, "images": len(s), "left_out": len(s.skipped), "fingerprint": s.fingerprint()} for s in sets
        ],
        "environment": environment(world),
    }


def environment(world: World) -> dict[str, Any]:
    """Versions and machine."""
    cuda = world.device.type == "cuda"
    return {
        "geoglot": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processes": world.size,
        "device": torch.cuda.get_device_name(world.device) if cuda else "cpu",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def write_facts(out: Path, facts: Mapping[str, Any]) -> None:
    """Write `run.json`."""
    write_atomically(out / RUN, (json.dumps(facts, indent=2) + "\n").encode())


def read_facts(file: Path) -> dict[str, Any]:
    """A `run.json`.

    Raises:
        UsageError: Missing or not one.
    """
    try:
        facts = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {file}: {error}", hint="Give the run.json of an earlier run.") from error
    if not isinstance(facts, dict) or not {"recipe", "config"} <= set(facts):
        raise UsageError(f"{file} does not say which recipe and config it was", hint="Give the run.json of a run.")
    return facts


def refuse_other_run(out: Path, facts: Mapping[str, Any], allow_changed_loop: bool = False) -> list[str]:
    """A run goes on only as it began; or, when told, with another `[loop]`.

    Returns:
        What of `[loop]` has changed since the run began, earlier changes included: for `run.json`.

    Raises:
        UsageError: `out` holds a run with another config or other data; the first differences are named.
    """
    if not (out / RUN).is_file():
        return []
    before, now = read_facts(out / RUN), json.loads(json.dumps(facts))
    different = [key for key in ("recipe", "data") if before.get(key) != now[key]]
    changed = _differences(before["config"], now["config"], "")
    free = [key for key in changed if allow_changed_loop and key.startswith("loop.")]
    different += [key for key in changed if key not in free]
    if different:
        message = f"{out} holds a run that differs in {', '.join(different[:5])}"
        hint = (
            "Choose another --out, or set them back. For keys of [loop]: allow_changed_loop = true goes on with them."
        )
        raise UsageError(message, hint=hint)
    return list(dict.fromkeys([*before.get("changed", []), *free]))


def _differences(before: Any, now: Any, path: str) -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [k for k in dict.fromkeys([*before, *now]) if not (path in ("", "loop") and k in MAY_CHANGE)]
        inner = [(before.get(k), now.get(k), f"{path}.{k}" if path else k) for k in keys]
        return [name for a, b, key in inner for name in _differences(a, b, key)]
    return [] if before == now else [path]


def plain(value: Any) -> Any:
    """Tuples as lists, paths as text: what JSON and TOML can hold."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def save(file: Path, state: Mapping[str, Any]) -> None:
    """Write tensors so that a kill leaves the earlier file whole.

    Raises:
        StorageError: The disk is full.
    """
    try:
        with replacing(file, hint=MAKE_ROOM) as part:
            torch.save(dict(state), part)
    except RuntimeError as error:  # so PyTorch reports a full disk
        raise StorageError(f"cannot write {file}: {error}", hint=MAKE_ROOM) from error


def load(file: Path, device: torch.device) -> dict[str, Any]:
    """Read what `save` wrote; never runs code."""
    state: dict[str, Any] = torch.load(file, weights_only=True, map_location=device)
    return state
