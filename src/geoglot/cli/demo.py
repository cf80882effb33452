"""`geoglot demo`: first success, offline, on a country that geoglot draws itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoglot.cli.app import PLAIN
from geoglot.cli.options import ModelName
from geoglot.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from geoglot.archive.answers import Answered
    from geoglot.archive.archive import Archive
    from geoglot.data.drawn import CountryReport
    from geoglot.models.encoder import DualEncoder

QUESTIONS = (
    ("en", "boats moored in a harbour"),
    ("fr", "avions garés à l'aéroport"),
    ("es", "una planta solar"),
    ("zh", "储油罐"),
    ("ru", "мост через реку"),
)
PLACES, TABLED = 6, 3
"""Places per question on the map, and in the terminal."""

LEFT = {
    "map.html": "the answers on a map; open it in a browser",
    "preview.png": "the places as pictures",
    "results.geojson": "the places for QGIS",
}

app = typer.Typer(**PLAIN)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to put it all.")] = Path("geoglot-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Which country to draw.")] = 7,
    model: ModelName = None,
) -> None:
    """Draw a country, index it, ask five questions in five languages. About a minute, offline.

    Leaves results.geojson, preview.png and map.html in the folder. The imagery is synthetic: drawn, not photographed.
    """
    from geoglot.archive.archive import Archive
    from geoglot.cli.screen import results
    from geoglot.models.load import load_encoder
    from geoglot.models.zoo.registry import DEFAULT_MODEL

    out = results()
    _refuse_strange(folder)
    encoder = load_encoder(model or DEFAULT_MODEL)
    out.print(
        "All imagery in this demo is synthetic: a country that geoglot draws, with made-up places.", style="yellow"
    )
    country = _draw(out, folder, seed)
    archive = folder / "archive"
    _index(out, country, archive, encoder)
    opened = Archive.open(archive, encoder)
    _leave(out, folder, opened, _ask(out, opened))


def _refuse_strange(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / "catalog.json").is_file())):
        raise UsageError(f"{folder} holds other things", hint="Choose another place: geoglot demo --folder NAME")


def _draw(out: Console, folder: Path, seed: int) -> CountryReport:
    from geoglot.cli.screen import drawing_progress, plural, seconds
    from geoglot.data.drawn import draw_country

    started = time.perf_counter()
    with drawing_progress() as show:
        country = draw_country(folder, seed, on_progress=show)
    scenes, objects = plural(len(country.scenes), "scene"), plural(country.objects, "object")
    out.print(f"Drew    {scenes} with {objects} in {seconds(time.perf_counter() - started)}.")
    return country


def _index(out: Console, country: CountryReport, archive: Path, encoder: DualEncoder) -> None:
    from geoglot.archive.ingest import ingest
    from geoglot.cli.screen import ingest_progress, plural, seconds

    with ingest_progress() as show:
        report = ingest(archive, country.catalog, encoder, on_progress=show)
    took = f"{seconds(report.elapsed_s)} ({report.chips_per_s:,.0f} chips/s)"
    out.print(f"Indexed {plural(report.seen, 'scene')} as {plural(report.chips, 'chip')} in {took}.")


def _ask(out: Console, archive: Archive) -> list[Answered]:
    from geoglot.archive.answers import Answered
    from geoglot.cli.screen import match_table

    answers = []
    for language, question in QUESTIONS:
        result = archive.search(question, limit=PLACES)
        answers.append(Answered(question, result, language))
        out.print()
        out.print(f"{language}  {question}", style="bold")
        if result.nothing_matches:
            out.print("Nothing is likely enough to be called a match. The nearest misses:")
        out.print(match_table(result.matches[:TABLED]))
    return answers


def _leave(out: Console, folder: Path, archive: Archive, answers: list[Answered]) -> None:
    from geoglot.archive.answers import write_answers
    from geoglot.archive.map_page import Question, write_map_page
    from geoglot.archive.pictures import Section, contact_sheet
    from geoglot.cli.screen import tell_unread

    write_answers(folder / "results.geojson", answers)
    sections = [Section(a.question, a.result.matches, a.result.nothing_matches) for a in answers]
    unread = contact_sheet(folder / "preview.png", sections, columns=PLACES)
    questions = [Question(a.question, a.result.matches, a.result.nothing_matches, a.language) for a in answers]
    scenes = [record.info for record in archive.scenes()]
    title, note = "Five questions to a drawn country", "synthetic imagery"
    tell_unread(unread + write_map_page(folder / "map.html", questions, scenes=scenes, title=title, note=note))
    out.print("\nNow look at")
    width = max(len(str(folder / name)) for name in LEFT)
    for name, what in LEFT.items():
        out.print(f"  {folder / name!s:<{width}}  {what}", soft_wrap=True)
    out.print(f'and ask your own: geoglot "football pitch" --archive {archive.path}', soft_wrap=True)
