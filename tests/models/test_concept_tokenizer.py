from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from geoglot.data.glossary import LANGUAGES, concepts
from geoglot.data.glossary.reading import build_trie, words_of
from geoglot.errors import EmptyQueryError, ModelFileError, UnknownWordsError
from geoglot.models.tokenizers.concepts import ConceptTokenizer


@cache
def tokenizer() -> ConceptTokenizer:
    return ConceptTokenizer.from_glossary(["fan", "harbor", "zigzag"])


def names(text: str, language: str | None = None) -> list[str]:
    return [tokenizer().names[t] for t in tokenizer().read(text, language).tokens]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_dictionary_form_reads_as_its_concept(language: str) -> None:
    wrong = {
        concept.id: names(concept.name(language), language)
        for concept in concepts().values()
        if names(concept.name(language), language) != [concept.id]
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("boats in a harbour", "en"),
        ("лодки в гавани", "ru"),
        ("Wo liegen Boote im Hafen?", "de"),
        ("des bateaux dans un port", "fr"),
        ("barche in un porto", "it"),
    ],
)
def test_one_meaning_in_many_languages(text: str, language: str) -> None:
    reading = tokenizer().read(text)
    assert reading.language == language
    assert {"boat", "ship"} & set(names(text))
    assert "harbor" in names(text)


EVERYDAY = """
en a forest or a lake = forest lake
es un bosque o un lago = forest lake
fr une forêt ou un lac = forest lake
de ein Wald oder ein See = forest lake
pt uma floresta ou um lago = forest lake
it un bosco o un lago = forest lake
nl een bos of een meer = forest lake
ru лес или озеро = forest lake
zh 森林或湖泊 = forest lake
ko 숲 또는 호수 = forest lake
it palazzi in centro città = building city_center
it case con giardino e piscina = house garden swimming_pool
it macchine parcheggiate davanti al supermercato = car parked in_front_of shopping_mall
it serbatoi di petrolio vicino al porto = storage_tank near harbor
it case isolate in campagna = sparse_residential village
es edificios en el centro de la ciudad = building city_center
es casas aisladas en el campo = sparse_residential farmland
es cancha de fútbol al lado de la escuela = football_field near school
es tanques de petróleo cerca del puerto = storage_tank near harbor
ru здания в центре города = building city_center
ru отдельные дома в лесу = sparse_residential forest
ru машины на парковке у супермаркета = car parking_lot near shopping_mall
ru самолёт на взлётной полосе = airplane runway
ko 정원과 수영장이 있는 집 = garden swimming_pool house
ko 항구에 정박한 배 = harbor moored ship
ko 숲을 지나는 길 = forest across road
ko 산에 쌓인 눈 = mountain snow
ko 항구 근처의 기름 탱크 = harbor near storage_tank
"""


@pytest.mark.parametrize("line", EVERYDAY.strip().splitlines())
def test_everyday_words_are_read(line: str) -> None:
    text, meant = line.split(" = ")
    language, _, phrase = text.partition(" ")
    assert tokenizer().read(phrase).language == language
    assert names(phrase) == meant.split()


def test_longest_phrase_wins() -> None:
    assert names("dense residential area") == ["dense_residential"]
    assert names("residential area") == ["residential_area"]


def test_longest_match_against_a_slow_twin() -> None:
    forms = [("red roof", 1), ("red", 2), ("roof", 3), ("red roof tile", 4), ("*boat", 5), ("sail*", 6)]
    tiny = ConceptTokenizer({"en": build_trie(forms)}, ("", *"abcdef"), 6)

    def slow(words: list[str]) -> list[int]:
        out, at = [], 0
        while at < len(words):
            for size in range(len(words) - at, 0, -1):
                phrase = " ".join(words[at : at + size])
                hit = [t for form, t in forms if form == phrase]
                hit += [5] if size == 1 and phrase.endswith("boat") and len(phrase) > 4 else []
                hit += [6] if size == 1 and phrase.startswith("sail") else []
                if hit:
                    out.append(hit[0])
                    at += size
                    break
            else:
                at += 1
        return out

    rng = np.random.default_rng(0)
    for _ in range(300):
        words = list(rng.choice(["red", "roof", "tile", "towboat", "sailing", "x"], rng.integers(1, 7)))
        assert list(tiny.read(" ".join(words)).tokens) == slow(words)


def test_korean_particles_but_not_other_words() -> None:
    tiny = ConceptTokenizer({"ko": build_trie([("배", 1), ("항구", 2)])}, ("", "ship", "harbor"), 2)
    assert tiny.read("배가 항구에서").tokens == (1, 2)
    assert tiny.read("배추").tokens == ()  # cabbage is no ship


def test_rows_are_padded_and_cut() -> None:
    rows = tokenizer()(["river", "river " * 100])
    assert rows.shape == (2, tokenizer().context)
    assert (rows[0] != 0).sum() == 1
    assert (rows[1] != 0).all()


def test_words_outside_the_glossary_keep_a_token() -> None:
    assert names("a zigzag fan") == ["zigzag", "fan"]
    assert tokenizer().names.count("harbor") == 1  # the glossary knew it


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_empty_text(text: str) -> None:
    with pytest.raises(EmptyQueryError):
        tokenizer()([text])


@pytest.mark.parametrize("text", ["xyzzy plugh", "مرفأ القوارب", "😀", "!!!", "\x00"])
def test_unknown_words(text: str) -> None:
    with pytest.raises(UnknownWordsError, match="known to this model"):
        tokenizer()([text])


def test_what_was_never_learned_is_said() -> None:
    volcano = tokenizer().names.index("volcano")
    model = replace(tokenizer(), unlearned=frozenset({volcano}))
    with pytest.raises(UnknownWordsError, match=r"understood \(volcano\), but this model has never seen one"):
        model(["a volcano"])
    assert (model(["a volcano near a river"]) != volcano).all()


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    model = replace(tokenizer(), unlearned=frozenset({3}))
    model.save(path)
    assert ConceptTokenizer.load(path) == model
    path.write_text("{}")
    with pytest.raises(ModelFileError):
        ConceptTokenizer.load(path)


def test_respelling_keeps_the_ids() -> None:
    old = replace(tokenizer(), tries={language: {} for language in LANGUAGES})
    assert old.respelled() == tokenizer()


def test_words_of_splits_chinese_characters() -> None:
    assert words_of("Solar_farm 港口 2") == ["solar", "farm", "港", "口", "2"]
