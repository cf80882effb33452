"""`geoglot segment`: words to a class map of a scene file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoglot.cli.app import PLAIN
from geoglot.cli.options import AllowedHosts, Definitions, ModelName, Roots, reach_of

if TYPE_CHECKING:
    from geoglot.tasks.segment.scene import SegmentReport

app = typer.Typer(**PLAIN)


@app.command()
def segment(
    scene: Annotated[str, typer.Argument(metavar="SCENE", help="A raster file, or its address.")],
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            "-c",
            metavar="WORDS",
            help='A class, "building,roof" with synonyms, "Town: building,roof" with a name; repeat.',
        ),
    ] = None,
    background: Annotated[
        str | None, typer.Option(metavar="WORDS", help="What is none of the classes: words, or auto.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the files go.")] = Path("segments"),
    vectors: Annotated[
        list[str] | None, typer.Option(metavar="FORMAT", help="Polygons: geojson, gpkg, parquet, none; repeat.")
    ] = None,
    model: ModelName = None,
    definitions: Definitions = None,
    window_m: Annotated[float | None, typer.Option(metavar="N", help="Side of a window in metres.")] = None,
    window_px: Annotated[int | None, typer.Option(metavar="N", help="The same in pixels of the scene.")] = None,
    model_px: Annotated[int | None, typer.Option(metavar="N", help="Side at which the model sees a window.")] = None,
    overlap: Annotated[float, typer.Option(metavar="N", help="Share that windows repeat of their neighbour.")] = 0.5,
    presence: Annotated[float, typer.Option(metavar="N", help="Leave out less present classes; 0 keeps all.")] = 0.001,
    cls_bias: Annotated[
        float, typer.Option(metavar="N", help="Weight of a window's own score; SegEarth-OV: -0.3.")
    ] = 0.0,
    upsampler: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Follow edges: what `train upsample` left. Needs PyTorch.")
    ] = None,
    root: Roots = None,
    allow_host: AllowedHosts = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Map classes, asked for in words, over a scene of any size.

    Leaves a class map (GeoTIFF), confidence, polygons, a legend and a picture in a folder.
    """
    from geoglot.imagery.scene import open_scene
    from geoglot.models.encoder import dense
    from geoglot.models.load import load_encoder
    from geoglot.models.zoo.registry import DEFAULT_MODEL
    from geoglot.tasks.segment.classes import read_classes
    from geoglot.tasks.segment.files import check_vectors
    from geoglot.tasks.segment.scene import plan_scene, segment_scene
    from geoglot.tasks.segment.segmenter import Segmenter, SegmentSettings
    from geoglot.tasks.segment.windows import words_of

    asked = read_classes(classes or ())  # what is wrong with them is told before a model is opened
    settings = SegmentSettings(
        window_m=window_m,
        window_px=window_px,
        model_px=model_px,
        overlap=overlap,
        background=words_of(background),
        presence=presence,
        cls_bias=cls_bias,
    )
    formats = check_vectors([format for format in vectors or ["geojson"] if format != "none"])
    with open_scene(scene, reach=reach_of(root, allow_host)) as opened:
        encoder = dense(load_encoder(model or DEFAULT_MODEL, definitions=definitions))
        segmenter = Segmenter(encoder, asked, settings, _upsampler(upsampler))
        if dry_run:
            report = plan_scene(segmenter, opened)
        else:
            with _progress() as progress:
                report = segment_scene(segmenter, opened, out, vectors=formats, progress=progress)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(report, out, dry_run)


def _upsampler(path: Path | None) -> Any:
    if path is None:
        return None
    from geoglot.models.upsample import load_upsampler

    return load_upsampler(path)


@contextmanager
def _progress() -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from geoglot.cli.screen import notes

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeRemainingColumn())
    with Progress(*columns, console=notes(), transient=True, disable=not notes().is_terminal) as bar:
        task = bar.add_task("segmenting", total=1.0)
        yield lambda share, words: bar.update(task, completed=share, description=words)


def _print(report: SegmentReport, out: Path, dry_run: bool) -> None:
    from geoglot.cli.screen import metres, plural, results, say, seconds

    screen = results()
    side = metres(report.window_m) if report.window_m else f"{report.window_px:.0f} px"
    screen.print(
        f"{report.scene}: {report.width:,} x {report.height:,} px, {plural(report.windows, 'window')} of {side}, "
        f"seen at {report.shown_px} px by {report.model}."
    )
    for note in report.notes:
        say(note)
    if dry_run:
        return
    screen.print(_classes(report))
    screen.print(f"{plural(report.polygons, 'polygon')}, {seconds(report.elapsed_s)}.")
    say(f"Wrote {', '.join(report.files)} into {out}")


def _classes(report: SegmentReport) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("value", justify="right")
    table.add_column("class", overflow="fold")
    for name in ("share", "hectares", "presence"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in report.classes:
        if entry.value == 0 and not entry.pixels:
            continue
        hectares = "-" if entry.area_m2 is None else f"{entry.area_m2 / 1e4:,.2f}"
        sure = "" if entry.presence is None else f"{entry.presence:.0%}" + ("" if entry.present else " absent")
        table.add_row(str(entry.value), entry.name, f"{entry.share:.1%}", hectares, sure)
    return table
