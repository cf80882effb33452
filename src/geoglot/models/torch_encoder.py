"""The PyTorch runtime: any model whose card describes an architecture, from its own weights, with patch features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from geoglot.errors import EmptyQueryError, ModelFileError, UnknownNameError, UsageError
from geoglot.models.card import Card
from geoglot.models.checkpoints.open import read_tensors
from geoglot.models.peft.files import load_parts
from geoglot.models.tokenizers.load import load_tokenizer
from geoglot.models.tokenizers.protocol import Tokenizer
from geoglot.models.tokenizers.truncation import TruncationCount
from geoglot.models.towers.architecture import Architecture
from geoglot.models.towers.clip import DualModel, build
from geoglot.models.towers.dense import LastBlock
from geoglot.models.towers.preprocess import check_images, fit
from geoglot.models.zoo.origin import Preprocess

log = logging.getLogger("geoglot.models")

Precision = Literal["fp32", "bf16"]
_TYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
_TEXTS = 256  # texts in one forward pass
_PIXELS = {"cpu": 32 * 224**2, "cuda": 256 * 224**2}  # pixels in one pass: bounds memory for any image size


class TorchEncoder:
    """A DualEncoder (see models/encoder.py) on PyTorch, which can also tell where in an image something is.

    Device and precision are chosen here, once, logged, and stand in `runtime`. Weights are read on first use.

    Args:
        card: A model folder's card with an architecture, a preprocess table, and "weights" and "tokenizer" files.
        device: "cpu", "cuda", "cuda:1" ...; default CUDA where there is one.
        precision: "fp32" or "bf16"; default bf16 on a CUDA device that computes in it, else fp32.
        compile: Have PyTorch compile the image tower: tens of seconds at the first image of each size, for long runs.

    Raises:
        ModelFileError: The card says not enough to build the model.
        UsageError: No such device or precision here.
    """

    def __init__(
        self, card: Card, *, device: str | None = None, precision: str | None = None, compile: bool = False
    ) -> None:
        self.card = card
        self._architecture, self._preprocess = _described(card)
        self.device = _choose_device(device)
        self.precision = _choose_precision(precision, self.device)
        self.truncation = TruncationCount()
        self._compile = compile
        log.info("model %s: %s", card.name, self.runtime)

    @property
    def runtime(self) -> str:
        """Device and precision in one line, for people."""
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        compiled = ", compiled" if self._compile else ""
        return f"PyTorch {torch.__version__} on {self.device}, {self.precision}{threads}{compiled}"

    @cached_property
    def model(self) -> DualModel:
        """The network with its weights, in evaluation mode, without gradients."""
        return load_weights(self.card, self._architecture, self.device, _TYPES[self.precision])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Reads the texts."""
        return load_tokenizer(self.card)

    @cached_property
    def _encode_image(self) -> Callable[[Tensor], Tensor]:
        return torch.compile(self.model.encode_image) if self._compile else self.model.encode_image

    @property
    def patch_px(self) -> int:
        """See DenseEncoder: the side of a transformer's patch, or a ResNet's stride."""
        return self._architecture.vision.patch_px

    @property
    def scale(self) -> float:
        """The model's own factor for cosines, exp(logit_scale): its inverse temperature."""
        return float(self.model.logit_scale.exp())

    @torch.inference_mode()
    def encode_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """RGB uint8 [N, H, W, 3] -> float32 [N, D], unit norm. Resized and cropped as the card says unless S x S.

        Raises:
            UsageError: Not such an array.
        """
        fitted = fit(check_images(images), self.card.image_px, self._preprocess)
        parts = [_unit(self._encode_image(batch)).cpu().numpy() for batch in self._batches(fitted)]
        return np.concatenate(parts) if parts else np.zeros((0, self.card.dim), np.float32)

    @torch.inference_mode()
    def patch_features(
        self, images: NDArray[np.uint8], last_block: LastBlock | None = None, *, keep_residual: bool = False
    ) -> NDArray[np.float32]:
        """RGB uint8 [N, H, W, 3] of any size -> float32 [N, Ph, Pw, D] in the texts' space, unit norm.

        Nothing is resized: the position table is interpolated to the image. Patch (i, j) covers the pixels from
        (i * patch, j * patch) on. Sizes that are no multiple of the patch are filled up with the mean colour below and
        on the right, so Ph = ceil(H / patch); at the native size the tower's own grid holds.

        Args:
            images: The pixels.
            last_block: "vanilla", "maskclip", "sclip", "clearclip" or "segearth"; see towers/dense.py. None is the
                model's own choice: segearth, where it has attention to change.
            keep_residual: See models/clip.py.

        Raises:
            UsageError: Not such an array.
            UnknownNameError: No such last block.
        """
        parts = []
        for batch in self._batches(check_images(images)):
            found = self.model.dense(self._filled_up(batch), last_block, keep_residual=keep_residual)
            parts.append(_unit(found.patches).cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, 0, 0, self.card.dim), np.float32)

    @torch.inference_mode()
    def patches_and_token(
        self, images: NDArray[np.uint8], last_block: LastBlock | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As patch_features, with token 0 of the same modified path, [N, D], unit norm: SegEarth-OV subtracts it.

        Raises:
            UsageError: Not such an array, or the tower has no such token.
            UnknownNameError: No such last block.
        """
        patches, tokens = [], []
        for batch in self._batches(check_images(images)):
            found = self.model.dense(self._filled_up(batch), last_block)
            if found.class_token is None:
                raise UsageError(f"model {self.card.name!r} has no class token", hint="Leave the bias at 0.")
            patches.append(_unit(found.patches).cpu().numpy())
            tokens.append(_unit(found.class_token).cpu().numpy())
        return np.concatenate(patches), np.concatenate(tokens)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """M texts -> float32 [M, D], unit norm. What does not fit the context is cut, counted and logged.

        Raises:
            EmptyQueryError: A text is empty or blank.
        """
        return _unit(torch.from_numpy(self.embed_texts(texts))).numpy()

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As encode_texts, with the lengths that the tower gives: `zsc/rs5m` averages before it normalises.

        Raises:
            EmptyQueryError: A text is empty or blank.
        """
        if any(not text.strip() for text in texts):
            raise EmptyQueryError("the text is empty", hint="Say what to look for, for example: boats in a harbour")
        parts = [self._embed_rows(texts[at : at + _TEXTS]) for at in range(0, len(texts), _TEXTS)]
        return np.concatenate(parts) if parts else np.zeros((0, self.card.dim), np.float32)

    @torch.inference_mode()
    def _embed_rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = self.tokenizer.rows(texts)
        self.truncation.add(rows)
        ids = self.model.needed(torch.from_numpy(rows.ids)).to(self.device)
        return self.model.encode_text(ids).float().cpu().numpy()

    def _batches(self, images: NDArray[np.uint8]) -> Iterator[Tensor]:
        """Normalised [B, 3, H, W] on the device, as many at a time as memory should bear."""
        size = max(1, _PIXELS[self.device.type] // (images.shape[1] * images.shape[2]))
        mean, std = (torch.tensor(v, device=self.device) for v in (self._preprocess.mean, self._preprocess.std))
        for at in range(0, len(images), size):
            batch = torch.from_numpy(np.ascontiguousarray(images[at : at + size])).to(self.device)
            scaled = (batch.permute(0, 3, 1, 2) / 255 - mean[:, None, None]) / std[:, None, None]
            yield scaled.to(_TYPES[self.precision], memory_format=torch.contiguous_format)

    def _filled_up(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] to multiples of the patch, unless it has the native size; 0 is the mean colour.

        A "convnet" takes any size: its strides round up.
        """
        vision = self._architecture.vision
        height, width = images.shape[2:]
        if vision.kind == "convnet" or (height, width) == (vision.image_px, vision.image_px):
            return images
        return F.pad(images, (0, -width % vision.patch_px, 0, -height % vision.patch_px))


@torch.inference_mode(False)  # asked for while encoding, they could not be changed afterwards
def load_weights(card: Card, architecture: Architecture, device: torch.device, dtype: torch.dtype) -> DualModel:
    """The card's network with the weights of its folder, and with the small parts beside them where it names any.

    The weights' file is mapped, so memory holds them once.

    Args:
        card: Names the file.
        architecture: What the file must hold, exactly.
        device: Where they go.
        dtype: Of all floating-point weights but the temperature, whose rounding would show in every score.

    Raises:
        ModelFileError: A file is missing, damaged, or made for another architecture.
    """
    path = card.file("weights")
    tensors = read_tensors(path)
    model = build(architecture, device="meta")
    _check_fit(card, tensors, model.state_dict())
    kept = {name: t.float() if name.startswith("logit_") else _cast(t, dtype) for name, t in tensors.items()}
    model.load_state_dict({name: t.to(device) for name, t in kept.items()}, strict=True, assign=True)
    if "parts" in card.files:
        load_parts(model, card.file("parts"))
    return model.requires_grad_(False)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _check_fit(card: Card, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    other = sorted(n for n in set(wanted) & set(found) if wanted[n].shape != found[n].shape)
    if not (missing or extra or other):
        return
    lists = (("missing", missing), ("not expected", extra), ("of another shape", other))
    what = "; ".join(f"{len(names)} {kind}, such as {names[0]}" for kind, names in lists if names)
    raise ModelFileError(
        f"the weights of {card.name!r} do not fit its card: tensors {what}",
        hint="The card describes another architecture. Convert the file again: geoglot models convert FILE",
    )


def _described(card: Card) -> tuple[Architecture, Preprocess]:
    if card.architecture is None or card.preprocess is None:
        lacking = "architecture" if card.architecture is None else "preprocess"
        raise ModelFileError(
            f"the card of {card.name!r} has no {lacking} table, so PyTorch cannot run it",
            hint="Use the light runtime, or a card that describes the model.",
        )
    return card.architecture, card.preprocess


def _choose_device(asked: str | None) -> torch.device:
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise UnknownNameError("device", asked, _PIXELS) from error
    if device.type not in _PIXELS:
        raise UnknownNameError("device", asked, _PIXELS)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"there is no device {asked!r} here; PyTorch sees {torch.cuda.device_count()} CUDA devices")
    return device


def _choose_precision(asked: str | None, device: torch.device) -> Precision:
    if asked is None:
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    for precision in get_args(Precision):
        if asked == precision:
            return precision  # type: ignore[no-any-return]
    raise UnknownNameError("precision", asked, get_args(Precision))


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)
