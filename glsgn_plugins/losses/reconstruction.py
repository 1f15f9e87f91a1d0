"""Every pathway against the truth at its scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glsgn_plugins.archs.blocks import shrink
from glsgn_plugins.archs.glsgn import PATHWAY_SCALES, PathwayOutputs
from glsgn_plugins.errors import InputError, is_number, unknown_name, wrong_type

PATHWAYS = ("1", "2", "3", "g")
"""Names of the pathways, in the order of :attr:`.PathwayOutputs.pathways`."""


def _charbonnier(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt((x - y) ** 2 + 1e-6).mean()


CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "charbonnier": _charbonnier,
    "mse": F.mse_loss,
}


def criterion_of(name: str, user: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A criterion by name; ``user`` is who asks, for the error."""
    if name not in CRITERIA:
        raise unknown_name(f"{user} criterion", name, CRITERIA)
    return CRITERIA[name]


def checked_weight(weight: object, name: str) -> float:
    """A weight of a term.

    Args:
        weight: From 0 up.
        name: Whose, for the error.

    Raises:
        InputError: It is none: NaN would make a loss of NaN, and a negative one rewards errors.
    """
    if not is_number(weight) or not 0 <= weight < math.inf:
        raise wrong_type(name, weight, "a number from 0 up")
    return float(weight)


def pathways_of(outputs: PathwayOutputs | Sequence[Tensor]) -> Sequence[Tensor]:
    """B_1, B_2, B_3, B_g of the network's tuple, or the four plain tensors themselves.

    Raises:
        InputError: There are not four.
    """
    pathways = outputs.pathways if isinstance(outputs, PathwayOutputs) else outputs
    if len(pathways) != len(PATHWAYS):
        raise InputError(f"expected the outputs of four pathways, got {len(pathways)}")
    return pathways


def full(x: Tensor) -> Tensor:
    """Half precision, as under autocast, is brought to float32; the rest stays."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def at_scale(image: Tensor, scale: int) -> Tensor:
    """The image as a pathway sees it: reflected to a multiple of ``scale``, then averaged.

    Args:
        image: ``(N, C, H, W)``.
        scale: 1, 2 or 4, see :data:`~glsgn_plugins.archs.glsgn.PATHWAY_SCALES`.

    Returns:
        ``(N, C, ceil(H / scale), ceil(W / scale))``.
    """
    rows, cols = -image.shape[2] % scale, -image.shape[3] % scale
    if rows or cols:
        image = F.pad(image, (0, cols, 0, rows), mode="reflect")
    return shrink(image, scale)


def frequency_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference of the orthonormal 2-D spectra, real and imaginary parts apart."""
    x, y = (full(image) for image in (x, y))  # a CPU's transform knows no half precision
    x, y = (torch.view_as_real(torch.fft.rfft2(image, norm="ortho")) for image in (x, y))
    return F.l1_loss(x, y)


class PathwayReconstructionLoss(nn.Module):
    """Every pathway's output against the truth at its scale (our choice).

    Args:
        loss_weight: Weight of the sum.
        weights: Weights of pathways 1, 2, 3 and the global one in the sum.
        criterion: ``"l1"``, ``"charbonnier"`` (epsilon 1e-3) or ``"mse"``.
        frequency_weight: Weight of the same distance between Fourier spectra (L1), in each
            pathway's term.

    Raises:
        InputError: An unknown criterion, not four weights, or one that is none.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        criterion: str = "l1",
        frequency_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.criterion = criterion_of(criterion, type(self).__name__)
        if len(weights) != len(PATHWAYS):
            raise InputError(
                "PathwayReconstructionLoss weights: expected four, of pathways 1, 2, 3 and the "
                f"global one; got {list(weights)}"
            )
        whole = checked_weight(loss_weight, "PathwayReconstructionLoss loss_weight")
        self.weights = [
            whole * checked_weight(weight, "PathwayReconstructionLoss weights")
            for weight in weights
        ]
        self.frequency_weight = checked_weight(
            frequency_weight, "PathwayReconstructionLoss frequency_weight"
        )

    def _distance(self, output: Tensor, truth: Tensor) -> Tensor:
        output = output.to(truth.dtype)
        distance = self.criterion(output, truth)
        if self.frequency_weight:
            distance = distance + self.frequency_weight * frequency_distance(output, truth)
        return distance

    def terms(self, outputs: PathwayOutputs | Sequence[Tensor], gt: Tensor) -> dict[str, Tensor]:
        """Weighted scalars by name: ``pathway_1``, ``pathway_2``, ``pathway_3``, ``pathway_g``.

        Args:
            outputs: The network's, or B_1, B_2, B_3, B_g.
            gt: ``(N, 3, H, W)``, RGB in [0, 1].
        """
        truths = {scale: at_scale(gt, scale) for scale in sorted(set(PATHWAY_SCALES))}
        return {
            f"pathway_{name}": weight * self._distance(output, truths[scale])
            for name, weight, output, scale in zip(
                PATHWAYS, self.weights, pathways_of(outputs), PATHWAY_SCALES
            )
        }

    def forward(self, outputs: PathwayOutputs | Sequence[Tensor], gt: Tensor) -> Tensor:
        """The sum of :meth:`terms`, a scalar."""
        return torch.stack(list(self.terms(outputs, gt).values())).sum()
