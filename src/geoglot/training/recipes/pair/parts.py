"""The frozen text encoders that recipe `pair` can take."""

from __future__ import annotations

from geoglot.errors import UnknownNameError
from geoglot.models.parts.sentences import SentenceEncoder
from geoglot.models.parts.use import read_use


def sentence_encoder(name: str) -> SentenceEncoder:
    """Open an encoder.

    Raises:
        UnknownNameError: No such encoder.
        MissingExtraError: Its package is not installed.
    """
    if name != "use":
        raise UnknownNameError("text encoder", name, ("use",))
    return read_use()
