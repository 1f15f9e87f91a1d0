"""The four consistencies between pathways.

The paper names them (abstract: low-level content, perceptual attention, restoring intensity,
high-level semantics); how they are measured is our choice. In each, the pathway that sees more of
the image is the reference and gets no gradient: agreement is to come from the narrow views learning
of the wide one, which is supervised by the truth alone, and not from the wide one giving in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glsgn_plugins.archs.blocks import shrink
from glsgn_plugins.archs.glsgn import PATHWAY_SCALES, PathwayOutputs
from glsgn_plugins.errors import InputError
from glsgn_plugins.losses.reconstruction import at_scale, checked_weight, full, pathways_of
from glsgn_plugins.losses.semantic import SemanticDistance


def at_global_scale(outputs: PathwayOutputs | Sequence[Tensor]) -> list[Tensor]:
    """B_1, B_2, B_3 and B_g, each in the shape of B_g."""
    coarsest = PATHWAY_SCALES[-1]
    return [
        at_scale(full(b), coarsest // scale)
        for b, scale in zip(pathways_of(outputs), PATHWAY_SCALES)
    ]


class ContentConsistencyLoss(nn.Module):
    """Low-level content: each output, halved, equals the next one, and B_3 equals B_g.

    Mean of the three L1 distances 1-2, 2-3, 3-g. The coarser of two is the reference.

    Args:
        loss_weight: Weight of the mean.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = checked_weight(loss_weight, f"{type(self).__name__} loss_weight")

    def forward(self, outputs: PathwayOutputs | Sequence[Tensor]) -> Tensor:
        """``outputs``: the network's, or B_1, B_2, B_3, B_g. Returns a scalar."""
        b1, b2, b3, bg = map(full, pathways_of(outputs))
        pairs = ((at_scale(b1, 2), b2), (at_scale(b2, 2), b3), (b3, bg))
        distances = [F.l1_loss(fine, coarse.detach()) for fine, coarse in pairs]
        return self.loss_weight * torch.stack(distances).mean()


class AttentionConsistencyLoss(nn.Module):
    """Perceptual attention: each local map equals the global one.

    Mean of the L1 distances between A_i and A_g, brought to the size of A_i by averaging. A_g is
    the reference. All maps agree at 0 too, and a sigmoid hardly comes back from there: keep the
    weight small (docs/ablation.md).

    Args:
        loss_weight: Weight of the mean.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = checked_weight(loss_weight, f"{type(self).__name__} loss_weight")

    def forward(self, outputs: PathwayOutputs | Sequence[Tensor]) -> Tensor:
        """``outputs``: the network's, or A_1, A_2, A_3, A_g. Returns a scalar.

        Raises:
            InputError: There is no local map, since the network has no PAC.
        """
        maps = outputs.attentions if isinstance(outputs, PathwayOutputs) else outputs
        *local, reference = map(full, maps)
        if not local:
            raise InputError("attention consistency needs a GLSGN with attention: true")
        distances = [
            F.l1_loss(a, shrink(reference.detach(), reference.shape[2] // a.shape[2]))
            for a in local
        ]
        return self.loss_weight * torch.stack(distances).mean()


class IntensityConsistencyLoss(nn.Module):
    """Restoring intensity: in each cell of a grid, pathways take away equally much.

    The intensity is R_i = I - B_i at the global scale. Per cell and channel, its mean and its
    standard deviation over the cell must be those of R_g: mean of their L1 distances. What lies
    where within a cell plays no part. R_g is the reference.

    Args:
        loss_weight: Weight of the sum of both.
        grid: Rows and columns of cells; the finest patch grid of the network.
    """

    def __init__(self, loss_weight: float = 1.0, grid: Sequence[int] = (4, 4)) -> None:
        super().__init__()
        self.loss_weight = checked_weight(loss_weight, f"{type(self).__name__} loss_weight")
        if not isinstance(grid, Sequence) or len(grid) != 2 or min(grid) < 1:
            raise InputError(f"IntensityConsistencyLoss grid: expected two numbers, got {grid!r}")
        self.grid = (grid[0], grid[1])

    def _statistics(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        mean = F.adaptive_avg_pool2d(residual, self.grid)
        square = F.adaptive_avg_pool2d(residual**2, self.grid)
        # The root has no gradient at 0, which a flat cell is.
        return mean, torch.sqrt((square - mean**2).clamp(min=0) + 1e-8)

    def forward(
        self, outputs: PathwayOutputs | Sequence[Tensor], lq_global: Tensor | None = None
    ) -> Tensor:
        """A scalar.

        Args:
            outputs: The network's, or B_1, B_2, B_3, B_g.
            lq_global: The input in the shape of B_g; with plain tensors only.
        """
        image = outputs.lq_global if isinstance(outputs, PathwayOutputs) else lq_global
        if image is None:
            raise InputError("intensity consistency of plain tensors needs lq_global")
        *local, (mean, std) = (self._statistics(full(image) - b) for b in at_global_scale(outputs))
        mean, std = mean.detach(), std.detach()
        distances = [F.l1_loss(m, mean) + F.l1_loss(s, std) for m, s in local]
        return self.loss_weight * torch.stack(distances).mean()


class SemanticConsistencyLoss(nn.Module):
    """High-level semantics: deep features of B_i at the global scale equal those of B_g.

    Mean of the three distances. B_g is the reference.

    Args:
        loss_weight: Weight of the mean.
        backbone: See :class:`~glsgn_plugins.losses.semantic.SemanticDistance`.
        layers: Likewise.
        weights: Likewise.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        backbone: str = "lpips_alex",
        layers: Sequence[int] | None = None,
        weights: str = "cache",
    ) -> None:
        super().__init__()
        self.loss_weight = checked_weight(loss_weight, f"{type(self).__name__} loss_weight")
        self.distance = SemanticDistance(backbone, layers, weights)

    def forward(self, outputs: PathwayOutputs | Sequence[Tensor]) -> Tensor:
        """``outputs``: the network's, or B_1, B_2, B_3, B_g. Returns a scalar."""
        *local, reference = at_global_scale(outputs)
        # One pass over all three; the reference's features are computed once.
        features = self.distance.features(torch.cat(local))
        with torch.no_grad():
            wanted = self.distance.features(reference)
        repeated = [f.repeat(len(local), 1, 1, 1) for f in wanted]
        return self.loss_weight * self.distance.between(features, repeated).mean()
