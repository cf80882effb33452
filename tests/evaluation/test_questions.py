from __future__ import annotations

import pytest

from geoglot.data.glossary import LANGUAGES
from geoglot.errors import UnknownNameError
from geoglot.evaluation.questions import prompts, questions


def test_questions_are_complete() -> None:
    assert {group: len(classes) for group, classes in questions().items()} == {
        "ucm": 21, "rsicd": 30, "eurosat": 10, "landcover": 5,
    }  # fmt: skip
    for group in questions():
        for language in LANGUAGES:
            texts = list(prompts(group, language).values())
            assert all(texts)
            assert len(set(texts)) == len(texts)
    with pytest.raises(UnknownNameError):
        prompts("ucm", "xx")
    with pytest.raises(UnknownNameError):
        prompts("ucn", "en")
