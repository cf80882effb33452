from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from geoglot.data import glossary
from geoglot.data.glossary import KINDS, LANGUAGES, PLACES, concepts, templates
from geoglot.errors import UsageError

HAN = re.compile(r"[\u3400-\u9fff]")
HANGUL = re.compile(r"[\uac00-\ud7a3]")
CYRILLIC = re.compile(r"[\u0400-\u04ff]")


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


def test_every_concept_has_a_look_at_both_scales() -> None:
    for concept in concepts().values():
        for sentences in (concept.looks.fine, concept.looks.coarse):
            assert 1 <= len(sentences) <= 3, concept.id
            for sentence in sentences:
                assert 4 <= len(sentence.split()) <= 32, sentence
                assert sentence[0].isupper(), sentence
                assert sentence.endswith("."), sentence


def test_no_look_is_written_twice() -> None:
    counts = Counter(sentence for concept in concepts().values() for sentence in concept.looks.at("both"))
    assert [sentence for sentence, times in counts.items() if times > 1] == []


def test_a_look_says_more_than_the_name() -> None:
    """Without the words of the name, an article or "seen from above", something is left to see."""
    idle = set(re.findall(r"\w+", "a an the of on in at with and or from is are seen above picture image satellite"))
    for concept in concepts().values():
        names = {word for form in concept.forms["en"] for word in re.findall(r"\w+", form)}
        for sentence in concept.looks.at("both"):
            assert not re.search(rf"\b{concept.name()}\b", sentence.lower()), (concept.id, sentence)
            words = re.findall(r"\w+", sentence.lower())
            assert len([w for w in words if w not in names | idle]) >= 3, (concept.id, sentence)


@pytest.mark.parametrize(
    "looks", ["", 'looks.fine = ["It is round."]', 'looks = {fine = ["A."], coarse = ["B."], far = []}']
)
def test_a_table_without_both_looks_is_refused(looks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "\n".join(f'{language} = ["x"]' for language in LANGUAGES)
    (tmp_path / "one.toml").write_text(f'[disc]\nkind = "object"\ngloss = "a disc"\n{looks}\n{words}\n', "utf-8")
    monkeypatch.setattr(glossary, "_FOLDER", tmp_path)
    with pytest.raises(UsageError, match=r"'disc' in one.toml needs sentences in looks.fine and looks.coarse"):
        concepts.__wrapped__()


def test_templates_have_a_place_for_the_noun() -> None:
    for language in LANGUAGES:
        sentences = templates()[language]
        assert len(sentences.image) >= 5
        assert all(s.count("{c}") == 1 for s in sentences.image + sentences.query)
        assert sentences.noise
