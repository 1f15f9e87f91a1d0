"""``DegradingPreprocessor``: MMagic's ``DataPreprocessor`` for samples that come clean."""

from __future__ import annotations

from typing import Any

import torch
from mmagic.models.data_preprocessors import DataPreprocessor
from mmagic.registry import MODELS

from glsgn_plugins.degradations.on_device.weather import degrade


@MODELS.register_module()
class DegradingPreprocessor(DataPreprocessor):
    """Degrades batches of clean crops on the device, then does what ``DataPreprocessor`` does.

    For datasets with ``degrade_on_device=True``; batches without a recipe, as those of validation,
    are left to ``DataPreprocessor``. Arguments are those of that.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Inputs and truths as the model takes them; ``data`` is a batch of the loader."""
        if "recipe" in data:
            data = self.cast_data(data)
            recipe = {name: torch.stack(parts) for name, parts in data.pop("recipe").items()}
            clean = torch.stack(data["inputs"])
            with torch.autocast(clean.device.type, enabled=False):  # which AmpOptimWrapper sets
                lq, gt = degrade(clean, recipe)
            for sample, truth in zip(data["data_samples"], gt):
                sample.gt_img = truth
            data["inputs"] = list(lq)
        return dict(super().forward(data, training))
