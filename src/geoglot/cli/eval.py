"""`geoglot eval`: a protocol's numbers for a model, beside the published ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from geoglot.cli.app import PLAIN
from geoglot.cli.options import Definitions
from geoglot.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from geoglot.evaluation.report import Table

FEW = 4
"""A table with more columns than this is shown without its intervals, or no screen holds it."""

NEEDED = 180
"""Letters across that a table may take on a narrower screen: a table that is folded cannot be read."""

app = typer.Typer(**PLAIN)


@app.command(name="eval")
def evaluate_models(
    suite: Annotated[str | None, typer.Argument(metavar="SUITE", help="What to run; --list names them.")] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A model; repeat for several.")] = None,
    data: Annotated[
        Path, typer.Option(envvar="GEOGLOT_DATA", metavar="FOLDER", help="Folder above the data sets.")
    ] = Path("data"),
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="On this set instead of the suite's; repeat for several.")
    ] = None,
    format: Annotated[
        Literal["table", "json", "csv", "md"], typer.Option("--format", "-f", help="How to print.")
    ] = "table",
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write here instead.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="A dry look: at most so many images of each set.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of intervals and of what is drawn.")] = 0,
    partial: Annotated[bool, typer.Option("--partial", help="Take sets that are not whole; numbers say so.")] = False,
    cache: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where image embeddings are kept.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Encode anew and keep nothing.")] = False,
    definitions: Definitions = None,
    list_all: Annotated[bool, typer.Option("--list", help="Name the suites and data sets, and stop.")] = False,
) -> None:
    """Measure models by a named protocol, beside the published numbers of the same protocol."""
    from geoglot.cli.screen import say
    from geoglot.evaluation.embeddings import Kept, cache_folder
    from geoglot.evaluation.report import format_report, tables
    from geoglot.evaluation.suites import Options, evaluate, find_suites
    from geoglot.models.load import load_encoder
    from geoglot.models.zoo.registry import DEFAULT_MODEL

    if list_all:
        _list()
        return
    if suite is None:
        raise UsageError("no suite named", hint="geoglot eval --list names them.")
    wanted = find_suites(suite, dataset or ())
    kept = None if no_cache else Kept(cache or cache_folder())
    with _progress() as told:
        options = Options(data, limit, seed, kept, partial, told, definitions)
        numbers = evaluate(wanted, (load_encoder(name) for name in model or [DEFAULT_MODEL]), options)
    if out is not None:
        out.write_text(format_report(numbers, "md" if format == "table" else format), "utf-8")
        say(f"{len(numbers)} numbers in {out}")
    elif format == "table":
        _print(tables(numbers))
    else:
        typer.echo(format_report(numbers, format), nl=False)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr: which model on which set, images per second, time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from geoglot.cli.screen import notes

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes(), transient=True, disable=not notes().is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield told


def _print(found: Sequence[Table]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Grid

    from geoglot.cli.screen import results

    out = results()
    out.width = max(out.width, NEEDED)
    for table in found:
        wide = len(table.columns) > FEW
        grid = Grid(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, title=table.title, title_justify="left")
        for name in ("model", *table.columns):
            grid.add_column(name, no_wrap=True)
        for row in table.rows:
            grid.add_row(row[0], *(cell.split(" (")[0] if wide and "to" in cell else cell for cell in row[1:]))
        out.print(grid)
        for note in (*table.notes, *(["95 % intervals: --format md, csv or json"] if wide else [])):
            out.print(f"- {note}", style="dim")
        out.print()


def _list() -> None:
    from geoglot.data.benchmarks.catalogue import catalogue
    from geoglot.data.segmentation.catalogue import catalogue as mask_sets
    from geoglot.evaluation.suites import suites

    typer.echo("suites")
    for name, (about, parts) in suites().items():
        typer.echo(f"  {name:<20} {about}")
        typer.echo(f"  {'':<20} on {', '.join(dict.fromkeys(d for part in parts for d in part.datasets))}")
    typer.echo("data sets")
    for entry in catalogue().values():
        typer.echo(f"  {entry.name:<20} {entry.title} ({entry.kind}; {entry.licence}; {entry.page})")
    for masks in mask_sets().values():
        page = masks.page or "no public page"
        typer.echo(f"  {masks.name:<20} {masks.title} (segmentation; {masks.licence}; {page})")
