"""Forward and backward of one contrastive batch, at once or chunk by chunk with the same gradient.

Chunk by chunk: (1) all chunks forward without a graph, keeping embeddings; (2) the loss on all of them, and its
gradient with respect to each embedding; (3) each chunk forward again, with a graph, backward from its cached gradient.
Memory is that of one chunk, time a third more. Implements: GradCache, Gao et al. 2021 (arXiv 2101.06983, section 3.2).

Chance (dropout, augmentation) is drawn anew from the same state in the second pass, so both passes see the same thing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from geoglot.errors import UsageError
from geoglot.training.distributed import World
from geoglot.training.objective import Batch, Objective, Outputs

Autocast = Callable[[], AbstractContextManager[object]]
Scale = Callable[[Tensor], Tensor]


def backward(
    model: nn.Module,
    batch: Batch,
    world: World,
    *,
    chunk: int = 0,
    autocast: Autocast = nullcontext,
    scale: Scale = lambda loss: loss,
    last: bool = True,
) -> tuple[dict[str, Tensor], Outputs]:
    """Add the gradient of the batch's loss to `.grad`.

    Args:
        model: An `Objective`, or DDP around one.
        batch: This process's rows.
        world: Who trains together.
        chunk: Rows at a time; 0: all at once. The same on every process, however many rows each has: DDP and the loss
            talk in another order with chunks than without.
        autocast: Precision of the forward passes; the loss is computed in fp32.
        scale: Applied to the loss before its gradient is taken (fp16's scaler, accumulation).
        last: Whether gradients are averaged over processes now; False while accumulating.

    Returns:
        Terms of the loss and outputs, both detached.
    """
    objective = bare(model)
    if not chunk:
        with _quiet(model, not last), autocast():
            outputs = model(batch)
        terms = objective.loss(outputs, batch, world)
        scale(_sum(terms)).backward()  # type: ignore[no-untyped-call]
        return _detached(terms), _detached(outputs)
    return _by_chunks(model, objective, batch, world, chunk, autocast, scale, last)


def _by_chunks(
    model: nn.Module,
    objective: Objective,
    batch: Batch,
    world: World,
    chunk: int,
    autocast: Autocast,
    scale: Scale,
    last: bool,
) -> tuple[dict[str, Tensor], Outputs]:
    parts = [batch.part(slice(at, at + chunk)) for at in range(0, len(batch), chunk)]
    chances, cached = list[_Chance](), list[Outputs]()
    with torch.no_grad(), autocast():
        for part in parts:
            chances.append(_Chance(world.device))
            cached.append(objective(part))
    after = _Chance(world.device)
    outputs = {
        name: (value if value.ndim == 0 else torch.cat([one[name] for one in cached])).detach().requires_grad_()
        for name, value in cached[0].items()
    }
    terms = objective.loss(outputs, batch, world)
    scale(_sum(terms)).backward()  # type: ignore[no-untyped-call]
    for index, (part, chance) in enumerate(zip(parts, chances, strict=True)):
        ends = index == len(parts) - 1
        chance.again()
        with _quiet(model, not (last and ends)):
            with autocast():
                again = model(part)
            _pull(again, _share(outputs, cached, index), ends)
    after.again()
    return _detached(terms), _detached(outputs)


def _share(outputs: Outputs, cached: list[Outputs], index: int) -> Outputs:
    """The gradients of one chunk's rows; a shared scalar's is given whole."""
    grads = {}
    for name, value in outputs.items():
        grad = torch.zeros_like(value) if value.grad is None else value.grad
        if value.ndim:
            start = sum(len(one[name]) for one in cached[:index])
            grad = grad[start : start + len(cached[index][name])]
        grads[name] = grad
    return grads


def _pull(outputs: Outputs, grads: Outputs, ends: bool) -> None:
    """Backward from given gradients; shared scalars count once, with the last chunk."""
    pairs = [
        (value, grads[name].to(value.dtype) * (1.0 if value.ndim or ends else 0.0))
        for name, value in outputs.items()
        if value.requires_grad
    ]
    torch.autograd.backward([value for value, _ in pairs], [grad for _, grad in pairs])


class _Chance:
    """The state of PyTorch's random numbers, taken now."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def again(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)


def bare(model: nn.Module) -> Objective:
    """The objective without DDP around it."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    if not isinstance(inner, Objective):
        raise TypeError(f"{type(inner).__name__} is not an Objective")
    return inner


def refuse_batch_norm(objective: nn.Module, chunk: int) -> None:
    """Batch normalisation sees the chunk, not the batch: chunks cannot give the same gradient.

    Raises:
        UsageError: Such a layer is in training mode.
    """
    names = [n for n, m in objective.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    if chunk and names:
        hint = "Train without chunk, or a model with layer normalisation."
        raise UsageError(f"chunk = {chunk} cannot give the batch's gradient: {names[0]} normalises by batch", hint=hint)


def _sum(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def _quiet(model: nn.Module, wanted: bool) -> AbstractContextManager[object]:
    return model.no_sync() if wanted and isinstance(model, DistributedDataParallel) else nullcontext()


def _detached(values: Outputs) -> Outputs:
    return {name: value.detach() for name, value in values.items()}
