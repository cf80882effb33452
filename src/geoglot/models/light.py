"""The light runtime: exported encoders on ONNX Runtime, no PyTorch.

The graphs carry their own preprocessing: the image graph takes uint8 [N, S, S, 3] and normalises inside, both end in
unit vectors.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from geoglot.errors import ModelFileError, UsageError
from geoglot.models.card import Card
from geoglot.models.encoder import Images, Vectors
from geoglot.models.tokenizer import ConceptTokenizer

if TYPE_CHECKING:
    import onnxruntime

_BATCH = 32  # larger batches gain nothing on CPUs (DESIGN: 16 is enough) and cost memory


class LightEncoder:
    """A DualEncoder (see models/encoder.py) over two ONNX files and a tokenizer file.

    Args:
        card: Names the files.
        threads: CPU threads; default all cores this process may use.
    """

    def __init__(self, card: Card, *, threads: int | None = None) -> None:
        self.card = card
        self._threads = threads or os.cpu_count() or 1

    @cached_property
    def tokenizer(self) -> ConceptTokenizer:
        """Reads the texts."""
        return ConceptTokenizer.load(self.card.file("tokenizer"))

    @cached_property
    def _image(self) -> onnxruntime.InferenceSession:
        return self._session("image")

    @cached_property
    def _text(self) -> onnxruntime.InferenceSession:
        return self._session("text")

    def _session(self, role: str) -> onnxruntime.InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        path = self.card.file(role)
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except onnxruntime.capi.onnxruntime_pybind11_state.OnnxRuntimeException as error:
            raise ModelFileError(f"{path} is not a model that ONNX Runtime can load: {error}") from error

    def encode_images(self, images: Images) -> Vectors:
        """See DualEncoder; raises UsageError when the array is not uint8 [N, S, S, 3]."""
        side = self.card.image_px
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise UsageError(f"images must be uint8 [N, {side}, {side}, 3], not {images.dtype} {list(images.shape)}")
        parts = [self._run_image(images[at : at + _BATCH]) for at in range(0, len(images), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.card.dim), np.float32)

    def _run_image(self, images: Images) -> Vectors:
        vectors: Vectors = self._image.run(None, {"images": images})[0]
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """See DualEncoder."""
        if not texts:
            return np.zeros((0, self.card.dim), np.float32)
        vectors: Vectors = self._text.run(None, {"tokens": self.tokenizer(texts)})[0]
        return vectors
