"""The tokenizer of a kind, from its file, checked against the text tower it is for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geoglot.errors import ModelFileError, UnknownNameError
from geoglot.models.tokenizers.protocol import Tokenizer

if TYPE_CHECKING:
    from geoglot.models.card import Card
    from geoglot.models.tokenizers.concepts import ConceptTokenizer
    from geoglot.models.tokenizers.unigram import UnigramTokenizer

TokenizerKind = Literal["clip_bpe", "sentencepiece_xlmr", "gemma", "concepts", "unigram"]
KINDS: tuple[TokenizerKind, ...] = ("clip_bpe", "sentencepiece_xlmr", "gemma", "concepts", "unigram")


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
    if kind == "concepts" or kind == "unigram":
        return _made_for(_self_described(path, kind), path, context, vocabulary)
    from geoglot.models.tokenizers.pieces import GEMMA, XLMR, read_pieces

    return read_pieces(path, GEMMA if kind == "gemma" else XLMR, context, vocabulary)


def load_tokenizer(card: Card) -> Tokenizer:
    """The tokenizer of a model folder. A card that states no kind has the glossary's concepts.

    Raises:
        ModelFileError: See read_tokenizer.
    """
    path = card.file("tokenizer")
    kind = card.tokenizer.kind if card.tokenizer else "concepts"
    if card.architecture is None:
        return _self_described(path, kind)
    text = card.architecture.text
    return read_tokenizer(path, kind, context=text.context, vocabulary=text.vocabulary)


def _self_described(path: Path, kind: str) -> ConceptTokenizer | UnigramTokenizer:
    """A tokenizer whose file states its context."""
    if kind == "unigram":
        from geoglot.models.tokenizers.unigram import read_unigram

        return read_unigram(path)
    if kind == "concepts":
        from geoglot.models.tokenizers.concepts import ConceptTokenizer

        return ConceptTokenizer.load(path)
    raise ModelFileError(f"a tokenizer of kind {kind!r} needs a card that describes the text tower")


def _made_for(tokenizer: ConceptTokenizer | UnigramTokenizer, path: Path, context: int, vocabulary: int) -> Tokenizer:
    if (tokenizer.context, tokenizer.vocabulary) != (context, vocabulary):
        raise ModelFileError(
            f"{path.name} makes {tokenizer.vocabulary} tokens in rows of {tokenizer.context}; "
            f"the text tower reads {vocabulary} in rows of {context}",
            hint="Use the tokenizer file that belongs to these weights.",
        )
    return tokenizer
