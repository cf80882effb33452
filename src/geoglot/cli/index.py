"""`geoglot index`: bring an archive up to date, look into it, check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoglot.cli.app import PLAIN, VerbGroup
from geoglot.cli.options import AllowedHosts, ArchivePath, ModelName, Roots, reach_of

if TYPE_CHECKING:
    from geoglot.archive.archive import ArchiveInfo
    from geoglot.archive.ingest_report import IngestReport
    from geoglot.imagery.grid import ChipGrid
    from geoglot.models.card import Card

LISTED = 20
"""Scenes or failures listed by name before the rest is only counted; --json has them all."""


class IndexGroup(VerbGroup):
    """`geoglot index PATH` is `geoglot index add PATH`."""

    default_verb = "add"


app = typer.Typer(
    cls=IndexGroup,
    **PLAIN,
    help="Bring an archive up to date with scenes; look into it; check it. `geoglot index PATH` adds.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command()
def add(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Folder, raster, glob, or STAC item, collection or catalogue (URL)."),
    ],
    archive: ArchivePath = Path(".geoglot"),
    model: ModelName = None,
    chip_m: Annotated[
        list[float] | None, typer.Option(help="Side of a chip on the ground in metres; repeat for several.")
    ] = None,
    overlap: Annotated[float | None, typer.Option(help="Share of a chip its neighbour repeats, 0 to 0.9.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep scenes whose files are gone.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 if any scene could not be used.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done; write nothing.")] = False,
    root: Roots = None,
    allow_host: AllowedHosts = None,
    as_json: AsJson = False,
) -> None:
    """Add new scenes, replace changed ones, drop those whose files are gone; unchanged scenes are skipped.

    Makes the archive if there is none. May be interrupted at any moment and run again.
    """
    from geoglot.archive.ingest import ingest
    from geoglot.cli.screen import ingest_progress
    from geoglot.models.load import load_encoder

    encoder = load_encoder(_model_of(archive, model))
    grid = _grid(archive, encoder.card, chip_m, overlap)
    with ingest_progress() as show:
        report = ingest(
            archive,
            sources,
            encoder,
            grid,
            prune=not keep,
            dry_run=dry_run,
            reach=reach_of(root, allow_host),
            on_progress=show,
        )
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print_report(report)
    if strict and report.failed:
        raise typer.Exit(2)


def _model_of(archive: Path, model: str | None) -> str:
    """The model asked for, or the one an existing archive was built with, or the bundled one."""
    from geoglot.archive.manifest import MANIFEST_FILE, read_manifest
    from geoglot.models.zoo.registry import DEFAULT_MODEL

    if model is not None:
        return model
    return read_manifest(archive).model if (archive / MANIFEST_FILE).is_file() else DEFAULT_MODEL


def _grid(archive: Path, card: Card, chip_m: list[float] | None, overlap: float | None) -> ChipGrid | None:
    """None leaves the choice to ingest; options change the archive's grid, or the standard one of a new archive."""
    from dataclasses import replace

    from geoglot.archive.ingest import default_grid
    from geoglot.archive.manifest import MANIFEST_FILE, read_manifest
    from geoglot.imagery.grid import ChipGrid

    if not chip_m and overlap is None:
        return None
    known = (archive / MANIFEST_FILE).is_file()
    grid = ChipGrid.from_dict(read_manifest(archive).grid) if known else default_grid(card)
    if chip_m:
        grid = replace(grid, ground_m=tuple(sorted(chip_m)), max_scales=len(chip_m))
    return grid if overlap is None else replace(grid, overlap=overlap)


@app.command()
def remove(
    scenes: Annotated[list[str], typer.Argument(metavar="SCENE...", help="Scene id, name, path, glob or folder.")],
    archive: ArchivePath = Path(".geoglot"),
    as_json: AsJson = False,
) -> None:
    """Take scenes out of the archive. Their files are not touched; indexing their folder again brings them back."""
    from geoglot.archive.ingest import remove_scenes
    from geoglot.cli.screen import plural, results

    gone = [info.uri for info in remove_scenes(archive, scenes)]
    if as_json:
        typer.echo(json.dumps({"removed": gone}, indent=2, ensure_ascii=False))
        return
    results().print(f"Removed {plural(len(gone), 'scene')} from {archive}.")
    _list(results(), "", gone)


@app.command()
def info(archive: ArchivePath = Path(".geoglot"), as_json: AsJson = False) -> None:
    """Say what an archive holds: scenes, chips, dates, sensors, places, model and chip grid."""
    from geoglot.archive.archive import Archive
    from geoglot.cli.screen import info_table, results

    found = Archive.open(archive).info()
    if as_json:
        typer.echo(json.dumps(_plain(found), indent=2, ensure_ascii=False))
    else:
        results().print(info_table(found))


def _plain(found: ArchiveInfo) -> dict[str, Any]:
    times = found.acquired
    return {
        "archive": str(found.path),
        "scenes": found.scenes,
        "chips": found.chips,
        "undated": found.undated,
        "unplaced": found.unplaced,
        "acquired": [t and t.isoformat() for t in (times.start, times.end)] if times else None,
        "gsd_m": found.gsd_m,
        "bbox_lonlat": found.bbox_lonlat.lonlat if found.bbox_lonlat else None,
        "sensors": found.sensors,
        "size_bytes": found.size_bytes,
        "model": found.manifest.model,
        "fingerprint": found.manifest.fingerprint,
        "grid": found.manifest.grid,
        "created": found.manifest.created.isoformat(),
    }


@app.command()
def check(archive: ArchivePath = Path(".geoglot"), as_json: AsJson = False) -> None:
    """Read the whole archive and say what is wrong with it. Exits with 1 if anything is."""
    from geoglot.archive.archive import Archive
    from geoglot.cli.screen import plural, results

    problems = Archive.open(archive).check()
    if as_json:
        typer.echo(json.dumps({"ok": not problems, "problems": problems}, indent=2, ensure_ascii=False))
    else:
        results().print(f"{plural(len(problems), 'problem')} in {archive}:" if problems else f"{archive} is sound.")
        _list(results(), "", problems)
    if problems:
        raise typer.Exit(1)


def _print_report(report: IngestReport) -> None:
    from geoglot.cli.screen import notes, plain, plural, results, say, seconds

    out = results()
    changes = [(name, getattr(report, name)) for name in ("added", "replaced", "removed")]
    told = ", ".join(f"{len(uris):,} {name}" for name, uris in changes if uris) or "nothing new"
    verb = "Would change" if report.dry_run else "Archive"
    out.print(f"{verb} {report.archive}: {told}, {len(report.unchanged):,} unchanged.")
    if report.dry_run:
        for name, uris in changes:
            _list(out, name, uris)
    else:
        empty = f", {report.chips_empty:,} empty ones left out" if report.chips_empty else ""
        rate = f" ({report.chips_per_s:,.0f} chips/s)" if report.chips else ""
        out.print(f"{plural(report.chips, 'chip')} written{empty} in {seconds(report.elapsed_s)}{rate}.")
    if report.failed:
        notes().print(f"{plural(len(report.failed), 'scene')} could not be used:", style="bold yellow")
        _list(
            notes(), "", [f"{plain(f.uri)}\n    {f.message}" + f"\n    {f.hint}" * bool(f.hint) for f in report.failed]
        )
    elif report.added and not report.dry_run:
        where = "" if report.archive == ".geoglot" else f" --archive {report.archive!r}"
        say(f'Now ask: geoglot "harbour with boats"{where}')


def _list(console: Any, label: str, lines: tuple[str, ...] | list[str]) -> None:
    for line in lines[:LISTED]:
        console.print(f"  {label} {line}" if label else f"  {line}", soft_wrap=True)
    if len(lines) > LISTED:
        console.print(f"  ... and {len(lines) - LISTED:,} more; --json lists all.")
