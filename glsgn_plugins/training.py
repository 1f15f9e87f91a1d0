"""What the trainers of both frameworks do in a step without waiting for the device.

Work is queued on a GPU, and the host goes on; whatever it reads (``.item()``, an ``if`` on a
tensor, a copy to the host) makes it wait until the queue is empty, and leaves the device idle until
there is something in it again. So nothing is read in a step: what is to be known of it stays on
the device until something is logged or saved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glsgn_plugins.archs.blocks import PatchNorm
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.tiled import as_float


class NonFiniteStep(NamedTuple):
    """The first step whose loss or gradient was not finite.

    Attributes:
        step: Its number.
        terms: Values of the loss's terms in that step, by name.
    """

    step: int
    terms: dict[str, float]

    @property
    def bad(self) -> list[str]:
        """Names of the terms that are not finite; none where only the gradient isn't."""
        return [name for name, value in self.terms.items() if not math.isfinite(value)]

    @property
    def values(self) -> str:
        """Each term and its value."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.terms.items())


class FiniteWatch:
    """Notes on the device which step was the first that wasn't finite.

    What a later step finds doesn't change the note: after one spoilt update all are.
    """

    def __init__(self) -> None:
        # By the names of the terms: their values, then the step's number; and whether all is well.
        self._notes: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    def see(self, step: int, terms: Mapping[str, Tensor], *checked: Tensor) -> None:
        """Look at one step.

        Args:
            step: Its number.
            terms: The loss's, scalars.
            checked: What must be finite beside them: their sum, the norm of the gradients.
        """
        with torch.no_grad():
            values = torch.stack([value.detach().float() for value in terms.values()])
            all_of_them = [value.detach().float() for value in checked]
            finite = torch.stack([*all_of_them, values.sum()]).isfinite().all()
            note = torch.cat([values, values.new_full((1,), step)])  # exact up to 2**24
            names = tuple(terms)
            if names in self._notes:
                before, good = self._notes[names]
                note, finite = torch.where(good, note, before), good & finite
            self._notes[names] = note, finite

    def read(self) -> NonFiniteStep | None:
        """What was noted; the one place that waits for the device."""
        bad = []
        for names, (note, finite) in self._notes.items():
            *values, step, good = torch.cat([note, finite.float()[None]]).tolist()
            if not good:
                bad.append(NonFiniteStep(int(step), dict(zip(names, values))))
        return min(bad, key=lambda one: one.step, default=None)


def update_averages(averages: list[Tensor], weights: list[Tensor], decay: float) -> None:
    """``average = decay * average + (1 - decay) * weight``, of all tensors in a few kernels."""
    with torch.no_grad():
        torch._foreach_mul_(averages, decay)
        torch._foreach_add_(averages, weights, alpha=1 - decay)


def average_statistics(net: nn.Module) -> None:
    """Patch Norm's running averages become the mean of all ranks', each of which saw other crops.

    DistributedDataParallel has gradients and buffers in common; these are parameters without a
    gradient. Nothing happens where there is one rank, or no Patch Norm.
    """
    ranks = torch.distributed
    if not ranks.is_available() or not ranks.is_initialized() or ranks.get_world_size() == 1:
        return
    norms = [module for module in net.modules() if isinstance(module, PatchNorm)]
    kept = [average.data for n in norms for average in (n.running_mean, n.running_var)]
    if not kept:
        return
    every = torch.cat(kept)
    ranks.all_reduce(every)
    every /= ranks.get_world_size()
    torch._foreach_copy_(kept, list(every.split([len(average) for average in kept])))


FUSED = ("Adam", "AdamW", "SGD")
"""Optimisers of torch that update all weights in one kernel on a GPU."""


def with_fused(kind: type[torch.optim.Optimizer], options: Mapping[str, Any], device: str) -> Any:
    """Options of an optimiser with ``fused``, where torch has it for the device.

    A fused optimiser also leaves out a step that the scaler of float16 finds overflown without the
    host's looking at it.

    Args:
        kind: Of ``torch.optim``.
        options: What is asked for; ``fused`` or ``foreach`` there decide.
        device: Its type.
    """
    taken = kind.__init__.__code__.co_varnames
    free = not {"fused", "foreach", "differentiable"} & options.keys()
    if device == "cuda" and kind.__name__ in FUSED and "fused" in taken and free:
        return {**options, "fused": True}
    return dict(options)


def copy_to(images: Tensor, device: torch.device) -> Tensor:
    """A batch on the device, as it is.

    Pinned memory is copied while the host goes on. Where a prefetcher has copied it on a stream of
    its own, that memory must not be used again before this stream is through with it.

    Args:
        images: ``(N, C, H, W)``.
        device: Where to.
    """
    if images.is_cuda:
        images.record_stream(torch.cuda.current_stream(images.device))
    return images.to(device, non_blocking=True)


def to_device(images: Tensor, device: torch.device) -> Tensor:
    """A batch on the device, by :func:`copy_to`: float32 in [0, 1], channels-last.

    Args:
        images: ``(N, 3, H, W)``, of that or uint8, which is converted on the device.
        device: Where to.
    """
    moved = copy_to(images, device)
    if moved.dtype == torch.uint8:
        moved = as_float(moved)
    return moved.contiguous(memory_format=torch.channels_last)


def pair_on_device(data: Mapping[str, Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs and truths of a batch on the device, as of :func:`to_device`.

    Args:
        data: ``lq`` and ``gt``; or ``gt`` and ``recipe``, which are degraded there.
        device: Where to.
    """
    if "recipe" not in data:
        return to_device(data["lq"], device), to_device(data["gt"], device)
    from glsgn_plugins.degradations.on_device import degrade  # with which OpenCV comes

    recipe = {name: copy_to(part, device) for name, part in data["recipe"].items()}
    lq, gt = degrade(copy_to(data["gt"], device), recipe)
    return to_device(lq, device), to_device(gt, device)


def compiler(how: bool | str | None, place: str) -> str | None:
    """The backend of ``torch.compile`` that an option asks for; ``None`` for no compiling.

    Args:
        how: ``True``, a backend's name, or nothing.
        place: Of the option, for the message.

    Raises:
        InputError: There is no such backend, or this torch can't compile in place.
    """
    if not how:
        return None
    if not hasattr(nn.Module, "compile"):
        raise InputError(f"{place}: needs torch 2.2 or later; leave it out")
    import torch._dynamo

    known = torch._dynamo.list_backends(exclude_tags=())
    if how is not True and how not in known:
        raise InputError(f"{place}: expected true, false or one of {', '.join(known)}; got {how!r}")
    return "inductor" if how is True else how


def compile_forward(net: nn.Module, backend: str | None) -> None:
    """Compile a network's forward, as one graph, in place: names of weights don't change.

    Args:
        net: The network itself, inside of what wraps it for several devices.
        backend: As of :func:`compiler`.
    """
    if backend is not None:
        # Crops have one size; whole images of any size are restored by the network as it is.
        net.compile(fullgraph=True, dynamic=False, backend=backend)


@contextmanager
def uncompiled(net: nn.Module) -> Iterator[None]:
    """The network without what :func:`compile_forward` made of it, which is of one size of crop."""
    compiled = getattr(net, "_compiled_call_impl", None)
    net._compiled_call_impl = None
    try:
        yield
    finally:
        net._compiled_call_impl = compiled
