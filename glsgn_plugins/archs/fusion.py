"""One image out of the four pathways' outputs (paper, Fig. laplacian_pyramid)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glsgn_plugins.archs.blocks import ResidualBlock, conv, near_zero_, shrink


def enlarge(x: Tensor, factor: int = 2) -> Tensor:
    """``Up`` of the figure: bilinear, ``(N, C, H, W)`` to ``factor`` times that size."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def high_band(x: Tensor) -> Tensor:
    """What ``(N, C, H, W)`` loses when it is halved and doubled again."""
    return x - enlarge(shrink(x, 2))


class LaplacianFusion(nn.Module):
    """Joins the pathways band by band, each band under a learned mask.

    ``M3 = ResBlocks([h3, B_3]); out3 = B_3 + M3 * B_3``;
    ``M2 = ResBlock(Up(M3)); out2 = Up(out3) + M2 * h2``;
    ``M1 = ResBlock(Up(M2)); out = Up(out2) + M1 * h1``,
    where h1, h2 and h3 are the high bands of B_1, B_2 and B_g.

    At initialisation M3 is about 0 and M2, M1 about 1: the plain Laplacian reconstruction.

    Args:
        width: Channels inside the masks' residual blocks (our choice; masks have 3 channels).
        blocks: Residual blocks of M3 (our choice).
    """

    def __init__(self, width: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.mask3 = nn.Sequential(
            conv(6, width, 3),
            *(ResidualBlock(width) for _ in range(blocks)),
            near_zero_(conv(width, 3, 3)),
        )
        self.mask2 = ResidualBlock(3, hidden=width)
        near_zero_(self.mask2.conv2, bias=1.0)
        self.mask1 = ResidualBlock(3, hidden=width)
        near_zero_(self.mask1.conv2)

    def forward(self, b1: Tensor, b2: Tensor, b3: Tensor, bg: Tensor) -> Tensor:
        """``b1``: ``(N, 3, H, W)``; ``b2`` half, ``b3`` and ``bg`` a quarter of its size."""
        mask = self.mask3(torch.cat([high_band(bg), b3], dim=1))
        out = b3 + mask * b3
        for band, refine in ((b2, self.mask2), (b1, self.mask1)):
            mask = refine(enlarge(mask))
            out = enlarge(out) + mask * high_band(band)
        return out


class SumFusion(nn.Module):
    """The ablation: what each pathway changed, brought to full size and added (our choice).

    ``out = B_1 + sum over the others of Up(B_i - I_i)``; no parameters.
    """

    def forward(
        self, b1: Tensor, residual2: Tensor, residual3: Tensor, residual_g: Tensor
    ) -> Tensor:
        """``b1``: ``(N, 3, H, W)``; the residuals at half, quarter and quarter size."""
        return b1 + enlarge(residual2) + enlarge(residual3 + residual_g, 4)
