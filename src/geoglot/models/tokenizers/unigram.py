"""SentencePiece Unigram vocabularies, opened quickly: 128,000 pieces in 0.12 s of CPU time.

`tokenizers` needs half a second of CPU time to build its tree of 100,000 pieces, more than a cold query has. Here the
pieces are a plain dictionary, and each word is split by dynamic programming over its substrings; replacements of
characters stay with `tokenizers`. The ids are the same (tests/models/test_unigram.py).
Implements: Kudo 2018, "Subword Regularization" (arXiv 1804.10959): the most probable split into pieces.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import ModelFileError, UsageError
from geoglot.models.tokenizers.protocol import Ids, TokenRows
from geoglot.models.tokenizers.subword import Specials, check_room, frame

SPACE = "\u2581"
_UNKNOWN_PENALTY = 10.0  # below the least probable piece; SentencePiece's kUnkPenalty


@dataclass(frozen=True, slots=True)
class UnigramTokenizer:
    """A Tokenizer (see protocol.py); immutable. Its rows are as long as their longest text, at most the context.

    Attributes:
        pieces: Piece -> id. A word begins with SPACE; special pieces, which no text may spell, are not in it.
        scores: Log probabilities by id.
        unknown: Id of a run of characters that no piece covers.
        replace: Normalises characters as the vocabulary's texts were.
        specials: See Specials.
        context: T, most tokens of a row.
        longest: Characters of the longest piece.
    """

    pieces: dict[str, int]
    scores: array[float]
    unknown: int
    replace: Callable[[str], str]
    specials: Specials
    context: int
    longest: int

    def __post_init__(self) -> None:
        check_room(self.specials, self.context)

    @property
    def vocabulary(self) -> int:
        """Number of ids."""
        return len(self.scores)

    def rows(self, texts: Sequence[str]) -> TokenRows:
        """See Tokenizer. An empty text is one unknown piece. About 5,000 captions a second on one core."""
        content = [self._content(text) for text in texts]
        longest = max(map(len, content), default=0) + len(self.specials.start) + 1
        return frame(content, self.specials, min(longest, self.context))

    def ids(self, texts: Sequence[str]) -> Ids:
        """See Tokenizer."""
        return self.rows(texts).ids

    def truncated(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """See Tokenizer."""
        return self.rows(texts).truncated

    def _content(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise UsageError(f"a text must be a string, not {type(text).__name__}")
        # Composed first: the replacements know composed letters only of short sequences, so not those of Korean.
        words = self.replace(unicodedata.normalize("NFC", text)).replace(SPACE, " ").split(" ")
        return [token for word in words if word for token in self._split(SPACE + word)] or [self.unknown]

    def _split(self, word: str) -> list[int]:
        """Ids of the most probable split; of two alike the one whose last piece is longest."""
        end_of = len(word)
        total = [0.0] + [-float("inf")] * end_of  # log probability of the best split of word[:end]
        start_of, piece_of = [0] * (end_of + 1), [self.unknown] * (end_of + 1)
        find, scores = self.pieces.get, self.scores
        unknown_score = scores[self.unknown]
        for start in range(end_of):
            before = total[start]
            for end in range(start + 1, min(start + self.longest, end_of) + 1):
                piece = find(word[start:end])
                if piece is None:
                    if end > start + 1:
                        continue
                    piece, score = self.unknown, before + unknown_score
                else:
                    score = before + scores[piece]
                if score > total[end]:
                    total[end], start_of[end], piece_of[end] = score, start, piece
        return self._path(start_of, piece_of)

    def _path(self, start_of: Sequence[int], piece_of: Sequence[int]) -> list[int]:
        """Ids from the last end back to the start; unknown characters side by side are one piece."""
        ids, end = [], len(start_of) - 1
        while end:
            ids.append(piece_of[end])
            end = start_of[end]
        ids.reverse()
        return [i for piece, run in groupby(ids) for i in ([piece] if piece == self.unknown else run)]


def write_unigram(
    path: Path,
    pieces: Sequence[str],
    scores: Sequence[float],
    replacements: bytes,
    specials: Specials,
    *,
    unknown: int,
    context: int,
) -> None:
    """Write a tokenizer file.

    Args:
        path: The file.
        pieces: By id; special ones are empty.
        scores: By id.
        replacements: SentencePiece's precompiled table.
        specials: Ids that frame a text.
        unknown: Id of the unknown piece.
        context: T.
    """
    body = {
        "kind": "unigram",
        "context": context,
        "unknown": unknown,
        "start": list(specials.start),
        "end": specials.end,
        "pad": specials.pad,
        "pieces": list(pieces),
        "scores": base64.b64encode(np.asarray(scores, "<f4").tobytes()).decode(),
        "replacements": base64.b64encode(replacements).decode(),
    }
    path.write_text(json.dumps(body, ensure_ascii=False, separators=(",", ":")), "utf-8")


def read_unigram(path: Path) -> UnigramTokenizer:
    """Read what `write_unigram` wrote; 0.05 s for 70,000 pieces.

    Raises:
        ModelFileError: It is no such file, or its parts contradict each other.
    """
    try:
        return _tokenizer(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path} is not a Unigram tokenizer file: {error!r}") from error


def _tokenizer(body: dict[str, Any]) -> UnigramTokenizer:
    pieces: list[str] = body["pieces"]
    scores = np.frombuffer(base64.b64decode(body["scores"], validate=True), "<f4")
    numbers = [body["unknown"], body["end"], body["pad"], *body["start"]]
    if body["kind"] != "unigram" or not all(type(n) is int and 0 <= n < len(pieces) for n in numbers):
        raise ValueError("special ids outside the vocabulary")
    if type(body["context"]) is not int or len(scores) != len(pieces) or not np.isfinite(scores).all():
        raise ValueError("pieces and scores do not match, or the context is no number")
    known = dict(zip(pieces, range(len(pieces)), strict=True))
    known.pop("", None)
    weights = array("d", scores.astype(np.float64).tobytes())
    weights[body["unknown"]] = float(scores.min()) - _UNKNOWN_PENALTY
    return UnigramTokenizer(
        pieces=known,
        scores=weights,
        unknown=body["unknown"],
        replace=_replacer(base64.b64decode(body["replacements"], validate=True)),
        specials=Specials(tuple(body["start"]), body["end"], body["pad"]),
        context=body["context"],
        longest=max(map(len, known)),
    )


def _replacer(table: bytes) -> Callable[[str], str]:
    from tokenizers import normalizers

    try:
        replace: Callable[[str], str] = normalizers.Precompiled(table).normalize_str
    except Exception as error:
        raise ValueError(f"the table of replacements is damaged: {error}") from error
    return replace
