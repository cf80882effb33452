"""SentencePiece model files: pieces, scores and the normalisation table, and a `tokenizers` Unigram that splits alike.

The file is a protocol buffer (google/sentencepiece, sentencepiece_model.proto). Three of its fields are needed: the
pieces with their scores, the precompiled table of character replacements, and the flags of white space.
Implements: Kudo 2018, "Subword Regularization" (arXiv 1804.10959): the most probable split into pieces.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoglot.errors import ModelFileError

if TYPE_CHECKING:
    import tokenizers

_NORMAL, _UNKNOWN, _KINDS = 1, 2, {1, 2, 3, 4}  # SentencePiece.Type; 3 and 4 are marks that texts have no use for
SPACE = "\u2581"


@dataclass(frozen=True, slots=True)
class PieceModel:
    """A Unigram vocabulary.

    Attributes:
        pieces: By id. A special piece, which no text may spell out, is the empty string.
        scores: Log probabilities, by id.
        unknown: Id of what no piece covers.
        replacements: Table of character replacements, as SentencePiece stores it: a double-array trie and its strings;
            empty where texts are prepared elsewhere.
    """

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    unknown: int
    replacements: bytes

    def take(self, ids: Sequence[int]) -> PieceModel:
        """Some of the pieces, numbered anew in the order of `ids`, which must hold the unknown piece."""
        pieces, scores = tuple(self.pieces[i] for i in ids), tuple(self.scores[i] for i in ids)
        return PieceModel(pieces, scores, list(ids).index(self.unknown), self.replacements)


def read_pieces(path: Path) -> PieceModel:
    """Read a `.model` file of kind Unigram that adds a space in front and folds white space, as those of T5 and USE.

    Raises:
        ModelFileError: It is no such file.
    """
    try:
        return _model(path.read_bytes())
    except (OSError, ValueError, IndexError, KeyError, struct.error) as error:
        raise ModelFileError(f"{path} is not a SentencePiece model that can be read: {error!r}") from error


def _model(data: bytes) -> PieceModel:
    pieces: list[str] = []
    scores: list[float] = []
    unknown, normalizer = -1, b""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            piece, score, kind = _piece(value)
            unknown = len(pieces) if kind == _UNKNOWN else unknown
            pieces.append(piece if kind == _NORMAL else "")
            scores.append(score)
        elif number == 3 and isinstance(value, bytes):
            normalizer = value
    rules = dict(_fields(normalizer))
    if unknown < 0 or not all(rules.get(flag, 1) == 1 for flag in (3, 4, 5)) or not isinstance(rules[2], bytes):
        raise ValueError("no piece for the unknown, or white space is treated in another way")
    return PieceModel(tuple(pieces), tuple(scores), unknown, rules[2])


def _piece(data: bytes) -> tuple[str, float, int]:
    fields = dict(_fields(data))
    text, score, kind = fields[1], fields.get(2, 0.0), fields.get(3, _NORMAL)
    if not isinstance(text, bytes) or not isinstance(score, float) or kind not in _KINDS:
        raise ValueError(f"a piece is not as expected: {data[:40]!r}")
    return text.decode("utf-8"), score, int(kind)


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int | float]]:
    """Fields of one message: number and value."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 5:
            yield number, struct.unpack_from("<f", data, at)[0]
            at += 4
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field is longer than the file")
            yield number, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {wire} of field {number}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number has no end")


def unigram(model: PieceModel) -> tokenizers.Tokenizer:
    """A tokenizer that splits texts into the same ids; adds no special pieces. Takes a second for 128,000 pieces.

    A run of characters that no piece covers is one unknown piece, as in SentencePiece itself.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    # Spaces become other marks before texts are split, so that no text can spell a name with a space.
    names = [piece or f" {number}" for number, piece in enumerate(model.pieces)]
    vocabulary = list(zip(names, model.scores, strict=True))
    engine = Tokenizer(models.Unigram(vocabulary, unk_id=model.unknown, byte_fallback=False))
    spaces = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    characters = [normalizers.Precompiled(model.replacements)] if model.replacements else []
    engine.normalizer = normalizers.Sequence([*characters, *spaces])
    engine.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    return engine
