"""The arrows of ARCHITECTURE.md, walked through the code's own imports, and no circles between modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "geoglot"

BASE = {"errors", "types", "config", "files", "pipeline", "version"}
MAY_IMPORT = {
    "errors": set(),
    "types": {"errors"},
    "config": {"errors"},
    "files": {"errors"},
    "pipeline": set(),
    "version": set(),
    "imagery": BASE,
    "data": BASE | {"imagery"},
    "models": BASE | {"imagery", "data"},
    "training": BASE | {"imagery", "data", "models"},
    "scoring": BASE | {"imagery"},
    "archive": BASE | {"imagery", "models", "scoring"},
    "evaluation": BASE | {"imagery", "data", "models", "scoring", "archive", "tasks"},
    "tasks": BASE | {"imagery", "models", "scoring", "archive"},
    "server": BASE | {"imagery", "models", "archive", "tasks"},
}
MAY_IMPORT["api"] = set(MAY_IMPORT) - {"server"}
MAY_IMPORT["cli"] = set(MAY_IMPORT)
SANDBOX = SOURCE.parent / "geoglot_sandbox"
SEAM = SOURCE / "data" / "drawn.py"
"""The one module of geoglot that may import the sandbox."""
DRAWS = {
    "cli/demo.py", "cli/models.py", "training/smoke.py",
    "training/recipes/mini.py", "evaluation/release.py",  # the recipe of the bundled model
    "training/recipes/pair/chips.py",  # training material
}  # fmt: skip
# The archive knows models through the encoder protocol and its card only, never through a runtime.
ARCHIVE_MODELS = {"geoglot.models.encoder", "geoglot.models.card"}
TORCH_ROOMS = {"models", "training"}


def _modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@cache
def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            names |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return names


def _room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows_point_down(path: Path) -> None:
    room = _room(path)
    if room in {"__init__", "__main__"}:
        return
    for name in _imports(path):
        if not name.startswith("geoglot."):
            continue
        target = name.split(".")[1]
        assert target in MAY_IMPORT[room] | {room}, f"{room} must not import {name}"
        if room == "archive" and target == "models":
            assert any(name.startswith(allowed) for allowed in ARCHIVE_MODELS), f"archive must not import {name}"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_torch_stays_in_its_rooms(path: Path) -> None:
    if _room(path) not in TORCH_ROOMS:
        assert not any(name.split(".")[0] in {"torch", "transformers"} for name in _imports(path))


@pytest.mark.parametrize("path", sorted((SOURCE / "scoring").glob("*.py")), ids=lambda p: p.name)
def test_scoring_needs_numpy_only(path: Path) -> None:
    foreign = {name.split(".")[0] for name in _imports(path)} - sys.stdlib_module_names
    assert foreign <= {"geoglot", "numpy"}


def _circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, each imported by the next; empty where there is none.

    Args:
        imports: Module -> all that it imports, at its head, inside functions and under TYPE_CHECKING.
    """
    graph = {name: (others & imports.keys()) - {name} for name, others in imports.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _dotted(path: Path) -> str:
    return ".".join(("geoglot", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert _circle({_dotted(path): _imports(path) for path in _modules()}) == []


def test_a_circle_is_seen_wherever_the_import_stands(tmp_path: Path) -> None:
    heads = {
        "a": "import b",
        "b": "def work():\n    from c import name",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a",
        "d": "import a",
    }
    for name, text in heads.items():
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    imports = {name: _imports(tmp_path / f"{name}.py") for name in heads}
    assert sorted(set(_circle(imports))) == ["a", "b", "c"]
    assert _circle({**imports, "c": set()}) == []


def _imported(path: Path, package: str) -> set[str]:
    return {name for name in _imports(path) if f"{name}.".startswith(f"{package}.")}


def test_the_sandbox_has_one_seam() -> None:
    """geoglot reaches the drawn country through one module, which only the demo and smoke runs need."""
    assert [path for path in _modules() if _imported(path, "geoglot_sandbox")] == [SEAM]
    users = {str(p.relative_to(SOURCE)) for p in _modules() if _imported(p, "geoglot.data.drawn")}
    assert users <= DRAWS


def test_the_sandbox_knows_only_the_errors_of_geoglot() -> None:
    paths = sorted(SANDBOX.rglob("*.py"))
    assert paths
    for path in paths:
        assert all(name.startswith("geoglot.errors") for name in _imported(path, "geoglot")), path


def test_every_folder_is_a_known_room() -> None:
    rooms = {p.name for p in SOURCE.iterdir() if p.is_dir() and not p.name.startswith(("__", "."))}
    assert rooms <= set(MAY_IMPORT)


HEAVY = ("torch", "rasterio", "lancedb", "pyarrow", "onnxruntime", "transformers", "shapely")


@pytest.mark.parametrize("statement", ["import geoglot", "import geoglot.cli", "from geoglot import Bbox, Match"])
def test_import_is_light(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    import geoglot

    assert "Bbox" in dir(geoglot)
    for name in geoglot.__all__:
        assert getattr(geoglot, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        geoglot.nothing  # type: ignore[attr-defined]
