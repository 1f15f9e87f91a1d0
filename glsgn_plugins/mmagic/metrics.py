"""The metrics of :mod:`glsgn_plugins.metrics` in MMagic.

As MMagic's own they take images that are not rounded to 8 bits, where BasicSR's are.
"""

from __future__ import annotations

from typing import Any

from mmagic.evaluation.metrics.base_sample_wise_metric import BaseSampleWiseMetric
from mmagic.registry import METRICS
from torch import Tensor

from glsgn_plugins.metrics import calculate_lpips, calculate_seam


@METRICS.register_module()
class LPIPS(BaseSampleWiseMetric):
    """LPIPS 0.1: 0 for equal images, lower is better.

    Args:
        crop_border: Pixels left out at each edge.
        net: ``"alex"``, ``"vgg"`` or ``"squeeze"``.
        weights: Of the trunk, see :class:`~glsgn_plugins.losses.semantic.SemanticDistance`.
        options: Those of ``BaseSampleWiseMetric``.
    """

    metric = "LPIPS"

    def __init__(
        self, crop_border: int = 0, net: str = "alex", weights: str = "cache", **options: Any
    ) -> None:
        super().__init__(**options)
        self.options: dict[str, Any] = {"crop_border": crop_border, "net": net, "weights": weights}

    def process_image(self, gt: Tensor, pred: Tensor, mask: Tensor) -> float:
        """Of two images ``(3, H, W)``, BGR in [0, 255]."""
        return calculate_lpips(pred.numpy(), gt.numpy(), input_order="CHW", **self.options)


@METRICS.register_module()
class Seam(BaseSampleWiseMetric):
    """How much patches show that were restored apart; lower is better.

    Args:
        figure: ``"gradient"`` or ``"residual"``, see :func:`glsgn_plugins.metrics.calculate_seam`.
        grid: Likewise.
        multiple: Likewise.
        options: Those of ``BaseSampleWiseMetric``.
    """

    metric = "Seam"

    def __init__(
        self,
        figure: str = "gradient",
        grid: tuple[int, int] = (4, 4),
        multiple: tuple[int, int] = (32, 16),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.options: dict[str, Any] = {"figure": figure, "grid": grid, "multiple": multiple}

    def process_image(self, gt: Tensor, pred: Tensor, mask: Tensor) -> float:
        """Of two images ``(3, H, W)``, BGR in [0, 255]."""
        return calculate_seam(pred.numpy(), gt.numpy(), input_order="CHW", **self.options)
