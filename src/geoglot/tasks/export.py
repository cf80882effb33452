"""The answer to a question as a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from geoglot.archive.answers import FORMATS, write_answer
from geoglot.archive.archive import Archive
from geoglot.archive.request import SearchRequest, option
from geoglot.errors import EmptyQueryError, UnknownNameError, UsageError
from geoglot.tasks.registry import Report
from geoglot.types import SceneInfo

MAX_MATCHES = 10_000
MAX_POINTED = 200


@dataclass(frozen=True, kw_only=True)
class ExportRequest(SearchRequest):
    """A question, which chips, how many, and the format."""

    limit: int = option(f"most places, to {MAX_MATCHES:,}", 1000)
    format: str = option(f"{', '.join(FORMATS)}", "geojson")
    min_confidence: float = option("leave out what is less likely, 0 to 1", 0.0)
    merge: bool = option("fold what overlaps a better hit", True)
    all: bool = option("give the nearest misses too when nothing matches", False)
    point: int = option("look closer at so many of the best chips, and say where in each; 0 to 200", 0)

    def reads(self, archive: Archive) -> list[SceneInfo]:
        """Scenes of the chips that `point` looks at; without it no scene is opened."""
        if self.point < 1:
            return []
        terms = self.terms(archive)
        found = archive.search(terms, self.filter(), limit=min(self.point, MAX_POINTED), merge=self.merge)
        return [match.scene for match in found.matches]


def export(archive: Archive, request: ExportRequest, folder: Path, report: Report) -> None:
    """Write result.<format>; the records are those of the command line. Paths of scenes become their names.

    Raises:
        QueryError: The question cannot be asked (EmptyQueryError, UnknownWordsError among them).
        UsageError: A value is wrong.
        StorageError: The file cannot be written.
    """
    if request.format not in FORMATS:
        raise UnknownNameError("format", request.format, FORMATS)
    if not 1 <= request.limit <= MAX_MATCHES:
        raise UsageError(f"limit {request.limit} must lie in 1 to {MAX_MATCHES:,}")
    if not 0 <= request.point <= MAX_POINTED:
        raise UsageError(f"point {request.point} must lie in 0 to {MAX_POINTED}")
    if not request.has_question:
        raise EmptyQueryError("nothing to search for", hint="Give q, like or image.")
    report(0.1, "searching")
    terms = request.terms(archive)
    found = archive.search(terms, request.filter(), limit=request.limit, merge=request.merge, point=request.point)
    kept = () if found.nothing_matches and not request.all else found.matches
    likely = tuple(m for m in kept if m.confidence is None or m.confidence >= request.min_confidence)
    named = tuple(replace(m, scene=replace(m.scene, uri=public_uri(m.scene.uri))) for m in likely)
    report(0.6, f"{len(named):,} places")
    text = " + ".join([request.q] * bool(request.q) + [*request.like] + ["picture"] * len(request.image))
    write_answer(folder / f"result.{request.format}", replace(found, matches=named), text, request.format)
    report(1.0, f"{len(named):,} places")


def public_uri(uri: str) -> str:
    """An address as it is; of a local path only the file's name: where it lies is the server's business alone."""
    return uri if uri.startswith(("http://", "https://")) else Path(uri).name
