"""`geoglot localize`: where in a scene file do sentences hold?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoglot.cli.app import PLAIN
from geoglot.cli.options import AllowedHosts, ModelName, Roots, reach_of

if TYPE_CHECKING:
    from geoglot.tasks.localize.localizer import LocalizePlan

app = typer.Typer(**PLAIN)


@app.command()
def localize(
    scene: Annotated[str, typer.Argument(metavar="SCENE", help="A raster file, or its address.")],
    text: Annotated[list[str], typer.Argument(metavar="TEXT...", help="What to look for; several share one pass.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the files go.")] = Path("localized"),
    model: ModelName = None,
    finer: Annotated[
        bool, typer.Option("--finer", help="Look inside the smallest windows, too; costs about six times more.")
    ] = False,
    side: Annotated[
        list[int] | None, typer.Option(metavar="PX", help="A window's side in pixels; repeat. Default 256 512 768.")
    ] = None,
    ground: Annotated[
        list[float] | None, typer.Option(metavar="M", help="The same in metres, for scenes with a place.")
    ] = None,
    level: Annotated[float, typer.Option(metavar="N", help="Where the map runs 0 to 1: regions begin here.")] = 0.75,
    most: Annotated[int, typer.Option(min=1, metavar="N", help="Regions of a sentence.")] = 20,
    root: Roots = None,
    allow_host: AllowedHosts = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show where in a scene sentences hold.

    Leaves heat maps (GeoTIFF), regions (GeoJSON), pictures and a report in a folder.
    """
    from geoglot.imagery.grid import SIDES_PX
    from geoglot.imagery.scene import open_scene
    from geoglot.models.load import load_encoder
    from geoglot.models.zoo.registry import DEFAULT_MODEL
    from geoglot.tasks.localize.localizer import LocalizeSettings, localize_scene, make_folder, make_plan
    from geoglot.tasks.localize.scene import write_heats

    settings = LocalizeSettings(tuple(side or SIDES_PX), tuple(ground or ()), finer, level, most)
    with open_scene(scene, reach=reach_of(root, allow_host)) as opened:
        plan = make_plan(opened, text, settings)
        if dry_run:
            _tell_plan(opened.info.name, plan, as_json)
            return
        encoder = load_encoder(model or DEFAULT_MODEL)
        make_folder(out)
        with _progress() as report:
            facts = write_heats(opened, plan, localize_scene(opened, encoder, text, plan, report), text, out)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _tell(facts, plan, out)


@contextmanager
def _progress() -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from geoglot.cli.screen import notes

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeRemainingColumn())
    with Progress(*columns, console=notes(), transient=True, disable=not notes().is_terminal) as bar:
        task = bar.add_task("looking", total=1.0)
        yield lambda share, words: bar.update(task, completed=share, description=words)


def _tell_plan(name: str, plan: LocalizePlan, as_json: bool) -> None:
    from geoglot.cli.screen import plural, results

    facts = {"windows": plan.windows, "sides_px": list(plan.settings.sides_px), "cell_px": plan.settings.cell_px}
    if as_json:
        said = {"scene": name, **facts, "map_px": [plan.width, plan.height], "notes": list(plan.notes)}
        typer.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    results().print(
        f"{name}: {plural(plan.windows, 'window')} of {', '.join(map(str, plan.settings.sides_px))} px, "
        f"a map of {plan.width} x {plan.height} cells of {plan.settings.cell_px} px."
    )
    _tell_notes(plan)


def _tell_notes(plan: LocalizePlan) -> None:
    from geoglot.cli.screen import say

    for note in plan.notes:
        say(f"{note[0].upper()}{note[1:]}.")


def _tell(facts: dict[str, Any], plan: LocalizePlan, out: Path) -> None:
    from geoglot.cli.screen import results, say

    for row in facts["sentences"]:
        nothing = " Nothing matches; the nearest:" if row["nothing_matches"] else ""
        results().print(f"{row['sentence']}:{nothing}", style="bold", markup=False)
        for note in row["notes"]:
            results().print(f"  {note}")
        for region in row["regions"]:
            results().print(f"  {_line(region)}", markup=False)
    _tell_notes(plan)
    say(f"{plan.windows:,} windows. Wrote {out}")


def _line(region: dict[str, Any]) -> str:
    sure = "" if region["confidence"] is None else f", {region['confidence']:.0%} likely"
    place = f"px {region['peak_x_px']:.0f},{region['peak_y_px']:.0f}"
    if region["peak_lon"] is not None:
        lat, lon = region["peak_lat"], region["peak_lon"]
        place = f"{abs(lat):.5f} {'S' if lat < 0 else 'N'} {abs(lon):.5f} {'W' if lon < 0 else 'E'}"
    width, height = region["x1_px"] - region["x0_px"], region["y1_px"] - region["y0_px"]
    return f"{region['rank']}. {place}, {width} x {height} px, level {region['level']:.2f}{sure}"
