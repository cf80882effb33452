"""`geoglot data`: look into sets of regions and of dense masks, and build region sets from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from geoglot.cli.app import PLAIN
from geoglot.errors import UsageError

if TYPE_CHECKING:
    from geoglot.data.regions.build import BuildReport

app = typer.Typer(**PLAIN, no_args_is_help=True, help="Look into sets of regions and masks; build region sets.")
regions = typer.Typer(**PLAIN, no_args_is_help=True, help="Boxes and polygons with a category or a text.")
app.add_typer(regions, name="regions")

Data = Annotated[
    Path, typer.Option(envvar="GEOGLOT_DATA", metavar="FOLDER", help="What the config's paths are relative to.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be used, counted, and go on.")]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Take this part only.", show_default=False)]


@regions.command(epilog="Example:   geoglot data regions show ./vhr10 --layout coco --split train")
def show(
    path: Annotated[Path, typer.Argument(help="The set's folder or annotation file.")],
    layout: Annotated[Literal["coco", "yolo", "dota", "voc", "mgrs"], typer.Option(help="How it is written.")],
    split: Split = None,
    images: Annotated[str | None, typer.Option(metavar="FOLDER", help="Of the images, below PATH.")] = None,
    labels: Annotated[str | None, typer.Option(metavar="FOLDER", help="Of the label files, below PATH.")] = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Read a set of regions and say what is in it: categories, counts, what was left out and why."""
    from geoglot.data.regions import RegionSource, open_regions
    from geoglot.data.regions.build import kinds

    source = RegionSource(str(path), layout, split, images, labels, bad="skip" if skip_bad else "refuse")
    found = open_regions(source)
    facts = {
        "name": found.name,
        "images": len(found),
        "regions": sum(len(record.regions) for record in found.records),
        "categories": found.counts(),
        "notes": list(found.notes),
        "skipped": kinds(found.skipped),
    }
    _tell(facts, as_json)


@regions.command(epilog="Example:   geoglot data regions build regions.toml --data ./sets --out ./my-regions")
def build(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The sources, TOML.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The new set; a broken run goes on.")],
    data: Data = Path(),
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images instead of linking to them.")] = False,
    skip_bad: SkipBad = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build one set of images with captions and regions from detection and mask sets, in MGRS-200k's layout.

    Captions are made by a template that counts the labels; in Python any captioner can speak.
    """
    from geoglot.data.regions.build import build_regions
    from geoglot.data.regions.build_config import load_build, open_materials

    plan = load_build(config)
    materials = open_materials(plan, data, skip_bad=skip_bad)
    with _progress() as told:
        report = build_regions(
            materials,
            out,
            rename=plan.rename,
            images="copy" if copy else "link",
            dry_run=dry_run,
            on_progress=told,
        )
    _tell(_facts(report), as_json)


@app.command(epilog="Example:   geoglot data masks loveda ./LoveDA --split val")
def masks(
    name: Annotated[str | None, typer.Argument(help="A set, or: folder, coco.", show_default=False)] = None,
    folder: Annotated[Path | None, typer.Argument(help="Where it was unpacked.", show_default=False)] = None,
    split: Split = None,
    as_json: AsJson = False,
) -> None:
    """Find a dense-mask set in its folder and say what is there; without arguments, list the known sets."""
    from geoglot.data.regions.build import kinds
    from geoglot.data.segmentation import open_segmentation
    from geoglot.data.segmentation.catalogue import catalogue

    if name is None:
        _tell({entry.name: f"{entry.title}; {entry.licence}; {entry.page}" for entry in catalogue().values()}, as_json)
        return
    if folder is None:
        raise UsageError(f"where is {name}?", hint="geoglot data masks NAME FOLDER")
    found = open_segmentation(name, folder, split)
    facts = {
        "name": found.name,
        "split": found.split,
        "images": len(found),
        "classes": [", ".join(words) for words in found.classes],
        "metres per pixel": found.gsd_m,
        "from": found.source,
        "notes": list(found.notes),
        "skipped": kinds(found.skipped),
    }
    _tell(facts, as_json)


def _facts(report: BuildReport) -> dict[str, Any]:
    return {
        "folder": "none: a dry run" if report.dry_run else str(report.out),
        "images": report.records,
        "regions": report.regions,
        "done before": report.done_before,
        "captioned now": report.captioned,
        "captioners": list(report.captioners),
        "categories": dict(report.categories),
        "skipped": {name: dict(reasons) for name, reasons in report.skipped.items() if reasons},
    }


def _tell(facts: Mapping[str, Any], as_json: bool) -> None:
    """JSON, or two columns."""
    from rich.table import Table

    from geoglot.cli.screen import results

    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, _plain(value))
    results().print(table)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_plain(one)}" for name, one in value.items()) or "-"
    if isinstance(value, list):
        return "\n".join(map(str, value)) or "-"
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from geoglot.cli.screen import notes

    columns = (TextColumn("Building"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes(), transient=True, disable=not notes().is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
