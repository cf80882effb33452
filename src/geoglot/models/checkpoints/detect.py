"""Detect the model of a table of tensors by names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt

import torch

from geoglot.errors import ModelFileError
from geoglot.models.checkpoints.fold import LONG, fold_positions
from geoglot.models.checkpoints.names import Layout, name_layout, to_canonical
from geoglot.models.towers.architecture import Activation, Architecture, TextShape, VisionShape

Shapes = Mapping[str, tuple[int, ...]]

# Channels of a head in CLIP: 64, but in the largest image towers (OpenAI; open_clip ViT-H-14, ViT-g-14, ViT-bigG-14).
HEAD_WIDTH = 64
IMAGE_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}
# SigLIP and SigLIP 2 keep 12 or 16 heads whatever the width (config.json of google/siglip*-{base,large,so400m,giant}).
SIGLIP_HEADS = {768: 12, 1024: 16, 1152: 16, 1536: 16}
XLMR_CONTEXT = 77  # of open_clip's tokenizer; XLM-R's own table has 514 rows, so it does not show in the weights
LETTERS = {768: "B", 1024: "L", 1152: "So400m", 1280: "H", 1408: "g", 1536: "gopt", 1664: "bigG"}


@dataclass(frozen=True, slots=True)
class Detected:
    """An architecture as far as shapes tell. They never tell the activation, and heads only by a rule.

    Attributes:
        vision, text, dim: As in Architecture. heads is 0 where no rule gives it.
        layout: How the file names its tensors.
        notes: What was decided by a rule, or changed.
    """

    vision: VisionShape
    text: TextShape
    dim: int
    layout: Layout
    notes: tuple[str, ...]

    def architecture(self, activation: Activation) -> Architecture:
        """The architecture, with what somebody else must know."""
        return Architecture(self.vision, self.text, self.dim, activation)


def detect(shapes: Shapes) -> Detected:
    """Detect a checkpoint's model from its tensors' names and shapes, in any layout that is recognised.

    Raises:
        ModelFileError: The names belong to no such layout, or shapes contradict each other.
    """
    layout = name_layout(shapes)
    blank = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    canonical = {name: tuple(t.shape) for name, t in fold_positions(to_canonical(blank, layout)).items()}
    found = detect_canonical(canonical, layout)
    if "positional_embedding_res" in shapes or "text.positional_embedding_res" in shapes:
        found = replace(found, notes=(*found.notes, f"two position tables folded into one of {LONG} rows"))
    return found


def detect_canonical(shapes: Shapes, layout: Layout) -> Detected:
    """Like `detect`, for geoglot's names."""
    if "visual.layer1.0.conv1.weight" in shapes:
        vision, dim = _resnet(shapes)
    elif "visual.pool.probe" in shapes:
        vision = _vit(shapes, "map")
        dim = vision.width
    else:
        vision, dim = _vit(shapes, "cls"), _shape(shapes, "visual.proj", 2)[1]
    text = _text(shapes)
    rules = ["heads as in SigLIP's releases" if text.kind == "siglip" else "heads by the rule for CLIP"]
    if text.kind == "xlmr":
        rules.append(f"context {XLMR_CONTEXT} is open_clip's")
    return Detected(vision, text, dim, layout, tuple(rules))


def _shape(shapes: Shapes, name: str, axes: int) -> tuple[int, ...]:
    found = shapes.get(name)
    if found is None or len(found) != axes or not all(found):
        what = "is missing" if found is None else f"has the shape {list(found)}, not {axes} axes"
        raise ModelFileError(f"the tensor {name!r} {what}", hint="The file is not complete, or another kind of model.")
    return found


def _count(shapes: Shapes, pattern: str) -> int:
    """How many blocks a pattern numbers; they must be 0, 1, 2 ..."""
    numbers = {int(match[1]) for name in shapes if (match := re.match(pattern, name))}
    if not numbers or numbers != set(range(len(numbers))):
        shown = ", ".join(map(str, sorted(numbers)[:8])) or "none"
        raise ModelFileError(f"the file holds the blocks {shown} of {pattern!r}", hint="It is not complete.")
    return len(numbers)


def _square(rows: int, name: str) -> int:
    side = isqrt(rows)
    if side * side != rows or side == 0:
        raise ModelFileError(f"{name!r} has {rows} places for patches, which is no square grid", hint="Not supported.")
    return side


def _vit(shapes: Shapes, pooling: str) -> VisionShape:
    width, _, patch, _ = _shape(shapes, "visual.conv1.weight", 4)
    table = "visual.positional_embedding"
    grid = _square(_shape(shapes, table, 2)[0] - (pooling == "cls"), table)
    layers = _count(shapes, r"visual\.transformer\.resblocks\.(\d+)\.")
    mlp = _shape(shapes, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0]
    if pooling == "map":
        return VisionShape("vit", grid * patch, patch, width, (layers,), SIGLIP_HEADS.get(width, 0), mlp, "map")
    heads = width // IMAGE_HEAD_WIDTHS.get(width, HEAD_WIDTH)
    return VisionShape("vit", grid * patch, patch, width, (layers,), heads, mlp, "cls")


def _resnet(shapes: Shapes) -> tuple[VisionShape, int]:
    width = _shape(shapes, "visual.conv3.weight", 4)[0]
    stages = tuple(_count(shapes, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    rows, inside = _shape(shapes, "visual.attnpool.positional_embedding", 2)
    grid = _square(rows - 1, "visual.attnpool.positional_embedding")
    dim = _shape(shapes, "visual.attnpool.c_proj.weight", 2)[0]
    return VisionShape("resnet", grid * 32, 32, width, stages, inside // HEAD_WIDTH, 0, "attention"), dim


def _text(shapes: Shapes) -> TextShape:
    if "text.transformer.embeddings.word_embeddings.weight" in shapes:
        return _xlmr(shapes)
    vocabulary, width = _shape(shapes, "token_embedding.weight", 2)
    context = _shape(shapes, "positional_embedding", 2)[0]
    layers = _count(shapes, r"transformer\.resblocks\.(\d+)\.")
    mlp = _shape(shapes, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0]
    if "text_projection.weight" in shapes:
        return TextShape("siglip", context, vocabulary, width, layers, SIGLIP_HEADS.get(width, 0), mlp)
    return TextShape("clip", context, vocabulary, width, layers, width // HEAD_WIDTH, mlp)


def _xlmr(shapes: Shapes) -> TextShape:
    vocabulary, width = _shape(shapes, "text.transformer.embeddings.word_embeddings.weight", 2)
    layers = _count(shapes, r"text\.transformer\.encoder\.layer\.(\d+)\.")
    mlp = _shape(shapes, "text.transformer.encoder.layer.0.intermediate.dense.weight", 2)[0]
    hidden = _shape(shapes, "text.proj.0.weight", 2)[0]
    return TextShape("xlmr", XLMR_CONTEXT, vocabulary, width, layers, width // HEAD_WIDTH, mlp, hidden)


def differences(found: Detected, wanted: Architecture) -> list[str]:
    """Where a file contradicts an architecture, each with both values; empty when it fits.

    Not compared, for shapes do not tell: heads, the activation, masks, where a text is read off; nor pixels beyond the
    last whole patch, and XLM-R's context.
    """
    pairs: list[tuple[str, object, object]] = []
    for field in ("kind", "patch_px", "grid", "width", "layers", "mlp_width"):
        pairs.append((f"image {field}", getattr(found.vision, field), getattr(wanted.vision, field)))
    pairs.append(("image pooling", found.vision.pooling, _seen(wanted.vision)))
    same_text = found.text.kind == wanted.text.kind
    for field in ("kind", "context", "vocabulary", "width", "layers", "mlp_width", "hidden"):
        if field != "context" or not (same_text and found.text.kind == "xlmr"):
            pairs.append((f"text {field}", getattr(found.text, field), getattr(wanted.text, field)))
    pairs.append(("dim", found.dim, wanted.dim))
    return [f"{what} {has} in the file, {wants} wanted" for what, has, wants in pairs if has != wants]


def _seen(vision: VisionShape) -> str:
    """The pooling that shapes show: a "vit" with class token has the same ones when its patches are averaged."""
    return "cls" if vision.kind == "vit" and vision.pooling == "mean" else vision.pooling


def model_name(vision: VisionShape) -> str:
    """As people say it: ViT-B/32, RN50."""
    if vision.kind == "resnet":
        return f"RN{2 + 3 * sum(vision.layers)}"
    return f"ViT-{LETTERS.get(vision.width, f'width {vision.width}')}/{vision.patch_px}"
