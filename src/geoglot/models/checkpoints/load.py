"""From a file of weights to geoglot's tensors and an architecture, or an error that says what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from geoglot.errors import ModelFileError, UnknownNameError, UsageError
from geoglot.models.checkpoints.config import Stated, read_config
from geoglot.models.checkpoints.detect import Detected, detect, differences, model_name
from geoglot.models.checkpoints.fold import fold_positions
from geoglot.models.checkpoints.names import Layout, to_canonical
from geoglot.models.checkpoints.open import Opened, open_checkpoint
from geoglot.models.towers.architecture import Activation, Architecture, TextShape, VisionShape
from geoglot.models.zoo.origin import Preprocess

log = logging.getLogger("geoglot.models")

ACTIVATION_KEY = "geoglot.activation"  # in the metadata of what `write_safetensors` writes
_CLASSES: dict[str, Activation] = {"QuickGELU": "quick_gelu", "GELU": "gelu"}
CHOOSE = (
    "Weights do not show it. Give a card, or say activation='quick_gelu' for OpenAI's and MetaCLIP's models and what "
    "was tuned from them (GeoRSCLIP but H/14, FarSLIP, SkyCLIP L/14, Long-CLIP), 'gelu' for LAION's (open_clip) and "
    "RS-M-CLIP, 'gelu_tanh' for SigLIP. If it is not known, score both on labelled images and take the better."
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint that was read.

    Attributes:
        tensors: Under geoglot's names, complete and finite, in the file's precision.
        architecture: What they are.
        layout: How the file named them.
        source: Who said the activation.
        notes: What was decided by a rule, renamed, folded or left out.
        preprocess: What the configuration beside it says of the input; None where it says nothing.
    """

    tensors: dict[str, Tensor]
    architecture: Architecture
    layout: Layout
    source: str
    notes: tuple[str, ...]
    preprocess: Preprocess | None = None

    @property
    def summary(self) -> str:
        """One line for people: model, patch, grid, width, context, activation, and who decided."""
        vision, text = self.architecture.vision, self.architecture.text
        return (
            f"{model_name(vision)} ({self.layout}): patch {vision.patch_px}, grid {vision.grid}x{vision.grid}, width "
            f"{vision.width}, text {text.kind} context {text.context}, {self.architecture.activation} ({self.source})"
        )


def load_checkpoint(
    path: str | Path,
    *,
    architecture: Architecture | None = None,
    activation: Activation | None = None,
    contexts: tuple[int, ...] = (),
    sha256: str | None = None,
) -> Loaded:
    """Read weights in any released layout into geoglot's names, strictly: nothing left over, nothing missing.

    Logs the summary line.

    Args:
        path: A file, or a folder as Hugging Face and open_clip write it.
        architecture: What it must be (from a card), activation included; None to recognise it.
        activation: Who knows better than the file's surroundings says it here.
        contexts: With `architecture`: text contexts that may be in the file instead of its own; the file decides.
        sha256: The file's checksum, when somebody published it.

    Raises:
        ModelNotFoundError: Nothing at `path`.
        ModelFileError: Damaged, would run code, another kind of model, not what `architecture` says, tensors missing,
            left over, of a wrong shape, or not finite.
        UsageError: Nobody says the activation, or two arguments contradict each other.
    """
    _check_arguments(architecture, activation)
    opened = open_checkpoint(path, sha256=sha256)
    found = detect({name: tuple(tensor.shape) for name, tensor in opened.tensors.items()})
    stated = read_config(opened.config) if opened.config else None
    if architecture is None:
        chosen, source = _activation(opened, stated, activation, found)
        architecture = _complete(found, stated, opened.path).architecture(chosen)
    else:
        source = "the card"
        if found.text.context in contexts:
            architecture = replace(architecture, text=replace(architecture.text, context=found.text.context))
        _check_card(found, stated, architecture, opened.path)
    tensors = fold_positions(to_canonical(opened.tensors, found.layout))
    _check_strict(tensors, architecture, opened.path)
    notes = (*opened.notes, *found.notes)
    loaded = Loaded(tensors, architecture, found.layout, source, notes, stated.preprocess if stated else None)
    log.info("%s", loaded.summary)
    return loaded


def _check_arguments(architecture: Architecture | None, activation: Activation | None) -> None:
    if activation is not None and activation not in get_args(Activation):
        raise UnknownNameError("activation", activation, get_args(Activation))
    if architecture is not None and activation is not None and activation != architecture.activation:
        raise UsageError(
            f"activation {activation!r} was asked for, and an architecture with {architecture.activation!r}",
            hint="Give one of them, or make them agree.",
        )


def _activation(
    opened: Opened, stated: Stated | None, asked: Activation | None, found: Detected
) -> tuple[Activation, str]:
    """Who says it, most deliberate first: the caller, our metadata, the configuration, TorchScript's class names."""
    ours = (opened.metadata or {}).get(ACTIVATION_KEY)
    classes = {_CLASSES[name] for name in opened.classes if name in _CLASSES}
    if asked is not None:
        return asked, "said by the caller"
    if ours in get_args(Activation):
        return ours, "the file's metadata"  # type: ignore[return-value]  # one of the literals
    if stated is not None and stated.activation is not None:
        return stated.activation, stated.source
    if len(classes) == 1:
        return classes.pop(), "class names in the TorchScript archive"
    raise UsageError(
        f"nothing states the activation of {opened.path}, a {model_name(found.vision)} with {found.text.kind} text",
        hint=CHOOSE,
    )


def _complete(found: Detected, stated: Stated | None, path: Path) -> Detected:
    """Heads, pixels and context from the configuration, where there is one."""
    vision, text = found.vision, found.text
    if stated is not None:
        vision = replace(vision, heads=stated.vision_heads or vision.heads, image_px=stated.image_px or vision.image_px)
        text = replace(text, heads=stated.text_heads or text.heads)
        if text.kind == "xlmr":
            text = replace(text, context=stated.context or text.context)
        vision, text = _settled(vision, text, stated)
        _check_stated(found, stated, path)
    for tower, width, heads in (("image", vision.width, vision.heads), ("text", text.width, text.heads)):
        if heads == 0 or (width % heads and not (tower == "image" and vision.kind == "resnet")):
            raise ModelFileError(
                f"nothing states how many attention heads the {tower} tower of {path} has (width {width})",
                hint="Give the folder with its config.json, or a card.",
            )
    if vision.image_px // vision.patch_px != found.vision.grid:
        raise ModelFileError(
            f"{path} has a grid of {found.vision.grid} patches, its configuration says {vision.image_px} pixels",
            hint="The configuration belongs to another file.",
        )
    return replace(found, vision=vision, text=text)


def _settled(vision: VisionShape, text: TextShape, stated: Stated) -> tuple[VisionShape, TextShape]:
    """Pooling and masks, which no shape shows; what is as the towers' kinds have it stays "own"."""
    if vision.kind == "vit" and vision.pooling == "cls":
        pooling: Literal["cls", "mean"] = "mean" if stated.mean_pooling else "cls"
        vision = replace(vision, pooling=pooling, ln_pre=stated.ln_pre, ln_pooled=stated.ln_pooled)
    if stated.text_pooling not in (None, text.read_at):
        text = replace(text, pooling=stated.text_pooling, end_id=stated.end_id)
    if stated.causal not in (None, text.causal):
        text = replace(text, mask="causal" if stated.causal else "none")
    return vision, text


def _check_stated(found: Detected, stated: Stated, path: Path) -> None:
    """The configuration's sizes are the file's; its norms have the constant of their kind."""
    has = {f"image {name}": getattr(found.vision, name) for name in ("width", "patch_px", "mlp_width")}
    has |= {f"text {name}": getattr(found.text, name) for name in ("width", "layers", "mlp_width")}
    wrong = [f"{what} {has[what]} in the weights, {value} in {stated.source}" for what, value in stated.sizes
             if has[what] != value]  # fmt: skip
    own = {"image": (1e-6 if found.vision.pooling == "map" else 1e-5, stated.vision_eps)}
    own |= {"text": (1e-6 if found.text.kind == "siglip" else 1e-5, stated.text_eps)}
    wrong += [f"the {tower} tower's norms have eps {eps:g}, {kind:g} is built" for tower, (kind, eps) in own.items()
              if eps not in (None, kind)]  # fmt: skip
    if wrong:
        hint = "The configuration belongs to another file, or to a model that geoglot does not build."
        raise ModelFileError(f"{path} and its configuration disagree: {'; '.join(wrong)}", hint=hint)


def _check_card(found: Detected, stated: Stated | None, wanted: Architecture, path: Path) -> None:
    wrong = differences(found, wanted)
    if stated is not None and stated.activation not in {None, wanted.activation}:
        wrong.append(f"activation {stated.activation} in {stated.source}, {wanted.activation} wanted")
    if stated is not None and not wrong:
        wrong = _settings_wrong(found, stated, wanted)
    if wrong:
        has, wants = _what(found.vision, found.text), _what(wanted.vision, wanted.text)
        raise ModelFileError(
            f"{path} is {has}, not {wants} as its card says: {'; '.join(wrong)}",
            hint="Take the card that belongs to the file, or load it without a card to see what it is.",
        )


def _settings_wrong(found: Detected, stated: Stated, wanted: Architecture) -> list[str]:
    vision, text = _settled(found.vision, found.text, stated)
    pairs: list[tuple[str, str, object, object]]
    pairs = [("image", name, vision, wanted.vision) for name in ("pooling", "ln_pre", "ln_pooled")]
    pairs += [("text", name, text, wanted.text) for name in ("read_at", "causal", "end_id")]
    said = [(f"{tower} {name}", getattr(a, name), getattr(b, name)) for tower, name, a, b in pairs]
    return [f"{what} {has} in {stated.source}, {wants} wanted" for what, has, wants in said if has != wants]


def _what(vision: VisionShape, text: TextShape) -> str:
    return f"a {model_name(vision)} with {text.kind} text of {text.context} tokens"


def _check_strict(tensors: Mapping[str, Tensor], architecture: Architecture, path: Path) -> None:
    from geoglot.models.towers.clip import build

    wanted = {name: tuple(t.shape) for name, t in build(architecture, device="meta").state_dict().items()}
    complaints = [
        ("missing", sorted(set(wanted) - set(tensors))),
        ("left over", sorted(set(tensors) - set(wanted))),
        ("of another shape", [n for n, t in tensors.items() if n in wanted and tuple(t.shape) != wanted[n]]),
    ]
    if any(names for _, names in complaints):
        told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in complaints if names)
        raise ModelFileError(
            f"{path} does not fit {model_name(architecture.vision)} strictly; {told}",
            hint="The file is not complete, or has parts that geoglot does not know.",
        )
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() and not name.endswith("num_batches_tracked"):
            hint = "Get the model before it was quantised."
            raise ModelFileError(f"{path}: the tensor {name!r} holds {tensor.dtype}, not floating numbers", hint=hint)
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"{path}: the tensor {name!r} holds NaN or Inf", hint="Copy or download it again.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
