"""A patch for MMEngine's training step, which waits for the device at each scalar it logs."""

from __future__ import annotations

import functools
import math
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.compat.patch import Patch, is_ours
from glsgn_plugins.errors import NonFiniteLossError

MOST = 20_000
"""Scalars that wait to be read, at the most: where nothing is logged, they aren't kept for ever."""

_waiting: weakref.WeakSet[Any] = weakref.WeakSet()
"""Message hubs of trainings with our models or network, whose scalars wait to be read."""

_stopping: weakref.WeakSet[Any] = weakref.WeakSet()
"""Those of them that stop at a loss that isn't finite."""


class Pending(NamedTuple):
    """A scalar that was logged and not read.

    Attributes:
        key: Its name.
        value: On its device.
        times: The ``count`` of ``update_scalar``.
        step: The iteration, from 1 up.
    """

    key: str
    value: Tensor
    times: int
    step: int


def let_wait(model: Any, hub: Any) -> None:
    """Let what is logged of a training wait to be read, and its batches be copied meanwhile.

    Args:
        model: What is trained; one that is neither ours nor has a GLSGN is left as it is.
        hub: The ``MessageHub`` of its training.
    """
    model = getattr(model, "module", model)
    if is_ours(model) or isinstance(getattr(model, "generator", None), GLSGN):
        _waiting.add(hub)
        # From pinned memory, batches are copied while the host goes on.
        model.data_preprocessor._non_blocking = True


def stop_unless_finite(hub: Any) -> None:
    """Let a message hub raise where a loss or the norm of gradients turns out not to be finite.

    Args:
        hub: The ``MessageHub`` of a training.
    """
    _stopping.add(hub)


def read(hub: Any) -> None:
    """Read what waits in a message hub, in one transfer from each device.

    Raises:
        NonFiniteLossError: As of :func:`stop_unless_finite`.
    """
    pending: list[Pending] = hub.__dict__.pop("_pending", [])
    values: dict[int, float] = {}
    for device in {entry.value.device for entry in pending}:
        there = [k for k, entry in enumerate(pending) if entry.value.device == device]
        together = torch.stack([pending[k].value.reshape(()).float() for k in there])
        values.update(zip(there, together.tolist()))
    for k, entry in enumerate(pending):
        _plain_update(hub, entry.key, values[k], entry.times)
    if hub in _stopping:
        _stop_at_first(hub, pending, values)


def _plain_update(hub: Any, key: str, value: float, count: int) -> None:
    from mmengine.logging import HistoryBuffer

    if key in hub._log_scalars:
        hub._log_scalars[key].update(value, count)
    else:
        hub._log_scalars[key] = HistoryBuffer([value], [count])


def _stop_at_first(hub: Any, pending: list[Pending], values: dict[int, float]) -> None:
    losses = [k for k, entry in enumerate(pending) if entry.key.startswith("train/loss")]
    norms = [k for k, entry in enumerate(pending) if entry.key == "train/grad_norm"]
    # Gradients beyond float16's range are the scaler's business: it skips such a step.
    checked = losses if hub.__dict__.get("_scaled") else [*losses, *norms]
    bad = [k for k in checked if not math.isfinite(values[k])]
    if not bad:
        return
    step = min(pending[k].step for k in bad)
    terms = [
        f"{pending[k].key.removeprefix('train/')} {values[k]:.4g}"
        for k in sorted([*losses, *norms])
        if pending[k].step == step
    ]
    raise NonFiniteLossError(
        f"iteration {step}: the loss or the gradient is not finite ({', '.join(terms)}). The last "
        "checkpoint is kept. Lower optim_wrapper.optimizer.lr, set optim_wrapper.clip_grad, or use "
        "dtype='bfloat16' in place of float16; then --resume"
    )


def _patch_waiting() -> None:
    from mmengine.logging import MessageHub
    from mmengine.optim import OptimWrapper
    from mmengine.runner import Runner

    update, get, state = MessageHub.update_scalar, MessageHub.get_scalar, MessageHub.state_dict
    clip, run = OptimWrapper._clip_grad, Runner.train

    @functools.wraps(update)
    def update_scalar(
        self: Any, key: str, value: Any, count: int = 1, resumed: bool = True
    ) -> None:
        scalar = isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point()
        if self not in _waiting or not scalar or not isinstance(count, int):
            update(self, key, value, count, resumed)
            return
        self._set_resumed_keys(key, resumed)
        pending = self.__dict__.setdefault("_pending", [])
        step = self._runtime_info.get("iter", 0) + 1
        pending.append(Pending(key, value.detach(), count, step))
        if len(pending) > MOST:
            read(self)

    def log_scalars(self: Any) -> Any:
        read(self)
        return self._log_scalars

    @functools.wraps(get)
    def get_scalar(self: Any, key: str) -> Any:
        # Timers ask for their own in every step, which must not have the others read.
        waits = any(entry.key == key for entry in self.__dict__.get("_pending", ()))
        if waits or key not in self._log_scalars:
            return get(self, key)
        return self._log_scalars[key]

    @functools.wraps(state)
    def state_dict(self: Any) -> Any:
        read(self)
        return state(self)

    @functools.wraps(clip)
    def clip_grad(self: Any) -> None:
        groups = self.optimizer.param_groups
        parameters = [
            p for group in groups for p in group["params"] if p.requires_grad and p.grad is not None
        ]
        if self.message_hub not in _waiting or self.grad_name != "grad_norm" or not parameters:
            clip(self)
            return
        scaler = getattr(self, "loss_scaler", None)
        self.message_hub.__dict__["_scaled"] = (
            scaler is not None and self._scale_update_param is None
        )
        norm = self.clip_func(parameters, **self.clip_grad_kwargs)
        self.message_hub.update_scalar(f"train/{self.grad_name}", norm)

    @functools.wraps(run)
    def train(self: Any) -> Any:
        let_wait(self.model, self.message_hub)
        return run(self)

    Runner.train = train
    MessageHub.update_scalar = update_scalar
    MessageHub.get_scalar = get_scalar
    MessageHub.log_scalars = property(log_scalars, doc=MessageHub.log_scalars.__doc__)
    MessageHub.state_dict = state_dict
    OptimWrapper._clip_grad = clip_grad


AFTER = (
    Patch(
        "steps that wait in mmengine",
        symptom="on a GPU each training step waits for the device some ten times",
        cause="losses and the norm of gradients are read as soon as they are known, to be logged a "
        "hundred steps later",
        versions="mmengine <= 0.10.7, for models of glsgn_plugins and those with GLSGN",
        needed=lambda: True,
        apply=_patch_waiting,
    ),
)
