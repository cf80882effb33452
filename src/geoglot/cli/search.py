"""`geoglot search`: ask an archive a question; the verb that is used when none is named."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoglot.archive.request import SearchRequest
from geoglot.cli.app import PLAIN
from geoglot.cli.options import ArchivePath, Definitions, ModelName, with_options_of
from geoglot.errors import EmptyQueryError, UnknownNameError, UsageError
from geoglot.types import TimeRange

if TYPE_CHECKING:
    from geoglot.archive.answers import SearchResult
    from geoglot.archive.filters import Filter
    from geoglot.archive.query import Term

FORMATS = ("table", "json", "geojson", "csv", "parquet")


app = typer.Typer(**PLAIN)


@app.command(
    epilog='Examples:   geoglot "boats moored in a harbour" --bbox 32 -1 33 1 --since 2019-01-01   |   '
    'geoglot \'"harbour" + ./ship.png - "bridge"\' -f geojson > places.geojson'
)
@with_options_of(SearchRequest, without=("q", "intersects", "datetime"))
def search(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]", help="The question, in any language of the model."),
    ] = None,
    archive: ArchivePath = Path(".geoglot"),
    *,
    request: SearchRequest,
    within: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only in the polygons of this GeoJSON file.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="Taken on or after: 2019, 2019-06, ...")] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Taken on or before; 2019 means all of it.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Places to show.")] = 20,
    offset: Annotated[int | None, typer.Option(min=0, help="Skip so many.")] = None,
    page: Annotated[int | None, typer.Option(min=1, help="Or: show this page.")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Leave out what is less likely.")
    ] = None,
    no_merge: Annotated[bool, typer.Option("--no-merge", help="Do not fold overlapping places into one.")] = False,
    point: Annotated[
        bool, typer.Option("--point", help="Look closer at the best chips, and say where in each.")
    ] = False,
    candidates: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many of the best chips --point looks at.")
    ] = 50,
    show_all: Annotated[bool, typer.Option("--all", help="Show the nearest misses too when nothing matches.")] = False,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", metavar="FORMAT", help=f"{' | '.join(FORMATS)}. Default: as --output ends, else table."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the answer here, not to stdout.")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the places as a contact sheet, e.g. out.png.")
    ] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="Draw them on a map page, e.g. map.html.")
    ] = None,
    model: ModelName = None,
    definitions: Definitions = None,
) -> None:
    """Ask an archive a question. `search` may be left out.

    Parts of a question may be added and taken away: '"harbour" + ./ship.png - "bridge"'.

    Filters are applied before ranking. The answer goes to stdout, all else to stderr.
    """
    from geoglot.archive.archive import Archive
    from geoglot.archive.geojson import read_region
    from geoglot.models.load import load_encoder

    chosen = _format(format, output)
    question, terms = _question(text or [], request)
    filter = request.filter()
    if within:
        filter = replace(filter, polygon=read_region(within))
    if since or until:
        filter = replace(filter, time=TimeRange.parse(since, until))
    skip = _offset(offset, page, limit)
    opened = Archive.open(archive, load_encoder(model or _model_of(archive), definitions=definitions))
    answer = opened.search(terms, filter, limit=limit, offset=skip, merge=not no_merge, point=candidates * point)
    result = _shown(answer, min_confidence, show_all)
    _comment(answer, result, filter, skip)
    _deliver(result, question, chosen, output)
    _draw(result, question, preview, map_file)


def _format(name: str | None, output: Path | None) -> str:
    suffix = output.suffix.lower().lstrip(".") if output else ""
    if output and name is None and suffix not in FORMATS:
        raise UsageError(
            f"{str(output)!r} does not tell its format", hint=f"Add --format, or end it in {', '.join(FORMATS[1:])}."
        )
    chosen = name or suffix or "table"
    if chosen not in FORMATS:
        raise UnknownNameError("format", chosen, FORMATS)
    if chosen == "table" and output:
        raise UsageError(
            f"a table is not written to a file ({output})", hint="Use --format csv, or leave out --output."
        )
    if chosen == "parquet" and not output and sys.stdout.isatty():
        raise UsageError("parquet is binary and stdout is a terminal", hint="Add --output places.parquet.")
    return chosen


def _question(text: list[str], request: SearchRequest) -> tuple[str, tuple[Term, ...]]:
    """The question for people, and its terms; here pictures are files."""
    from geoglot.archive.query import Term, parse_terms

    words = " ".join(text).strip()
    _refuse_folder(words)
    terms = parse_terms(words) if text else ()
    terms += tuple(Term(1.0, "chip", chip) for chip in request.like)
    terms += tuple(Term(1.0, "image", file) for file in request.image)
    if not terms:
        raise EmptyQueryError("nothing to search for", hint='Ask something: geoglot "boats in a harbour"')
    return " + ".join([words] * bool(words) + [*request.like, *request.image]), terms


def _refuse_folder(words: str) -> None:
    if ("/" in words or "\\" in words) and os.path.isdir(words):  # noqa: PTH112 - any text
        raise UsageError(f"{words!r} is a folder, not a question", hint=f"To index it: geoglot index {words!r}")


def _offset(offset: int | None, page: int | None, limit: int) -> int:
    if offset is not None and page is not None:
        raise UsageError("--offset and --page are given together", hint="Use one of them.")
    return offset or (page - 1) * limit if page else offset or 0


def _model_of(archive: Path) -> str:
    from geoglot.archive.manifest import read_manifest

    return read_manifest(archive).model


def _shown(answer: SearchResult, least: float | None, show_all: bool) -> SearchResult:
    """The result without near misses, unless they are asked for, and without what is too unlikely."""
    if answer.nothing_matches and not show_all:
        return replace(answer, matches=())
    if least is None:
        return answer
    if not answer.calibrated:
        raise UsageError(
            "this model has no calibration, so no place has a confidence", hint="Leave --min-confidence out."
        )
    likely = (m for m in answer.matches if m.confidence is not None and m.confidence >= least)
    return replace(answer, matches=tuple(likely))


def _comment(answer: SearchResult, shown: SearchResult, filter: Filter, skip: int) -> None:
    """Notes on the answer, on stderr."""
    from geoglot.cli.screen import notes, plural, say, seconds

    if filter.bbox and filter.bbox.crosses_antimeridian:
        say("The box runs east over the antimeridian (west > east).")
    for count, lack in ((answer.undated, "has no date"), (answer.unplaced, "has no place on the earth")):
        if count:
            say(f"Left out: {plural(count, 'scene')} that {lack if count == 1 else lack.replace('has', 'have')}.")
    if not answer.total:
        notes().print("Nothing to search: the archive holds no chip that the filters let through.", style="bold")
    elif answer.nothing_matches:
        near = " Nearest misses:" if shown.matches else " --all shows the nearest misses." if answer.matches else ""
        notes().print(f"Nothing matches.{near}", style="bold")
    elif not shown.matches:
        notes().print(
            "Nothing on this page." if skip and not answer.matches else "Nothing is that likely.", style="bold"
        )
    if not answer.calibrated:
        say("Not calibrated for this model: places are ranked, but it cannot say how likely one is right.")
    how = "all compared" if answer.path == "exact" else f"{answer.considered:,} compared through the index"
    say(f"{plural(answer.total, 'chip')} searched ({how}) in {seconds(answer.elapsed_s)}.")


def _deliver(result: SearchResult, question: str, format: str, output: Path | None) -> None:
    from geoglot.cli.screen import match_table, results, say

    if format == "table":
        if result.matches:
            results().print(match_table(result.matches))
        return
    from geoglot.archive.answers import format_answer, write_answer

    unplaced = sum(match.chip.bbox_lonlat is None for match in result.matches)
    if unplaced and format in ("geojson", "parquet"):
        say(f"{unplaced} of {len(result.matches)} places have no position on the earth: their geometry is null.")
    if output:
        write_answer(output, result, question, format)
        say(f"Wrote {output}")
    else:
        sys.stdout.buffer.write(format_answer(result, question, format))
        sys.stdout.flush()


def _draw(result: SearchResult, question: str, preview: Path | None, map_file: Path | None) -> None:
    from geoglot.cli.screen import say, tell_unread

    if preview:
        from geoglot.archive.pictures import Section, contact_sheet

        tell_unread(contact_sheet(preview, [Section(question, result.matches, result.nothing_matches)]))
        say(f"Wrote {preview}")
    if map_file:
        from geoglot.archive.map_page import Question, write_map_page

        tell_unread(write_map_page(map_file, [Question(question, result.matches, result.nothing_matches)]))
        say(f"Wrote {map_file}")
