"""Tokenizers against open_clip's own ids (golden files: tools/golden/make_tokenizer_goldens.py)."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoglot.errors import ModelFileError, UnknownNameError, UsageError
from geoglot.models.tokenizers import cleaning
from geoglot.models.tokenizers.clip_bpe import SPECIAL, byte_letters, vocabulary_of, write_merges
from geoglot.models.tokenizers.concepts import ConceptTokenizer
from geoglot.models.tokenizers.load import read_tokenizer
from geoglot.models.tokenizers.protocol import Tokenizer
from geoglot.models.tokenizers.sentences import sample_sentences, sentences
from geoglot.models.tokenizers.truncation import TruncationCount

GOLDEN = Path(__file__).parent / "golden_tokens"
TEXTS: list[str] = json.loads((GOLDEN / "texts.json").read_text("ascii"))
IDS = np.load(GOLDEN / "ids.npz")
SIZES: dict[str, int] = json.loads((GOLDEN / "manifest.json").read_text("utf-8"))["vocabulary"]
KINDS = {
    "bpe": ("clip_bpe", "bpe.txt.gz"),
    "xlmr": ("sentencepiece_xlmr", "xlmr.json"),
    "gemma": ("gemma", "gemma.json"),
}


def golden(name: str) -> Tokenizer:
    kind, file = KINDS[name.split("_")[0]]
    return read_tokenizer(GOLDEN / file, kind, context=IDS[name].shape[1], vocabulary=SIZES[name.split("_")[0]])


def bpe(path: Path = GOLDEN / "bpe.txt.gz", context: int = 77, vocabulary: int = SIZES["bpe"]) -> Tokenizer:
    return read_tokenizer(path, "clip_bpe", context=context, vocabulary=vocabulary)


# --- the same ids as open_clip -------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(IDS))
def test_ids_are_open_clips(name: str) -> None:
    tokenizer = golden(name)
    assert len(TEXTS) >= 1000
    assert np.array_equal(tokenizer.ids(TEXTS), IDS[name])
    one_by_one = np.concatenate([tokenizer.ids([text]) for text in TEXTS[::7]])
    assert np.array_equal(one_by_one, IDS[name][::7])


def test_the_strings_are_worth_testing() -> None:
    """Empty, over-long, outside the basic plane, control characters; and few tokens are the unknown one."""
    assert "" in TEXTS
    assert any("\x00" in text for text in TEXTS)
    assert any(ord(letter) > 0xFFFF for text in TEXTS for letter in text)
    for name in IDS:
        assert 4 <= golden(name).truncated(TEXTS).sum() < len(TEXTS) / 2, name
    assert (IDS["xlmr"] == 3).sum() < 0.05 * (IDS["xlmr"] != 1).sum()


def test_the_released_vocabulary_gave_equal_ids() -> None:
    """Recorded where the golden files were made: the real vocabulary cannot be kept here."""
    real = json.loads((GOLDEN / "manifest.json").read_text("utf-8"))["real_bpe"]
    assert [real[key]["equal"] for key in ("texts_77", "texts_248", "characters")] == [True] * 3


# --- the same vocabulary from every file ---------------------------------------------------------


def hub_files(folder: Path) -> None:
    """vocab.json, merges.txt and tokenizer.json as the hub has them."""
    lines = gzip.decompress((GOLDEN / "bpe.txt.gz").read_bytes()).decode().split("\n")
    merges = [(left, right) for left, right in map(str.split, lines[1:])]
    names = dict(zip(SPECIAL, ("<|startoftext|>", "<|endoftext|>"), strict=True))
    vocab = {names.get(token, token): number for token, number in vocabulary_of(merges).items()}
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    model = {"type": "BPE", "vocab": vocab, "merges": [" ".join(pair) for pair in merges]}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}), "utf-8")
    pairs = {**model, "merges": merges}
    (folder / "pairs.json").write_text(json.dumps({"model": pairs}), "utf-8")


@pytest.mark.parametrize("file", ["merges.txt", "vocab.json", "tokenizer.json", "pairs.json"])
def test_every_file_makes_the_same_ids(file: str, tmp_path: Path) -> None:
    """The tiny vocabulary makes some tokens twice, so its JSON is shorter than its numbering: the numbering counts."""
    hub_files(tmp_path)
    lines = (tmp_path / "merges.txt").read_text("utf-8").strip().split("\n")
    size = 514 + len(lines) - 1
    assert np.array_equal(bpe(tmp_path / file, vocabulary=size).ids(TEXTS[:300]), IDS["bpe_77"][:300])


def test_merges_are_cut_to_the_vocabulary(tmp_path: Path) -> None:
    """OpenAI's file holds more merges than CLIP uses."""
    short = bpe(vocabulary=514 + 100)
    assert short.ids(["a"])[0, 0] == 612
    assert short.ids(TEXTS).max() == 613
    write_merges(GOLDEN / "bpe.txt.gz", tmp_path / "merges.txt", 614)
    assert len((tmp_path / "merges.txt").read_text("utf-8").splitlines()) == 101
    assert np.array_equal(bpe(tmp_path / "merges.txt", vocabulary=614).ids(TEXTS), short.ids(TEXTS))


def test_bytes_have_letters() -> None:
    letters = byte_letters()
    assert len(set(letters)) == 256
    assert letters[0] == "!"
    assert not any(letter.isspace() for letter in letters)


# --- a tokenizer for another text tower ----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "file", "vocabulary", "context", "why"),
    [
        ("clip_bpe", "bpe.txt.gz", 49408, 77, "tokens; the text tower has 49408"),
        ("sentencepiece_xlmr", "xlmr.json", 250002, 77, "has 1202 tokens; the text tower has 250002"),
        ("gemma", "gemma.json", 256000, 64, "has 1461 tokens; the text tower has 256000"),
        ("gemma", "xlmr.json", 1202, 64, "numbers '<eos>' None; the text tower expects 1"),
        ("sentencepiece_xlmr", "gemma.json", 1461, 64, "numbers '<s>' None"),
        ("sentencepiece_xlmr", "bpe.txt.gz", 1461, 64, r"not a tokenizer\.json"),
        ("clip_bpe", "xlmr.json", 1202, 77, "not a CLIP tokenizer file"),
        ("clip_bpe", "texts.json", 1202, 77, "not a CLIP tokenizer file"),
        ("clip_bpe", "ids.npz", 1202, 77, "not a CLIP tokenizer file"),
        ("clip_bpe", "bpe.txt.gz", SIZES["bpe"], 2, "no room for text"),
        ("clip_bpe", "none.txt", 1202, 77, "no tokenizer file"),
        ("concepts", "xlmr.json", 1202, 77, "not a tokenizer file"),
    ],
)
def test_mismatch_is_said(kind: str, file: str, vocabulary: int, context: int, why: str) -> None:
    with pytest.raises(ModelFileError, match=why):
        read_tokenizer(GOLDEN / file, kind, context=context, vocabulary=vocabulary)


def test_unknown_kind_is_said() -> None:
    with pytest.raises(UnknownNameError, match="clip_bpa"):
        read_tokenizer(GOLDEN / "bpe.txt.gz", "clip_bpa", context=77, vocabulary=SIZES["bpe"])


def test_foreign_ids_are_refused(tmp_path: Path) -> None:
    hub_files(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text("utf-8"))
    vocab["!"], vocab['"'] = vocab['"'], vocab["!"]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    with pytest.raises(ModelFileError, match="2 ids are not CLIP's"):
        bpe(tmp_path / "vocab.json", vocabulary=len(vocab))


def test_truncated_download_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bpe.txt.gz").write_bytes((GOLDEN / "bpe.txt.gz").read_bytes()[:3000])
    with pytest.raises(ModelFileError, match="not a CLIP tokenizer file"):
        bpe(tmp_path / "bpe.txt.gz")


def test_concepts_must_fit_their_tower() -> None:
    path = Path(cleaning.__file__).parents[1] / "bundled" / "geoglot-mini" / "tokenizer.json"
    read = ConceptTokenizer.load(path)
    found = read_tokenizer(path, "concepts", context=read.context, vocabulary=len(read.names))
    assert np.array_equal(found.ids(["boats in a harbour"]), read(["boats in a harbour"]))
    with pytest.raises(ModelFileError, match="the text tower reads 7 in rows of"):
        read_tokenizer(path, "concepts", context=read.context, vocabulary=7)


def test_not_a_string_is_said() -> None:
    with pytest.raises(UsageError, match="must be a string, not int"):
        bpe().ids(["a", 3])  # type: ignore[list-item]


# --- cleaning ------------------------------------------------------------------------------------

LETTERS = st.one_of(st.characters(max_codepoint=0x7F), st.sampled_from("&;#<>é\u00a0\u200b\x1b[0m’ﬁ"))
MESSY = st.text(LETTERS, max_size=30)


@pytest.mark.parametrize("kind", ["lower", "whitespace", "canonicalize"])
@settings(max_examples=300, deadline=None)
@given(text=MESSY)
def test_plain_texts_need_no_mending(kind: cleaning.Cleaning, text: str) -> None:
    """The short cut for plain ASCII against mending everything."""
    slow = cleaning.cleaner(kind)(cleaning._mended_slowly(text))
    assert cleaning.cleaner(kind)(text) == slow or not cleaning._is_plain(text)


# --- truncation ----------------------------------------------------------------------------------


def test_lengths_and_truncation() -> None:
    tokenizer = bpe(context=8)
    rows = tokenizer.rows(["! ! !", "! ! ! ! ! !", "! ! ! ! ! ! !", ""])
    assert rows.lengths.tolist() == [5, 8, 9, 2]
    assert rows.truncated.tolist() == [False, False, True, False]
    assert (rows.ids[2, :7] == rows.ids[1, :7]).all()
    assert rows.ids[2, 7] == SIZES["bpe"] - 1  # the end token survives
    assert tokenizer.rows([]).ids.shape == (0, 8)


def test_truncation_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer, count = bpe(context=8), TruncationCount()
    with caplog.at_level(logging.WARNING, "geoglot.models"):
        for texts in (["! !"], ["! !", "! " * 20], ["! " * 30]):
            count.add(tokenizer.rows(texts))
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 2 texts (50 %) are longer than the 8 tokens that the model reads and were cut; the longest has 22"
    ]
    assert (count.texts, count.cut, count.share) == (4, 2, 0.5)


# --- sentence sampling ---------------------------------------------------------------------------


def test_sentences_are_found() -> None:
    caption = "A port. Two ships?  Yes!\nA quay 3.5 km long"
    assert sentences(caption) == ["A port.", "Two ships?", "Yes!", "A quay 3.5 km long"]
    assert sentences("港口里有船。旁边是城市！") == ["港口里有船。", "旁边是城市！"]
    assert sentences(" \n ") == []


def test_sampled_sentences_are_whole_fit_and_vary() -> None:
    tokenizer = bpe(context=16)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    caption = " ".join(f"{word} !." for word in words)
    parts = sentences(caption)
    assert tokenizer.truncated([caption])[0]
    drawn = {sample_sentences([caption], tokenizer, seed)[0] for seed in range(12)}
    assert len(drawn) > 3
    for text in drawn:
        places = [parts.index(part) for part in sentences(text)]
        assert places == sorted(places)
        assert not tokenizer.truncated([text])[0]
        left = [part for part in parts if part not in sentences(text)]
        assert all(tokenizer.truncated([f"{text} {part}"])[0] for part in left)  # no further sentence fits
    seen = {part for text in drawn for part in sentences(text)}
    assert len(seen) > len(sentences(min(drawn)))


def test_sampling_depends_on_seed_and_text_only() -> None:
    tokenizer = bpe(context=16)
    captions = [f"{a} one. {a} two. {a} three. {a} four. {a} five" for a in ("! !", "? ?", "# #")]
    together = sample_sentences(["short", *captions], tokenizer, seed=5)
    assert together[0] == "short"
    assert together[1:] == [sample_sentences([caption], tokenizer, seed=5)[0] for caption in captions]
    endless = "x " * 50
    assert sample_sentences([endless], tokenizer, seed=5) == [endless]
