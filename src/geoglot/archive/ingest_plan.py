"""The plan of an ingest: which listed scenes are new, changed or the same, and which scenes are no more."""

from __future__ import annotations

import fnmatch
import glob
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from geoglot.archive.ingest_report import Failure
from geoglot.errors import ArchiveDamagedError, SourceError
from geoglot.files import write_atomically
from geoglot.imagery.addresses import SUFFIXES, Source, fingerprint
from geoglot.imagery.reach import Reach, is_url
from geoglot.imagery.sources import STAC_SUFFIXES, find_sources
from geoglot.types import SceneInfo

LISTINGS_FILE = "listings.json"
"""Per STAC document the URIs that it listed: its scenes may lie anywhere, so only this tells what it dropped."""

Spec = str | Path | Source


@dataclass(frozen=True, slots=True)
class Listing:
    """The sources that the specs of one run stand for.

    Attributes:
        specs: As given; paths absolute.
        sources: In the order of their URIs, each once.
        documents: Per STAC document among the specs, the URIs it lists.
    """

    specs: tuple[str, ...]
    sources: tuple[Source, ...]
    documents: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a run, as URIs; `todo` holds the sources of `added` and `replaced` in reading order."""

    todo: tuple[Source, ...] = ()
    added: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()


def list_sources(specs: Iterable[Spec], reach: Reach) -> Listing:
    """List all specs.

    Raises:
        SourceError: A spec stands for nothing, or cannot be listed.
    """
    sources: dict[str, Source] = {}
    documents: dict[str, tuple[str, ...]] = {}
    names = []
    for spec in specs:
        if isinstance(spec, Source):
            sources.setdefault(spec.uri, spec)
            continue
        rasters = find_sources(spec, reach=reach)
        name = _absolute(spec)
        names.append(name)
        if _is_document(name):
            documents[name] = tuple(source.uri for source in rasters)
        for source in rasters:
            sources.setdefault(source.uri, source)
    if not sources:
        raise SourceError("nothing to index was given", hint="Name a folder, a raster, a glob or a STAC document.")
    return Listing(tuple(names), tuple(sources[uri] for uri in sorted(sources)), documents)


def _absolute(spec: str | Path) -> str:
    text = os.fspath(spec)
    return text if is_url(text) else str(Path(text).expanduser().resolve())


def _is_document(name: str) -> bool:
    if is_url(name):
        return PurePath(name.partition("?")[0]).suffix.lower() not in SUFFIXES
    return PurePath(name).suffix.lower() in STAC_SUFFIXES and Path(name).is_file()


def make_plan(
    listing: Listing, scenes: Iterable[SceneInfo], dropped: Iterable[str], reach: Reach, *, prune: bool
) -> Plan:
    """Compare what is listed with what the archive holds. One stat (or HEAD request) per source.

    Args:
        listing: What there is.
        scenes: What the archive holds.
        dropped: URIs that STAC documents of this run listed once and no longer list.
        reach: What may be read.
        prune: Drop scenes that are no more.
    """
    indexed = {info.uri: info.fingerprint for info in scenes}
    marks, failed = _fingerprints(listing.sources, reach)
    added = frozenset(marks.keys() - indexed.keys())
    replaced = frozenset(uri for uri in marks.keys() & indexed.keys() if marks[uri] != indexed[uri])
    listed = {source.uri for source in listing.sources}
    removed = _gone(listing.specs, indexed.keys() - listed) | (indexed.keys() & set(dropped)) if prune else set()
    return Plan(
        todo=tuple(source for source in listing.sources if source.uri in added | replaced),
        added=added,
        replaced=replaced,
        unchanged=tuple(sorted(marks.keys() - added - replaced)),
        removed=tuple(sorted(removed)),
        failed=tuple(failed),
    )


def _fingerprints(sources: Iterable[Source], reach: Reach) -> tuple[dict[str, str], list[Failure]]:
    marks, failed = {}, []
    for source in sources:
        try:
            marks[source.uri] = fingerprint(source.uri, reach)
        except SourceError as error:
            failed.append(Failure.of(source.uri, error))
    return marks, failed


def _gone(specs: Iterable[str], uris: Iterable[str]) -> set[str]:
    """Local scenes that a folder or glob would list, were their files still there."""
    scopes = [_scope(spec) for spec in specs if not is_url(spec) and not _is_document(spec)]
    return {u for u in uris if not is_url(u) and any(covers(u) for covers in scopes) and _is_gone(u)}


def _is_gone(path: str) -> bool:
    """True when the file is surely not there; what lies in a locked folder is not gone."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _scope(spec: str) -> Callable[[str], bool]:
    if glob.has_magic(spec) and not Path(spec).exists():
        depth = None if "**" in spec else len(PurePath(spec).parts)  # fnmatch's * also runs over slashes
        return lambda uri: fnmatch.fnmatchcase(uri, spec) and depth in (None, len(PurePath(uri).parts))
    return lambda uri: PurePath(uri).is_relative_to(spec)


def read_listings(folder: Path) -> dict[str, tuple[str, ...]]:
    """Per STAC document the URIs that it listed when it was indexed; empty for an archive that saw none.

    Raises:
        ArchiveDamagedError: The file cannot be read.
    """
    path = folder / LISTINGS_FILE
    if not path.exists():
        return {}
    try:
        return {str(name): tuple(map(str, uris)) for name, uris in json.loads(path.read_text("utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ArchiveDamagedError(
            f"{path} cannot be read: {error}", hint="Delete it; the next ingest writes it again."
        ) from error


def write_listings(folder: Path, listings: Mapping[str, Iterable[str]]) -> None:
    """Keep what each STAC document lists, whole or not at all.

    Raises:
        StorageError: The folder cannot be written.
    """
    plain = {name: sorted(uris) for name, uris in sorted(listings.items())}
    write_atomically(folder / LISTINGS_FILE, (json.dumps(plain, indent=1, ensure_ascii=False) + "\n").encode())


def merged_listings(
    before: Mapping[str, tuple[str, ...]], listing: Listing, *, keep: bool
) -> dict[str, tuple[str, ...]]:
    """The listings after a run; `keep` also keeps URIs that its documents no longer list."""
    now = {name: tuple({*uris, *(before.get(name, ()) if keep else ())}) for name, uris in listing.documents.items()}
    return {**before, **now}


def dropped_uris(before: Mapping[str, tuple[str, ...]], listing: Listing) -> set[str]:
    """What STAC documents of this run listed before, and no spec of this run nor any other document lists now."""
    elsewhere = {uri for name, uris in before.items() if name not in listing.documents for uri in uris}
    once = {uri for name in listing.documents for uri in before.get(name, ())}
    return once - {source.uri for source in listing.sources} - elsewhere
