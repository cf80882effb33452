"""Output for people: tables on stdout, notes and progress on stderr. rich is imported at first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geoglot.types import Match, Spot

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from geoglot.archive.archive import ArchiveInfo
    from geoglot.archive.ingest_report import Progress
    from geoglot.archive.pictures import Unread
    from geoglot.training.journal import Progress as TrainingProgress


LIKELY = 0.5
"""Places below this confidence are more likely not what was asked; they are printed in quiet letters."""


_UNSEEN = (
    *range(32), *range(127, 160),  # C0 and C1
    0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A),  # ends of lines, turns of direction
)  # fmt: skip
_MARK = "\N{REPLACEMENT CHARACTER}"


def plain(text: str, keep: str = "") -> str:
    """A text without characters that steer a terminal or turn what follows, but for those in `keep`."""
    return text.translate({n: _MARK for n in _UNSEEN if chr(n) not in keep})


def _console(stderr: bool = False) -> Console:
    """A console on which no text steers the terminal; styles are rich's own."""
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **style: Any) -> Text:
            return super().render_str(plain(text, keep="\n\t"), **style)

    return PlainConsole(highlight=False, emoji=False, markup=False, stderr=stderr, soft_wrap=stderr)


def results() -> Console:
    """Stdout."""
    return _console()


def notes() -> Console:
    """Stderr."""
    return _console(stderr=True)


def say(text: str) -> None:
    """A note on stderr, in quiet letters."""
    notes().print(text, style="dim")


def plural(count: int, word: str) -> str:
    """`1 place`, `2,000 places`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def metres(value: float | None) -> str:
    """Three digits and a unit: `640 m`, `1.28 km`, `7.5 cm`."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.3g} km"
    return f"{value:.3g} m" if value >= 1 else f"{value * 100:.3g} cm"


def seconds(value: float) -> str:
    """`0.08 s`, `12 s`, `3 min 20 s`."""
    if value < 10:
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def place(match: Match) -> str:
    """The middle of a chip as `34.6012 N 127.3010 E`, or its pixel box where the earth is not known."""
    box = match.chip.bbox_lonlat
    if box is None:
        x0, y0, x1, y1 = match.chip.window.box_px
        return f"px {x0},{y0}-{x1},{y1}"
    east = box.east + (360 if box.crosses_antimeridian else 0)
    lat, lon = (box.south + box.north) / 2, ((box.west + east) / 2 + 180) % 360 - 180
    return f"{abs(lat):.4f} {'S' if lat < 0 else 'N'} {abs(lon):.4f} {'W' if lon < 0 else 'E'}"


def match_table(matches: Sequence[Match]) -> Table:
    """Matches as a table that fits 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    rated = all(match.confidence is not None for match in matches)
    table.add_column("conf." if rated else "score", justify="right", no_wrap=True, style="bold")
    table.add_column("scene", overflow="fold", min_width=12)
    spots = any(match.spot for match in matches)
    table.add_column("spot" if spots else "place", no_wrap=True, min_width=10)
    table.add_column("side", justify="right", no_wrap=True)
    table.add_column("date", no_wrap=True, min_width=10)
    for match in matches:
        date = f"{match.scene.acquired:%Y-%m-%d}" if match.scene.acquired else "-"
        facts = (spot_place(match.spot) if match.spot else place(match), metres(match.chip.ground_m), date)
        sure = match.confidence
        style = "dim" if sure is not None and sure < LIKELY else None
        rating = f"{match.score:.3f}" if sure is None else f"{sure:.0%}"
        table.add_row(str(match.rank), rating, plain(match.scene.name), *facts, style=style)
    return table


def spot_place(spot: Spot) -> str:
    """Where in a chip, for people."""
    if spot.lonlat is None:
        return f"px {spot.x_px:.0f},{spot.y_px:.0f}"
    lon, lat = spot.lonlat
    return f"{abs(lat):.5f} {'S' if lat < 0 else 'N'} {abs(lon):.5f} {'W' if lon < 0 else 'E'}"


def info_table(found: ArchiveInfo) -> Table:
    """An archive in numbers, two columns."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _info_rows(found):
        table.add_row(name, value)
    return table


def _info_rows(found: ArchiveInfo) -> Iterator[tuple[str, str]]:
    manifest, times, gsd = found.manifest, found.acquired, found.gsd_m
    yield "archive", f"{found.path}  ({found.size_bytes / 1e6:,.1f} MB, made {manifest.created:%Y-%m-%d})"
    yield "scenes", f"{found.scenes:,}"
    yield "chips", f"{found.chips:,}"
    dates = f"{times.start:%Y-%m-%d} to {times.end:%Y-%m-%d}" if times else "not known"
    yield "taken", dates + _without(found.undated, "a date")
    sizes = f"{metres(gsd[0])} to {metres(gsd[1])} per pixel" if gsd else "not known"
    yield "resolution", sizes + _without(found.unplaced, "a place")
    if found.bbox_lonlat:
        yield "bbox", " ".join(f"{degrees:.4f}" for degrees in found.bbox_lonlat.lonlat) + "  (W S E N)"
    yield "sensors", ", ".join(f"{name} ({count:,})" for name, count in found.sensors.items()) or "not known"
    sides = " ".join(metres(float(side)) for side in manifest.grid.get("ground_m", ()))
    yield "chip grid", f"{sides}; overlap {manifest.grid.get('overlap', 0):.0%}"
    yield "model", f"{manifest.model} ({manifest.fingerprint})"


def _without(count: int, what: str) -> str:
    return f"; {plural(count, 'scene')} without {what}" if count else ""


def tell_unread(unread: Sequence[Unread]) -> None:
    """Name the scenes that a picture could not show."""
    for scene in unread:
        notes().print(f"Not drawn: {scene.scene}: {scene.reason}", style="yellow")


@contextmanager
def drawing_progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on stderr. Gives the callback for `draw_country`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("Drawing"), BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=notes(), transient=True, disable=not notes().is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, name: bar.update(task, completed=done, total=total, description=name)


@contextmanager
def ingest_progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr: scenes, chips per second, time left. Gives the callback for `ingest`."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("scenes  {task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=notes(), transient=True, disable=not notes().is_terminal) as bar:
        task = bar.add_task("Indexing", total=None, rate="")

        def show(state: Progress) -> None:
            rate = state.chips / state.elapsed_s if state.elapsed_s > 0 else 0.0
            bar.update(task, completed=state.done, total=state.scenes, rate=f"{rate:,.0f} chips/s")

        yield show


@contextmanager
def training_progress() -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar on stderr: steps, loss, samples per second, share of time waiting for data, time left.

    Without a terminal, a line now and then. Gives the callback for a recipe.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("Training"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(compact=True),
    )
    terminal = notes().is_terminal
    with Bar(*columns, console=notes(), transient=True, disable=not terminal) as bar:
        task = bar.add_task("", total=None, facts="")

        def show(state: TrainingProgress) -> None:
            facts = f"loss {state.loss:.3f}  {state.samples_per_s:,.1f} samples/s  data wait {state.wait_share:.0%}"
            bar.update(task, completed=state.step, total=state.steps, facts=facts)
            if not terminal:
                say(f"step {state.step:,}/{state.steps:,}  epoch {state.epoch:.2f}  {facts}")

        yield show


def show_logs() -> None:
    """Send what the rooms log to stderr, in quiet letters; warnings in yellow."""
    import logging

    class ToNotes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes().print(self.format(record), style="yellow" if record.levelno >= logging.WARNING else "dim")

    root = logging.getLogger("geoglot")
    if not root.handlers:
        root.addHandler(ToNotes())
        root.setLevel(logging.INFO)
