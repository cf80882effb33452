"""Freeze a dual encoder and put small trained parts into its towers; later fold into the weights what can be folded.

What goes where:

| tower | lora | bitfit | adapter, prefix, unipelt |
|---|---|---|---|
| CLIP and SigLIP transformers | rows of the joint q, k, v matrix | biases | yes |
| XLM-RoBERTa | query, key and value layers | biases | no |
| convolutional (CLIP's ResNet, the bundled one) | every convolution | biases, those of norms too | no |
| the bundled text tower | rows of the joint q, k, v matrix | biases | no |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize

from geoglot.errors import UsageError
from geoglot.models.peft.blocks import MATRICES, TunedAttention, TunedBlock
from geoglot.models.peft.modules import Bottleneck, Gate, LowRank, LowRankUpdate, Prefix, Stem
from geoglot.models.peft.settings import Tuning
from geoglot.models.towers.clip import Clip, XlmrClip
from geoglot.models.towers.convnet_training import DualTower, TextLayer
from geoglot.models.towers.transformer import Block, Transformer

_XLMR_LAYERS = {"q": "query", "k": "key", "v": "value"}


@dataclass(frozen=True, slots=True)
class _Weight:
    """A weight that a low-rank change can go to: `blocks` row blocks, of which some change."""

    owner: nn.Module
    name: str
    blocks: int = 1
    changed: tuple[int, ...] = (0,)


def tune(model: nn.Module, tuning: Tuning) -> None:
    """Freeze everything and add what the method trains; for "full" do nothing.

    Batch norms of a frozen tower stay in evaluation mode for good: their statistics are weights too.

    Args:
        model: A `Clip`, `XlmrClip` or `DualTower`, changed in place.
        tuning: What to add.

    Raises:
        UsageError: The method has no place in a tower, or the model is tuned already.
    """
    tuning = tuning.resolved()
    if tuning.method == "full":
        return
    if is_tuned(model):
        raise UsageError("the model holds small parts already", hint="Merge them first, or start from the plain model.")
    towers = [_tower(model, name) for name in tuning.towers]
    if tuning.method not in ("lora", "bitfit"):
        for tower in towers:
            _transformer(tower, tuning.method)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            _keep_evaluating(module)
    for tower in towers:
        _add(tower, tuning)


def _add(tower: nn.Module, tuning: Tuning) -> None:
    if tuning.method == "bitfit":
        for name, parameter in tower.named_parameters():
            if name.rpartition(".")[2] in ("bias", "in_proj_bias"):
                parameter.requires_grad_(True)
    elif tuning.method == "lora":
        for site in _weights(tower, tuning.matrices):
            weight = getattr(site.owner, site.name)
            update = LowRankUpdate(weight, tuning.rank, tuning.alpha, site.blocks, site.changed)
            parametrize.register_parametrization(site.owner, site.name, update.to(weight.device, weight.dtype))
    else:
        _rebuild(_transformer(tower, tuning.method), tuning)


def _rebuild(transformer: Transformer, tuning: Tuning) -> None:
    blocks = transformer.resblocks
    like = transformer.get_parameter("resblocks.0.ln_1.weight")  # [W]
    width = len(like)
    stem = Stem(tuning.prefix_length, width, tuning.prefix_width) if tuning.method != "adapter" else None
    for at, block in enumerate(blocks):
        assert isinstance(block, Block)
        blocks[at] = _tuned(block, width, stem, tuning).to(like.device, like.dtype).train(transformer.training)


def _tuned(block: Block, width: int, stem: Stem | None, tuning: Tuning) -> TunedBlock:
    if tuning.method == "prefix" and stem:
        return TunedBlock(block, TunedAttention(block.attn, Prefix(stem, width)))
    if tuning.method == "unipelt" and stem:
        changes = {name: LowRank(width, width, tuning.rank, tuning.alpha) for name in tuning.matrices}
        gates = {name: Gate(width, tuning.gate) for name in changes}
        attention = TunedAttention(block.attn, Prefix(stem, width), Gate(width, tuning.gate), changes, gates)
        return TunedBlock(block, attention, outer=Bottleneck(width, tuning.reduction, Gate(width, tuning.gate)))
    if tuning.placement == "output":
        return TunedBlock(block, block.attn, outer=Bottleneck(width, tuning.reduction))
    return TunedBlock(block, block.attn, inner=[Bottleneck(width, tuning.reduction) for _ in range(2)])


def merge(model: nn.Module) -> bool:
    """Fold small parts into the weights: low-rank changes for good, prefixes into plain keys and values.

    Returns:
        Whether the model now has its original form (LoRA and BitFit: yes; adapters, prefixes and gates: no weight of
        the original form computes what they do).
    """
    for module in model.modules():
        for name in [n for n, steps in _parametrized(module) if isinstance(steps[0], LowRankUpdate)]:
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    for module in model.modules():
        if isinstance(module, Prefix) and module.stem is not None:
            module.fold()
    return not is_tuned(model)


def is_tuned(model: nn.Module) -> bool:
    """Whether the model holds small parts that are not part of its original form."""
    return any(isinstance(module, TunedBlock | LowRankUpdate) for module in model.modules())


def _parametrized(module: nn.Module) -> list[tuple[str, nn.ModuleList]]:
    if not parametrize.is_parametrized(module):
        return []
    return list(module.parametrizations.items())  # type: ignore[union-attr, operator]


def _tower(model: nn.Module, name: str) -> nn.Module:
    if isinstance(model, DualTower):
        return model.image if name == "image" else model.text
    if not isinstance(model, Clip | XlmrClip):
        raise UsageError(f"{type(model).__name__} is not a dual encoder that can be tuned in parts")
    if name == "image":
        return model.visual
    return model.text if isinstance(model, XlmrClip) else _RootText(model)


class _RootText(nn.Module):
    """The text side of a `Clip`, whose parameters lie at the root, as a module of its own."""

    def __init__(self, model: Clip) -> None:
        super().__init__()
        self.transformer, self.ln_final = model.transformer, model.ln_final
        if isinstance(model.text_projection, nn.Module):
            self.text_projection = model.text_projection


def _transformer(tower: nn.Module, method: str) -> Transformer:
    found = getattr(tower, "transformer", None)
    if not isinstance(found, Transformer):
        raise UsageError(
            f"{method} needs the blocks of a CLIP or SigLIP transformer; a {type(tower).__name__} has none",
            hint='Use method = "lora" or "bitfit", or leave that tower out of `towers`.',
        )
    return found


def _weights(tower: nn.Module, matrices: tuple[str, ...]) -> Iterator[_Weight]:
    """Where low-rank changes go in a tower."""
    thirds = tuple(MATRICES.index(matrix) for matrix in matrices)
    found = getattr(tower, "transformer", None)
    if isinstance(found, Transformer):
        yield from (_Weight(block.attn, "in_proj_weight", 3, thirds) for block in found.resblocks)  # type: ignore[arg-type]
        return
    layers = tuple(_XLMR_LAYERS[matrix] for matrix in matrices)
    for name, module in tower.named_modules():
        if isinstance(module, TextLayer):
            yield _Weight(module.mix, "weight", 3, thirds)
        elif isinstance(module, nn.Conv2d) or name.rpartition(".")[2] in layers:
            yield _Weight(module, "weight")


def _keep_evaluating(module: nn.Module) -> None:
    module.eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign]
