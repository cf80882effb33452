"""The glossary: words for what a scene can show, in ten languages, kept as TOML beside this file (see its README)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from geoglot.errors import UsageError

LANGUAGES = ("en", "es", "fr", "de", "pt", "it", "nl", "ru", "zh", "ko")
KINDS = ("land_use", "land_cover", "object", "attribute", "number", "colour", "relation", "action")
PLACES = frozenset({"land_use", "land_cover", "object"})
"""Kinds of things that an image can show; the other kinds say more of them."""
Scale = Literal["fine", "coarse", "both"]
"""How close the pictures are that a look is asked for."""
_FOLDER = Path(__file__).parent
_TEMPLATES = "templates.toml"


@dataclass(frozen=True, slots=True)
class Looks:
    """The look of a concept from above, in plain English sentences that stand without its name.

    Attributes:
        fine: At 0.1 to 1 m per pixel, where single things show.
        coarse: At about 10 m per pixel, where colour, texture and outline are left.
    """

    fine: tuple[str, ...]
    coarse: tuple[str, ...]

    def at(self, scale: Scale) -> tuple[str, ...]:
        """The sentences of one scale, or of both, the fine ones first."""
        return {"fine": self.fine, "coarse": self.coarse, "both": self.fine + self.coarse}[scale]


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing that can be asked for.

    Attributes:
        id: English singular snake_case; unique.
        kind: One of KINDS.
        gloss: Short English phrase with its article.
        looks: What it looks like from above.
        forms: Language -> ways to write it; the first is the dictionary form, `*` at an end matches any letters.
    """

    id: str
    kind: str
    gloss: str
    looks: Looks
    forms: dict[str, tuple[str, ...]]

    def name(self, language: str = "en") -> str:
        """The dictionary form in a language, for people and templates."""
        return self.forms[language][0].replace("*", "")


@dataclass(frozen=True, slots=True)
class Templates:
    """Sentence frames of one language; `{c}` stands for a bare noun.

    Attributes:
        image: Captions of an image.
        query: Questions to an archive.
        noise: Words and phrases that carry no content.
    """

    image: tuple[str, ...]
    query: tuple[str, ...]
    noise: tuple[str, ...]


@cache
def concepts() -> dict[str, Concept]:
    """All concepts by id, in file order (files sorted by name).

    Raises:
        UsageError: Two tables share an id, or a table lacks a language or a look, or has an unknown kind.
    """
    found: dict[str, Concept] = {}
    for path in sorted(_FOLDER.glob("*.toml")):
        if path.name == _TEMPLATES:
            continue
        for key, table in tomllib.loads(path.read_text("utf-8")).items():
            if key in found:
                raise UsageError(f"glossary concept {key!r} is defined twice; the second is in {path.name}")
            found[key] = _concept(key, table, path.name)
    return found


def _concept(key: str, table: dict[str, Any], file: str) -> Concept:
    missing = [language for language in LANGUAGES if not table.get(language)]
    if missing:
        raise UsageError(f"glossary concept {key!r} in {file} has no words in {', '.join(missing)}")
    if table.get("kind") not in KINDS:
        raise UsageError(f"glossary concept {key!r} in {file} has kind {table.get('kind')!r}, not one of {KINDS}")
    forms = {language: tuple(table[language]) for language in LANGUAGES}
    return Concept(key, str(table["kind"]), str(table["gloss"]), _looks(key, table.get("looks", {}), file), forms)


def _looks(key: str, table: dict[str, Any], file: str) -> Looks:
    if set(table) != {"fine", "coarse"} or not all(table.values()):
        raise UsageError(f"glossary concept {key!r} in {file} needs sentences in looks.fine and looks.coarse, alone")
    return Looks(tuple(table["fine"]), tuple(table["coarse"]))


@cache
def templates() -> dict[str, Templates]:
    """Sentence templates by language."""
    raw = tomllib.loads((_FOLDER / _TEMPLATES).read_text("utf-8"))
    return {
        language: Templates(*(tuple(raw[language][key]) for key in ("image", "query", "noise")))
        for language in LANGUAGES
    }
