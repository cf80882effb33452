from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from geoglot.data.glossary import LANGUAGES, concepts
from geoglot.data.samples import Sample
from geoglot.errors import UnknownNameError, UnknownWordsError, UsageError
from geoglot.evaluation.paraphrases import FORMS, class_concepts, paraphrased, paraphrases, relative_drop
from geoglot.evaluation.questions import questions


def test_there_are_twenty_texts_in_each_language() -> None:
    assert Counter(text.language for text in paraphrases()) == dict.fromkeys(LANGUAGES, 20)
    assert Counter(text.form for text in paraphrases()) == {"plain": 140, "order": 30, "negation": 30}
    assert len({text.text for text in paraphrases()}) == 200


def test_texts_name_concepts_and_classes_that_exist() -> None:
    for text in paraphrases():
        assert text.concept in concepts()
        assert text.form in FORMS
        assert text.classes
        for group, label in text.classes.items():
            assert label in questions()[group], text.text


def test_in_one_language_a_class_has_one_text() -> None:
    counts = Counter((t.language, group, label) for t in paraphrases() for group, label in t.classes.items())
    assert max(counts.values()) == 1


def test_every_class_has_a_name_and_a_text() -> None:
    for group, classes in class_concepts().items():
        assert set(classes) == set(questions()[group])
        assert set(classes.values()) <= set(concepts())
        assert set(classes) == {t.classes[group] for t in paraphrases() if group in t.classes}


def test_no_text_is_a_name_of_its_concept() -> None:
    for text in paraphrases():
        forms = {form.replace("*", "") for form in concepts()[text.concept].forms[text.language]}
        assert text.text.lower() not in forms


class _Reader:
    """A text is read as the class that `meanings` says, else as nothing; each class has an axis of its own."""

    def __init__(self, meanings: dict[str, int], dim: int) -> None:
        self._meanings = meanings
        self.card = SimpleNamespace(dim=dim)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        if any(text not in self._meanings for text in texts):
            raise UnknownWordsError("unknown")
        return np.eye(self.card.dim, dtype=np.float32)[[self._meanings[text] for text in texts]]


def _eurosat() -> tuple[dict[str, int], list[Sample], np.ndarray]:
    """What each name and text means, two images of each class, and their vectors; one axis is no class's."""
    classes = list(class_concepts()["eurosat"])
    meanings = {
        concepts()[concept].name(code): classes.index(label)
        for label, concept in class_concepts()["eurosat"].items()
        for code in LANGUAGES
    }
    meanings |= {t.text: classes.index(t.classes["eurosat"]) for t in paraphrases() if "eurosat" in t.classes}
    labels = [label for label in classes for _ in range(2)]
    samples = [Sample(Path(f"{number}.png"), (), label, "test") for number, label in enumerate(labels)]
    return meanings, samples, np.eye(11, dtype=np.float32)[[classes.index(label) for label in labels]]


def values(reader: _Reader, samples: list[Sample], images: np.ndarray) -> dict[str, float]:
    return {number.metric: number.value for number in paraphrased(reader, samples, "eurosat", images)}


def test_a_model_that_reads_all_loses_nothing() -> None:
    meanings, samples, images = _eurosat()
    found = values(_Reader(meanings, 11), samples, images)
    assert found["top1_drop"] == found["own_names_drop"] == found["unread"] == 0
    assert {found[f"top1_{code}"] for code in LANGUAGES} == {100.0}


def test_what_is_misread_or_unread_is_lost_in_its_language_and_form() -> None:
    meanings, samples, images = _eurosat()
    wrong = next(t for t in paraphrases() if t.language == "it" and t.classes.get("eurosat") == "Industrial")
    gone = next(t for t in paraphrases() if t.language == "fr" and t.form == "negation" and "eurosat" in t.classes)
    meanings[wrong.text] = 10
    del meanings[gone.text]
    found = values(_Reader(meanings, 11), samples, images)
    per_language = {
        code: [t for t in paraphrases() if t.language == code and "eurosat" in t.classes] for code in LANGUAGES
    }
    texts = sum(map(len, per_language.values()))
    lost = {"it": 1, "fr": 1}
    for code in LANGUAGES:
        share = 1 - lost.get(code, 0) / len(per_language[code])
        assert found[f"top1_{code}"] == pytest.approx(100 * share)
    assert found["top1_drop"] == pytest.approx(100 * 2 / texts)
    assert found["unread"] == pytest.approx(100 / texts)
    negations = [t for t in paraphrases() if t.form == "negation" and "eurosat" in t.classes]
    assert found["top1_drop_negation"] == pytest.approx(100 / len(negations))
    assert found["own_names_drop"] == 0


def test_a_drop_and_its_interval() -> None:
    value, (low, high) = relative_drop(np.array([50.0, 100.0, 0.0]), np.array([100.0, 100.0, 100.0]))
    assert value == pytest.approx(50)
    assert low <= value <= high
    with pytest.raises(UsageError, match="win no image"):
        relative_drop(np.zeros(3), np.zeros(3))


def test_other_sets_are_refused() -> None:
    with pytest.raises(UnknownNameError):
        paraphrased(_Reader({}, 10), [], "aid", np.zeros((0, 10), np.float32))
    with pytest.raises(UsageError, match="no image of eurosat"):
        paraphrased(_Reader({}, 10), [], "eurosat", np.zeros((0, 10), np.float32))
