"""The light runtime: exported encoders on ONNX Runtime, no PyTorch.

The graphs carry their own preprocessing: the image graph takes uint8 [N, S, S, 3] and normalises inside, both end in
unit vectors. The image graph of a model whose card has a `patch_px` takes any size, and has a second output for places.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import EmptyQueryError, ModelFileError, UsageError
from geoglot.models.card import Card
from geoglot.models.encoder import Images, Vectors, dense
from geoglot.models.tokenizers.load import load_tokenizer
from geoglot.models.tokenizers.protocol import Ids, Tokenizer, TokenRows
from geoglot.models.tokenizers.truncation import TruncationCount

if TYPE_CHECKING:
    import onnxruntime

    from geoglot.models.towers.dense import LastBlock

_BATCH = 32  # larger batches gain nothing on CPUs (DESIGN: 16 is enough) and cost memory
_PIXELS = 32 * 224**2  # in one pass when images have any size: about 300 MB of activations for geoglot-mini
_TEXTS = 32  # larger batches are slower on CPUs, and take more memory
_SHORTEST = 3  # tokens; the shortest row that an exported text graph takes


class LightEncoder:
    """A DenseEncoder (see models/encoder.py) over two ONNX files and a tokenizer file.

    Args:
        card: Names the files.
        threads: CPU threads; default all cores this process may use.
    """

    def __init__(self, card: Card, *, threads: int | None = None) -> None:
        self.card = card
        self.truncation = TruncationCount()
        self._threads = threads or os.cpu_count() or 1

    @property
    def patch_px(self) -> int:
        """See DenseEncoder: 0 when the image graph has no output for places."""
        return self.card.patch_px or 0

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Reads the texts."""
        return load_tokenizer(self.card)

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
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others' work waits meanwhile
        if role == "text":
            _keep_nothing(options)
        path = self.card.file(role)
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _load_errors() as error:
            raise ModelFileError(f"{path} is not a model that ONNX Runtime can load: {error}") from error

    def encode_images(self, images: Images) -> Vectors:
        """See DualEncoder. A model whose card says how takes other sizes, too, and resizes them.

        Raises:
            UsageError: The array is not uint8 [N, S, S, 3], or [N, H, W, 3].
        """
        fitted = self._fitted(images)
        parts = [self._run_image(fitted[at : at + _BATCH]) for at in range(0, len(fitted), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.card.dim), np.float32)

    def _fitted(self, images: Images) -> Images:
        side = self.card.image_px
        if self.card.preprocess is not None:
            from geoglot.models.towers.preprocess import check_images, fit

            return fit(check_images(images), side, self.card.preprocess)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise UsageError(f"images must be uint8 [N, {side}, {side}, 3], not {images.dtype} {list(images.shape)}")
        return images

    def patch_features(self, images: Images, last_block: LastBlock | None = None) -> Vectors:
        """See DenseEncoder. Memory is bounded whatever the number and size of the images, down to one image at a time.

        Raises:
            UsageError: Not such an array, images smaller than a patch, or a last block is asked for.
        """
        side = dense(self).patch_px
        if last_block is not None:
            raise UsageError(
                f"model {self.card.name!r} has no last block to choose, got {last_block!r}", hint="Leave it out."
            )
        _check_any_size(images, side)
        batch = max(1, _PIXELS // (images.shape[1] * images.shape[2]))
        parts = [self._run_image(images[at : at + batch], "patches") for at in range(0, len(images), batch)]
        grid = (-(-images.shape[1] // side), -(-images.shape[2] // side))
        return np.concatenate(parts) if parts else np.zeros((0, *grid, self.card.dim), np.float32)

    def _run_image(self, images: Images, output: str = "vectors") -> Vectors:
        vectors: Vectors = self._image.run([output], {"images": images})[0]
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """See DualEncoder. What does not fit the context is cut, counted and logged (`truncation`)."""
        if any(not text.strip() for text in texts):
            raise EmptyQueryError("the text is empty", hint="Say what to look for, for example: boats in a harbour")
        parts = [self._run_texts(texts[at : at + _TEXTS]) for at in range(0, len(texts), _TEXTS)]
        return np.concatenate(parts) if parts else np.zeros((0, self.card.dim), np.float32)

    def _run_texts(self, texts: Sequence[str]) -> Vectors:
        rows = self.tokenizer.rows(texts)
        self.truncation.add(rows)
        vectors: Vectors = self._text.run(None, {"tokens": self._needed(rows)})[0]
        return vectors

    def _needed(self, rows: TokenRows) -> Ids:
        """Without the columns that are padding in every row, where the text graph's length is free."""
        if self.card.architecture is None or isinstance(self._text.get_inputs()[0].shape[1], int):
            return rows.ids
        return np.ascontiguousarray(rows.ids[:, : max(_SHORTEST, int(rows.lengths.max()))])


def _load_errors() -> tuple[type[Exception], ...]:
    """The exceptions that ONNX Runtime raises on a file it cannot load; its exceptions have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoModel NoSuchFile NotImplemented RuntimeException"
    return tuple(getattr(state, name) for name in names.split())


def _keep_nothing(options: onnxruntime.SessionOptions) -> None:
    """For many short runs of all lengths, in a process that lasts.

    By default memory is laid out anew for each shape of input and kept for good: more than 100 MiB after the background
    prompts of one archive (tests/models/test_bundled.py).
    """
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False


def _check_any_size(images: NDArray[np.uint8], least: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UsageError(f"images must be uint8 [N, H, W, 3], not {images.dtype} {list(images.shape)}")
    if min(images.shape[1:3]) < least:
        raise UsageError(f"images of {images.shape[2]} x {images.shape[1]} px are smaller than a patch, {least} px")
