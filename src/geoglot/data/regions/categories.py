"""One numbering of categories for many sets, however each of them spells its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from geoglot.data.regions.captions import spoken
from geoglot.errors import UnknownNameError, UsageError


@dataclass(frozen=True, slots=True)
class CategoryIds:
    """Global ids.

    Attributes:
        names: Of each id, as spoken.
        ids: Folded spelling -> id.
    """

    names: tuple[str, ...]
    ids: Mapping[str, int]

    def of(self, category: str) -> int:
        """The id of a category of one of the sets."""
        return self.ids[fold(category)]


def fold(name: str) -> str:
    """The part of a spelling that counts: case, spaces, "-" and "_" do not ("Storage-Tank", "storagetank")."""
    return "".join(letter for letter in name.casefold() if letter not in " -_")


def category_ids(sets: Sequence[Iterable[str]], rename: Mapping[str, str]) -> CategoryIds:
    """Number the categories of all sets in order of first appearance.

    Args:
        sets: Categories of each set.
        rename: Spelling -> the name that all sets share.

    Raises:
        UsageError: A new name is empty.
        UnknownNameError: A category to rename is in no set.
    """
    spelled = list(dict.fromkeys(category for categories in sets for category in categories))
    known = {fold(category) for category in spelled}
    for old, new in rename.items():
        if fold(old) not in known:
            raise UnknownNameError("category to rename", old, spelled)
        if not fold(new):
            raise UsageError(f"category {old!r} is renamed to nothing")
    shared = {fold(old): new for old, new in rename.items()}
    preferred = {fold(new): new for new in rename.values()}
    names: dict[str, str] = {}
    ids: dict[str, int] = {}
    for category in spelled:
        name = shared.get(fold(category), category)
        names.setdefault(fold(name), spoken(preferred.get(fold(name), name)))
        ids[fold(category)] = list(names).index(fold(name))
    return CategoryIds(tuple(names.values()), ids)
