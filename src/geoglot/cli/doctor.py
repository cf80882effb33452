"""`geoglot doctor`: what is installed, what is missing, and the command that brings it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

from geoglot.cli.app import PLAIN
from geoglot.cli.options import ArchivePath
from geoglot.errors import GeoglotError
from geoglot.version import __version__

State = Literal["ok", "optional", "broken"]
MARKS: dict[State, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "optional": ("-", "dim"),
    "broken": ("BROKEN", "bold red"),
}
MODULES = {"pillow": "PIL", "pyyaml": "yaml"}
"""Import names of packages that differ from the package's name."""
WANTED_DRIVERS = ("GTiff", "COG", "JP2OpenJPEG", "PNG", "JPEG", "WEBP")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        name: What.
        state: "ok"; "optional", absent but not needed; "broken", needed and not usable.
        value: What was found.
        fix: The command or step that mends it, or an empty string.
    """

    name: str
    state: State
    value: str
    fix: str = ""


app = typer.Typer(**PLAIN)


@app.command()
def doctor(
    archive: ArchivePath = Path(".geoglot"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Say what is installed, what is missing, and how to get it. Exits with 1 if something needed is broken."""
    checks = [*_system(), *_packages(), *_extras(), *_models(), *_drivers(), *_archive(archive)]
    broken = [check for check in checks if check.state == "broken"]
    if as_json:
        typer.echo(json.dumps({"ok": not broken, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        _print(checks, len(broken))
    if broken:
        raise typer.Exit(1)


def _print(checks: list[Check], broken: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from geoglot.cli.screen import plural, results

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark, style = MARKS[check.state]
        value = Text(check.value)
        if check.fix:
            value.append(f"\n{check.fix}", style="cyan")
        table.add_row(Text(mark, style=style), check.name, value)
    results().print(table)
    results().print(f"\n{plural(broken, 'thing')} to mend." if broken else "\nAll that is needed works.")


def _system() -> Iterator[Check]:
    yield Check("geoglot", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    version = platform.python_version()
    fine = sys.version_info >= (3, 11)
    yield Check("python", "ok" if fine else "broken", version, "" if fine else "geoglot needs Python 3.11 or newer.")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("processor", "ok", f"{platform.machine()}, {usable} of {os.cpu_count()} threads usable")
    yield _writable(Path.cwd())


def _writable(folder: Path) -> Check:
    """Archives are made in the current folder unless --archive says otherwise; geoglot keeps no other cache."""
    free = _free_gb(folder)
    if os.access(folder, os.W_OK):
        return Check("folder", "ok", f"{folder} is writable, {free:.1f} GB free")
    return Check(
        "folder", "optional", f"{folder} cannot be written", "Use --archive FOLDER to keep the archive elsewhere."
    )


def _free_gb(folder: Path) -> float:
    import shutil

    return shutil.disk_usage(folder).free / 1e9


def _packages() -> Iterator[Check]:
    """Every required package, imported: a wheel that does not load is as bad as one that is missing."""
    for name in required_packages():
        yield _package(name)


def required_packages() -> tuple[str, ...]:
    """Names of the packages that geoglot's own metadata requires without an extra."""
    wanted = metadata.requires("geoglot") or []
    return tuple(_bare(line) for line in wanted if "extra ==" not in line)


def extra_packages() -> dict[str, tuple[str, ...]]:
    """Extra -> packages it brings, the development ones aside."""
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("geoglot") or []:
        if "extra ==" in line and not line.startswith("geoglot"):
            extra = line.partition("extra ==")[2].strip(" '\")")
            extras.setdefault(extra, []).append(_bare(line))
    return {name: tuple(packages) for name, packages in extras.items() if name != "dev"}


def _bare(requirement: str) -> str:
    """`numpy>=2.0; python_version > "3"` -> `numpy`."""
    name = requirement.partition(";")[0]
    for sign in "<>=!~[ (":
        name = name.partition(sign)[0]
    return name.strip()


def _package(name: str) -> Check:
    from importlib import import_module

    try:
        version = metadata.version(name)
        import_module(MODULES.get(name, name.replace("-", "_")))  # metadata spells names with hyphens
    except metadata.PackageNotFoundError:
        return Check(name, "broken", "not installed", f"Run: pip install {name}")
    except (ImportError, OSError) as error:
        return Check(name, "broken", f"does not load: {error}", f"Run: pip install --force-reinstall {name}")
    return Check(name, "ok", version)


def _extras() -> Iterator[Check]:
    for extra, packages in extra_packages().items():
        found = {name: _version(name) for name in packages}
        missing = [name for name, version in found.items() if version is None]
        listed = ", ".join(f"{name} {version}" for name, version in found.items() if version)
        label = f"extra {extra}"
        if missing:
            told = f"{', '.join(missing)} not installed" + (f" ({listed} is)" if listed else "")
            yield Check(label, "optional", told, f'Run: pip install "geoglot[{extra}]"')
        else:
            yield Check(label, "ok", listed)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _models() -> Iterator[Check]:
    from geoglot.models.zoo.registry import DEFAULT_MODEL, bundled_models, find_card

    reinstall = "Run: pip install --force-reinstall geoglot"
    if DEFAULT_MODEL not in bundled_models():
        yield Check(f"model {DEFAULT_MODEL}", "broken", "not in this installation", reinstall)
    for name in bundled_models():
        try:
            card = find_card(name)
            card.verify()
        except GeoglotError as error:
            yield Check(f"model {name}", "broken", str(error), error.hint or reinstall)
            continue
        size = sum(card.file(role).stat().st_size for role in card.files) / 1e6
        languages = " ".join(card.languages)
        yield Check(f"model {name}", "ok", f"version {card.version}, checksums right, {size:.1f} MB, {languages}")


def _drivers() -> Iterator[Check]:
    try:
        import rasterio
        from rasterio.drivers import raster_driver_extensions
        from rasterio.env import Env
    except ImportError:
        return  # already told as a package that does not load
    with Env() as env:
        known = set(env.drivers()) | set(raster_driver_extensions().values())
    missing = [name for name in WANTED_DRIVERS if name not in known]
    have = " ".join(name for name in WANTED_DRIVERS if name in known)
    value = f"{rasterio.__gdal_version__}: {have}" + (f"; without {' '.join(missing)}" if missing else "")
    needed = "GTiff" in missing
    fix = "Run: pip install --force-reinstall rasterio" if missing else ""
    yield Check("gdal", "broken" if needed else "optional" if missing else "ok", value, fix)


def _archive(folder: Path) -> Iterator[Check]:
    from geoglot.archive.manifest import MANIFEST_FILE, read_manifest

    if not (folder / MANIFEST_FILE).exists():
        yield Check("archive", "optional", f"none at {folder}", "Run: geoglot index FOLDER, or geoglot demo")
        return
    try:
        manifest = read_manifest(folder)
    except GeoglotError as error:
        yield Check("archive", "broken", str(error), error.hint)
        return
    yield Check("archive", "ok", f"{folder}, built {manifest.created:%Y-%m-%d} with {manifest.model}")
