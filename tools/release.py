"""Build a release, look at it, and tag it. It uploads nothing: that is done by hand, from `dist/`.

    python tools/release.py build           wheel and source archive into dist/, checked
    python tools/release.py tag             the same on a clean checkout, and a git tag v<version>

Needs `build` and `twine`. The map page must have been built before (npm run build in web/): a wheel without it is
refused, unless --without-page is given. `tag` also wants a dated section for the version in CHANGELOG.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
NEEDED = (
    "geoglot/py.typed", "geoglot/version.py", "geoglot/models/bundled/geoglot-mini/card.toml",
    "geoglot/cli/app.py", "geoglot_sandbox/country.py",
)  # fmt: skip
PAGE = "geoglot/server/page/index.html"
FOREIGN = re.compile(r"^(tests?|benchmarks|tools|web)/|(^|/)(node_modules|__pycache__)/|\.(pyc|pt|pth)$")
LARGEST_MB = 60


class ReleaseError(Exception):
    """Why there is no release."""


def version() -> str:
    """As src/geoglot/version.py says."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "src/geoglot/version.py").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise ReleaseError("src/geoglot/version.py holds no version")
    return found[1]


def wrong_with_wheel(wheel: Path, expected: str, *, page: bool = True) -> list[str]:
    """All that is wrong with a wheel, in sentences."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next((name for name in names if name.endswith(".dist-info/METADATA")), None)
        facts = Parser().parsestr(archive.read(metadata).decode("utf-8")) if metadata else None
    problems = [f"{name} is missing" for name in (*NEEDED, *([PAGE] if page else [])) if name not in names]
    problems += [f"{name} does not belong in a wheel" for name in names if FOREIGN.search(name)]
    if facts is None or facts["Version"] != expected:
        problems.append(f"the metadata says version {facts and facts['Version']}, not {expected}")
    if (size := wheel.stat().st_size / 1e6) > LARGEST_MB:
        problems.append(f"the wheel has {size:.0f} MB, over {LARGEST_MB}")
    return problems


def build(*, page: bool) -> None:
    """Wheel and source archive of this version into dist/, and their checks.

    Raises:
        ReleaseError: Something is wrong with them.
    """
    for old in DIST.glob("geoglot-*"):
        old.unlink()
    _run(sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT))
    made = sorted(DIST.glob("geoglot-*"))
    _run(sys.executable, "-m", "twine", "check", "--strict", *map(str, made))
    wheels = [path for path in made if path.suffix == ".whl"]
    if len(wheels) != 1 or len(made) != 2:
        raise ReleaseError(f"dist/ holds {[path.name for path in made]}, not one wheel and one source archive")
    if problems := wrong_with_wheel(wheels[0], version(), page=page):
        raise ReleaseError("\n".join(problems))
    print(f"Built {', '.join(path.name for path in made)}")


def tag() -> None:
    """A git tag v<version>, after all checks.

    Raises:
        ReleaseError: The checkout is not clean, the changelog has no dated section, or the tag is there.
    """
    name = f"v{version()}"
    if _run("git", "status", "--porcelain"):
        raise ReleaseError("the checkout is not clean: commit first")
    if not re.search(
        rf"^## \[{re.escape(version())}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    ):
        raise ReleaseError(f"CHANGELOG.md has no section '## [{version()}] - DATE'")
    if _run("git", "tag", "--list", name):
        raise ReleaseError(f"the tag {name} is there already: raise the version in src/geoglot/version.py")
    build(page=True)
    _run("git", "tag", "--annotate", name, "--message", f"geoglot {version()}")
    print(f"Tagged {name}. Upload by hand: python -m twine upload dist/*; git push origin {name}")


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command[:4])} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Do what is asked; 1 when there is no release."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("build", "tag"))
    parser.add_argument("--without-page", action="store_true", help="take a wheel without the map page")
    asked = parser.parse_args()
    try:
        tag() if asked.what == "tag" else build(page=not asked.without_page)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
