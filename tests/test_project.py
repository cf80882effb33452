"""The project's own files: coverage floors, release checks, forge and citation files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
floor, release = import_module("coverage_floor"), import_module("release")


def _report(**files: tuple[int, int]) -> dict[str, object]:
    rows = {path: {"summary": {"covered_lines": ran, "num_statements": count}} for path, (ran, count) in files.items()}
    return {"files": rows}


def test_coverage_is_summed_over_the_statements_of_a_room() -> None:
    files = {
        "src/geoglot/archive/store.py": (10, 10),
        "src/geoglot/archive/scan.py": (60, 90),
        "src/geoglot/errors.py": (9, 9),
        "src/geoglot_sandbox/town.py": (1, 2),
        "src/geoglot/data/__init__.py": (0, 0),
    }
    assert floor.covered(_report(**files)) == {"archive": 70.0, "errors": 100.0, "geoglot_sandbox": 50.0}


@pytest.mark.parametrize(("ran", "code"), [(84, 1), (85, 0)])
def test_a_room_below_the_floor_fails(tmp_path: Path, ran: int, code: int) -> None:
    (tmp_path / "coverage.json").write_text(json.dumps(_report(**{"src/geoglot/cli/app.py": (ran, 100)})))
    command = [sys.executable, str(ROOT / "tools" / "coverage_floor.py"), str(tmp_path / "coverage.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("below 85 %" in done.stdout) == bool(code)


def _wheel(path: Path, names: list[str], version: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
        archive.writestr(
            f"geoglot-{version}.dist-info/METADATA", f"Metadata-Version: 2.4\nName: geoglot\nVersion: {version}\n"
        )
    return path


def test_a_good_wheel_passes_and_a_bad_one_is_told(tmp_path: Path) -> None:
    names = [*release.NEEDED, "geoglot/data/benchmarks/classes/ucm.txt", release.PAGE]
    assert release.wrong_with_wheel(_wheel(tmp_path / "a.whl", names, "1.2.3"), "1.2.3") == []
    bad = _wheel(tmp_path / "b.whl", [*names[1:-1], "tests/test_x.py"], "1.2.2")
    told = release.wrong_with_wheel(bad, "1.2.3")
    assert f"{names[0]} is missing" in told
    assert f"{release.PAGE} is missing" in told
    assert any("tests/test_x.py" in line for line in told)
    assert any("1.2.2" in line for line in told)
    assert f"{release.PAGE} is missing" not in release.wrong_with_wheel(bad, "1.2.3", page=False)


def test_the_release_takes_the_packages_version() -> None:
    import geoglot

    assert release.version() == geoglot.__version__
    assert f"## [{geoglot.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_forge_runs_what_ci_runs() -> None:
    """Each check of .ci/run stands in the workflow, for each Python that the classifiers name."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    steps = [str(step.get("run", "")) for job in workflow["jobs"].values() for step in job["steps"]]
    for check in ("ruff check", "ruff format --check", "mypy", "mkdocs build", "pytest", "npm run build"):
        assert any(check in step for step in steps), check
    pythons = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert [python for python in pythons if f'"Programming Language :: Python :: {python}"' not in text] == []


def test_six_papers_are_cited() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    papers = {reference["url"].rpartition("/")[2] for reference in cited["references"]}
    assert papers == {"2306.11300", "2502.09598", "2502.13990", "2511.14901", "2410.23370", "2507.06231"}


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_forge_files_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


def test_the_newcomers_table_names_at_most_three_places_each() -> None:
    """CONTRIBUTING says what to change for a filter, a task, a recipe and a layout; every place is there."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = text[text.index("| to add |") :].split("\n\n")[0].splitlines()[2:]
    places = {
        row.split(" | ")[0].strip("| "): re.findall(r"\]\(([^)]+)\)|`((?:src|configs)[^`]*/)`", row) for row in table
    }
    assert {"a filter", "a task", "a recipe", "a segmentation layout"} <= set(places)
    for wish, files in places.items():
        assert 1 <= len(files) <= 3, wish
        assert [file for pair in files for file in pair if file and not (ROOT / file).exists()] == [], wish
