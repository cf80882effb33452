"""SentencePiece vocabularies (XLM-R's, Gemma's) from the `tokenizer.json` that the hub carries.

The file's normaliser, splitting and vocabulary are used as they stand. Special tokens, cutting and padding are set
here, because files of one model differ in them (Gemma's own adds a start token that SigLIP 2 does without).
Facts: open_clip 3.3, HFTokenizer and the model configs' `tokenizer_kwargs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoglot.errors import ModelFileError
from geoglot.models.tokenizers.cleaning import Cleaning, cleaner
from geoglot.models.tokenizers.subword import Specials, SubwordTokenizer

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True, slots=True)
class PieceKind:
    """How one family frames its texts; names of special tokens with the ids they must have."""

    cleaning: Cleaning
    start: dict[str, int]
    end: tuple[str, int]
    pad: tuple[str, int]


XLMR = PieceKind("whitespace", {"<s>": 0}, ("</s>", 2), ("<pad>", 1))
GEMMA = PieceKind("canonicalize", {}, ("<eos>", 1), ("<pad>", 0))


def read_pieces(path: Path, kind: PieceKind, context: int, vocabulary: int) -> SubwordTokenizer:
    """A SentencePiece tokenizer.

    Args:
        path: `tokenizer.json`.
        kind: XLMR or GEMMA.
        context: T.
        vocabulary: Rows of the text tower's token table.

    Raises:
        ModelFileError: The file cannot be read, has another number of tokens, or other special tokens.
    """
    engine = _open(path)
    found = engine.get_vocab_size(with_added_tokens=True)
    if found != vocabulary:
        raise ModelFileError(
            f"{path.name} has {found} tokens; the text tower has {vocabulary}",
            hint="Use the tokenizer file that belongs to these weights.",
        )
    for token, number in (*kind.start.items(), kind.end, kind.pad):
        if engine.token_to_id(token) != number:
            raise ModelFileError(
                f"{path.name} numbers {token!r} {engine.token_to_id(token)}; the text tower expects {number}",
                hint="Use the tokenizer file that belongs to these weights.",
            )
    specials = Specials(tuple(kind.start.values()), kind.end[1], kind.pad[1])
    return SubwordTokenizer(engine, cleaner(kind.cleaning), specials, context, vocabulary)


def _open(path: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    try:
        engine = Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:
        raise ModelFileError(f"{path} is not a tokenizer.json: {error}") from error
    engine.no_truncation()
    engine.no_padding()
    return engine
