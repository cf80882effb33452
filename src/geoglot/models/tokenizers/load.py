"""The tokenizer of a kind, from its file, checked against the text tower it is for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geoglot.errors import ModelFileError, UnknownNameError
from geoglot.models.tokenizers.protocol import Tokenizer

if TYPE_CHECKING:
    from geoglot.models.card import Card

TokenizerKind = Literal["clip_bpe", "sentencepiece_xlmr", "gemma", "concepts"]
KINDS: tuple[TokenizerKind, ...] = ("clip_bpe", "sentencepiece_xlmr", "gemma", "concepts")


def read_tokenizer(path: Path, kind: str, *, context: int, vocabulary: int) -> Tokenizer:
    """A tokenizer; packages are imported here, not before.

    Args:
        path: Its file; which forms a kind reads is said by its reader.
        kind: One of KINDS.
        context: T of the text tower.
        vocabulary: Rows of the text tower's token table.

    Raises:
        UnknownNameError: No such kind.
        ModelFileError: The file is missing, damaged, or made for another text tower.
    """
    if kind not in KINDS:
        raise UnknownNameError("tokenizer kind", kind, KINDS)
    if not path.is_file():
        raise ModelFileError(f"there is no tokenizer file {path}")
    if kind == "clip_bpe":
        from geoglot.models.tokenizers.clip_bpe import read_clip_bpe

        return read_clip_bpe(path, context, vocabulary)
    if kind == "concepts":
        return _concepts(path, context, vocabulary)
    from geoglot.models.tokenizers.pieces import GEMMA, XLMR, read_pieces

    return read_pieces(path, GEMMA if kind == "gemma" else XLMR, context, vocabulary)


def load_tokenizer(card: Card) -> Tokenizer:
    """The tokenizer of a model folder. A card that states no kind has the glossary's concepts.

    Raises:
        ModelFileError: See read_tokenizer.
    """
    path = card.file("tokenizer")
    if card.architecture is None:
        from geoglot.models.tokenizers.concepts import ConceptTokenizer

        return ConceptTokenizer.load(path)
    kind = card.tokenizer.kind if card.tokenizer else "concepts"
    text = card.architecture.text
    return read_tokenizer(path, kind, context=text.context, vocabulary=text.vocabulary)


def _concepts(path: Path, context: int, vocabulary: int) -> Tokenizer:
    from geoglot.models.tokenizers.concepts import ConceptTokenizer

    tokenizer = ConceptTokenizer.load(path)
    if (tokenizer.context, len(tokenizer.names)) != (context, vocabulary):
        raise ModelFileError(
            f"{path.name} makes {len(tokenizer.names)} tokens in rows of {tokenizer.context}; "
            f"the text tower reads {vocabulary} in rows of {context}",
            hint="Use the tokenizer file that belongs to these weights.",
        )
    return tokenizer
