"""``ForeachEMA``: MMEngine's moving average of weights, of all of them at once."""

from __future__ import annotations

import torch
from mmagic.registry import MODELS
from mmengine.model import ExponentialMovingAverage
from torch import nn


@MODELS.register_module()
class ForeachEMA(ExponentialMovingAverage):
    """As ``ExponentialMovingAverage``, in a few kernels where that takes one for each weight.

    For ``EMAHook``: ``dict(type="EMAHook", ema_type="ForeachEMA", momentum=0.001)``. What is saved
    and resumed is the same.
    """

    avg_parameters: dict[str, torch.Tensor]

    def update_parameters(self, model: nn.Module) -> None:
        """Move the averages towards the model's weights."""
        each = self.avg_parameters
        if self.steps > 0 and self.steps % self.interval == 0 and not self.update_buffers:
            weights = dict(model.named_parameters())
            moving = [name for name, average in each.items() if average.is_floating_point()]
            averages = [each[name].data for name in moving]
            sources = [weights[name].data.to(each[name].device) for name in moving]
            torch._foreach_lerp_(averages, sources, self.momentum)
            self.avg_parameters = {}  # nothing is left to do but what MMEngine does of buffers
        try:
            super().update_parameters(model)
        finally:
            self.avg_parameters = each
