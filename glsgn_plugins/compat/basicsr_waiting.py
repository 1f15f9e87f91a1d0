"""A patch for BasicSR's training step, which waits for the device at each loss and each batch."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.compat.patch import Patch, is_ours
from glsgn_plugins.training import copy_to


def _trains_ours(model: Any) -> bool:
    """Whether a model is of this package, or trains its network."""
    net = getattr(model, "net_g", None)
    return is_ours(model) or isinstance(getattr(net, "module", net), GLSGN)


def _patch_waiting() -> None:
    from basicsr.models.base_model import BaseModel
    from basicsr.models.sr_model import SRModel

    reduce, get, feed = (
        BaseModel.reduce_loss_dict,
        BaseModel.get_current_log,
        SRModel.feed_data,
    )

    @functools.wraps(reduce)
    def reduce_loss_dict(self: Any, loss_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        if not _trains_ours(self):
            return reduce(self, loss_dict)
        return OrderedDict((name, value.detach()) for name, value in loss_dict.items())

    @functools.wraps(get)
    def get_current_log(self: Any) -> Mapping[str, Any]:
        log = get(self)
        waits = any(isinstance(value, Tensor) for value in log.values())
        return reduce(self, log) if waits else log

    @functools.wraps(feed)
    def feed_data(self: Any, data: Mapping[str, Any]) -> None:
        if not _trains_ours(self):
            feed(self, data)
            return
        self.lq = copy_to(data["lq"], self.device)
        if "gt" in data:
            self.gt = copy_to(data["gt"], self.device)

    BaseModel.reduce_loss_dict = reduce_loss_dict
    BaseModel.get_current_log = get_current_log
    SRModel.feed_data = feed_data


AFTER = (
    Patch(
        "steps that wait in basicsr",
        symptom="on a GPU each training step waits for the device at each loss and each batch",
        cause="losses are read in each step, to be logged a hundred steps later, and batches are "
        "copied while the host waits",
        versions="basicsr <= 1.4.2, for models of glsgn_plugins and those with GLSGN",
        needed=lambda: True,
        apply=_patch_waiting,
    ),
)
