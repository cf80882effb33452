"""Several archives asked as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from geoglot.archive.answers import SearchResult
from geoglot.archive.archive import Archive
from geoglot.archive.filters import Filter
from geoglot.archive.listing import Listing
from geoglot.archive.request import SearchRequest
from geoglot.errors import UnknownNameError
from geoglot.types import Chip, Match, SceneInfo


@dataclass(frozen=True, slots=True)
class ManyMatches:
    """A page of the answer of several archives.

    Attributes:
        matches: (archive's name, match), best first; ranks count over all archives.
        offsets: How many matches of each archive were given so far.
        more: Whether there are matches behind this page.
        answers: What each archive said.
    """

    matches: tuple[tuple[str, Match], ...]
    offsets: Mapping[str, int]
    more: bool
    answers: Mapping[str, SearchResult]

    @property
    def nothing_matches(self) -> bool:
        """Whether no archive holds anything likely enough."""
        return all(answer.nothing_matches for answer in self.answers.values())


def search_many(
    archives: Mapping[str, Archive],
    request: SearchRequest,
    *,
    limit: int,
    offsets: Mapping[str, int],
    merge: bool = True,
    all: bool = False,
    min_confidence: float = 0.0,
    others: Sequence[Archive] = (),
) -> ManyMatches:
    """Ask each archive, and merge the answers by score, or by confidence where models differ.

    Each archive's own order is kept; the next match is the best among those that are next in their archives.

    Args:
        archives: Name -> archive.
        request: What is asked, and of which chips; a sensor or scene need only be known to one of the archives.
        limit: Most matches.
        offsets: How many of each archive's matches were given before.
        merge: See Archive.search.
        all: Give the nearest misses of archives in which nothing matches.
        min_confidence: Leave out what is less likely.
        others: Archives that are not asked, but may hold a chip that is asked for.

    Raises:
        QueryError, UnknownNameError, UsageError: As Archive.search.
    """
    holders = [*archives.values(), *others]
    filter = request.filter()
    answers = {}
    unknown: UnknownNameError | None = None
    for name, archive in archives.items():
        terms = request.terms(archive, holders)
        try:
            answers[name] = archive.search(terms, filter, limit=limit + 1, offset=offsets.get(name, 0), merge=merge)
        except UnknownNameError as error:
            unknown = error
    if not answers and unknown is not None:
        raise unknown
    given = {name: a.matches if all or not a.nothing_matches else () for name, a in answers.items()}
    page = _merged(given, limit, by_confidence=len({archive.manifest.fingerprint for archive in archives.values()}) > 1)
    taken = {name: sum(other == name for other, _ in page) for name in given}
    first = sum(offsets.values()) + 1
    ranked = tuple((name, replace(match, rank=first + i)) for i, (name, match) in enumerate(page))
    likely = tuple(pair for pair in ranked if pair[1].confidence is None or pair[1].confidence >= min_confidence)
    more = any(len(given[name]) > taken[name] for name in given) and bool(likely)
    return ManyMatches(likely, {name: offsets.get(name, 0) + taken[name] for name in given}, more, answers)


def _merged(given: Mapping[str, Sequence[Match]], limit: int, *, by_confidence: bool) -> list[tuple[str, Match]]:
    at = dict.fromkeys(given, 0)
    page: list[tuple[str, Match]] = []

    def worth(name: str) -> float:
        match = given[name][at[name]]
        return match.confidence if by_confidence and match.confidence is not None else match.score

    while len(page) < limit and (left := [name for name in given if at[name] < len(given[name])]):
        best = max(left, key=worth)  # the first of equals: the order in which archives were given
        page.append((best, given[best][at[best]]))
        at[best] += 1
    return page


@dataclass(frozen=True, slots=True)
class ManyChips:
    """A page of the chips of several archives, one archive after the other.

    Attributes:
        chips: (archive's name, chip, its scene).
        total: On all pages.
        more: Whether there are chips behind this page.
    """

    chips: tuple[tuple[str, Chip, SceneInfo], ...]
    total: int
    more: bool


def list_many(archives: Mapping[str, Archive], filter: Filter, *, limit: int, after: Mapping[str, str]) -> ManyChips:
    """Chips without a question.

    Args:
        archives: Name -> archive.
        filter: Which chips; a sensor or scene need only be known to one of the archives.
        limit: Most chips.
        after: Archive's name -> the last chip that was given of it; archives before the last of them are done with.

    Raises:
        UnknownNameError, UsageError: As Archive.list_chips.
    """
    names = list(archives)
    done = max((names.index(name) for name in after if name in archives), default=0)
    chips: list[tuple[str, Chip, SceneInfo]] = []
    total, more = 0, False
    unknown: UnknownNameError | None = None
    heard = False
    for number, (name, archive) in enumerate(archives.items()):
        try:
            page = _page(archive, filter, limit - len(chips), after.get(name, ""))
        except UnknownNameError as error:
            unknown = error
            continue
        heard = True
        total += page.total
        if number < done:
            continue
        room = limit - len(chips)
        chips += [(name, chip, scene) for chip, scene in page.chips[:room]]
        more = more or page.more or len(page.chips) > room
    if not heard and unknown is not None:
        raise unknown
    return ManyChips(tuple(chips), total, more)


def _page(archive: Archive, filter: Filter, room: int, after: str) -> Listing:
    """At least one chip is asked for: a full page must know whether there is more."""
    return archive.list_chips(filter, limit=max(1, room), after=after)
