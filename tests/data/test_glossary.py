from __future__ import annotations

import re
from collections import defaultdict

import pytest

from geoglot.data.glossary import KINDS, LANGUAGES, concepts, templates

HAN = re.compile(r"[\u3400-\u9fff]")
HANGUL = re.compile(r"[\uac00-\ud7a3]")
CYRILLIC = re.compile(r"[\u0400-\u04ff]")
PLACES = {"land_use", "land_cover", "object"}


def test_has_the_breadth_that_was_promised() -> None:
    assert sum(c.kind in PLACES for c in concepts().values()) >= 150
    assert {c.kind for c in concepts().values()} <= set(KINDS)


def test_every_form_is_lower_case_and_owned_once() -> None:
    for language in LANGUAGES:
        owners = defaultdict(set)
        for concept in concepts().values():
            for form in concept.forms[language]:
                assert form == form.lower().strip(), (concept.id, form)
                assert "*" not in form.strip("*").replace("* ", "").replace(" *", ""), (concept.id, form)
                owners[form].add(concept.id)
        assert {form: ids for form, ids in owners.items() if len(ids) > 1} == {}


@pytest.mark.parametrize(("language", "script"), [("zh", HAN), ("ko", HANGUL), ("ru", CYRILLIC)])
def test_forms_are_written_in_their_script(language: str, script: re.Pattern[str]) -> None:
    assert [c.id for c in concepts().values() if not any(script.search(f) for f in c.forms[language])] == []


def test_first_form_is_a_plain_word() -> None:
    for concept in concepts().values():
        for language in LANGUAGES:
            assert concept.name(language)
            assert "*" not in concept.name(language)


def test_templates_have_a_place_for_the_noun() -> None:
    for language in LANGUAGES:
        sentences = templates()[language]
        assert len(sentences.image) >= 5
        assert all(s.count("{c}") == 1 for s in sentences.image + sentences.query)
        assert sentences.noise
