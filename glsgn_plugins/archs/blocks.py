"""The parts that pathways are built from.

Source: "Global-Local Stepwise Generative Network for Ultra High-Resolution Image Restoration",
arXiv 2207.08808, Fig. framework. The figure names the blocks and draws how they follow each other;
kernel sizes, widths, activation, skip connections and resampling are our choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glsgn_plugins.archs.patches import WHOLE, Grid, merge_patches, split_patches

SCALES = 3
"""Scales of every encoder and decoder: 1, 1/2 and 1/4 of the pathway's input (our choice)."""

NEAR_ZERO = 2e-6
"""Standard deviation of the weights whose output must start near 0, yet pass a gradient on."""


def conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """A convolution that keeps the size of a map, padded with zeros (our choice)."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def near_zero_(conv: nn.Conv2d, bias: float = 0.0) -> nn.Conv2d:
    """Initialise a convolution so that it puts out about ``bias`` whatever comes in."""
    if not conv.weight.is_meta:  # a normal draw there loads torch's compiler, for a second
        nn.init.normal_(conv.weight, std=NEAR_ZERO)
    if conv.bias is not None:
        nn.init.constant_(conv.bias, bias)
    return conv


def shrink(x: Tensor, factor: int) -> Tensor:
    """Average ``(N, C, H, W)`` over cells of ``factor`` x ``factor``.

    The one way in which images and maps are made smaller here (our choice): it doesn't alias, and
    what shrinks to half twice is what shrinks to a quarter.
    """
    return x if factor == 1 else F.avg_pool2d(x, factor)


class ResidualBlock(nn.Module):
    """``x + conv3x3(LeakyReLU(conv3x3(x)))``, on ``(N, width, H, W)`` (our choice of layers)."""

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or width
        self.conv1 = conv(width, hidden, 3)
        self.act = nn.LeakyReLU(0.2)
        self.conv2 = conv(hidden, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.act(self.conv1(x)))


class Up(nn.Sequential):
    """A 1x1 convolution and PixelShuffle: ``(N, 2 * width, H, W)`` to ``(N, width, 2 H, 2 W)``."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(2 * width, 4 * width, 1), nn.PixelShuffle(2))


class PatchNorm(nn.Module):
    """Normalise each channel, with the statistics of all patches of an image in common.

    One mean and one variance per image and channel, then one learned scale and shift: so no patch
    is restored brighter or stronger than its neighbour (name and place: paper, Fig. framework;
    statistics: our choice). In training they are the image's own, and running averages of them are
    kept; in evaluation those averages are taken, since the statistics of a crop aren't those of a
    4K image. Statistics are computed in float32 also under autocast.

    The averages are parameters without a gradient rather than buffers: BasicSR's moving average of
    weights copies parameters alone.

    Args:
        width: Channels.
        pooled: ``False`` takes the statistics of each patch apart in training (the ablation).
        momentum: Share of the newest statistics in the running averages.
        eps: Added to variances.
    """

    def __init__(
        self, width: int, pooled: bool = True, momentum: float = 0.02, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.running_mean = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.running_var = nn.Parameter(torch.ones(width), requires_grad=False)

    def forward(self, x: Tensor, patches: int = 1) -> Tensor:
        """``x``: ``(N * patches, width, h, w)``, of which ``patches`` in a row are one image's."""
        if self.training:
            mean, var = self._statistics(x, patches)
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        shape = (-1, x.shape[1], 1, 1)
        return torch.addcmul(shift.reshape(shape).to(x.dtype), x, scale.reshape(shape).to(x.dtype))

    def _statistics(self, x: Tensor, patches: int) -> tuple[Tensor, Tensor]:
        """Mean and variance for each of the patches, ``(N * patches, width)``, float32."""
        var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0)
        if self.pooled and patches > 1:
            # Patches are of one size, so: total variance = mean of variances + variance of means.
            var, mean = (m.reshape(-1, patches, x.shape[1]) for m in (var, mean))
            between, mean = torch.var_mean(mean, dim=1, correction=0, keepdim=True)
            var = var.mean(dim=1, keepdim=True) + between
            var, mean = (m.expand(-1, patches, -1).reshape(-1, x.shape[1]) for m in (var, mean))
        with torch.no_grad():
            self.running_mean.lerp_(mean.mean(dim=0), self.momentum)
            self.running_var.lerp_(var.mean(dim=0), self.momentum)
        return mean, var

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, pooled={self.pooled}, momentum={self.momentum}"


@contextmanager
def keep_averages(norms: Sequence[PatchNorm]) -> Iterator[None]:
    """No running averages of these are updated for the time."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum


class SpatialAttention(nn.Module):
    """One weight in (0, 1) for each place, from the mean and maximum over channels.

    ``sigmoid(conv7x7([mean_c x, max_c x, *guides]))`` (place: paper, Fig. framework; layers: our
    choice).

    Args:
        guides: How many single-channel maps are seen beside the feature.
    """

    def __init__(self, guides: int = 0) -> None:
        super().__init__()
        self.conv = conv(2 + guides, 1, 7)

    def forward(self, x: Tensor, *guides: Tensor) -> Tensor:
        """``x``: ``(N, C, H, W)``; ``guides``: ``(N, 1, H, W)``. Returns ``(N, 1, H, W)``."""
        pooled = [x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)]
        return torch.sigmoid(self.conv(torch.cat([*pooled, *guides], dim=1)))


class Encoder(nn.Module):
    """Image to features at three scales: stem, then residual blocks, halving in between.

    Channels double with each scale. Features of other pathways are added before the residual
    blocks of the scale at which they fit without resampling, through 1x1 convolutions.

    Args:
        width: Channels at the full scale.
        blocks: Residual blocks at full, half and quarter scale.
        injected: For each feature of another pathway, by name, its scale (0 full, 1 half, 2
            quarter) and its channels.
    """

    def __init__(
        self,
        width: int,
        blocks: Sequence[int],
        injected: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        widths = [width * 2**s for s in range(SCALES)]
        self.stem = conv(3, width, 3)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w) for _ in range(n))) for w, n in zip(widths, blocks)
        )
        # Kernel and stride of 2: no pixel of a neighbouring patch is ever wanted.
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.injection_scales = {name: scale for name, (scale, _) in injected.items()}
        self.injections = nn.ModuleDict(
            {name: nn.Conv2d(c, widths[scale], 1) for name, (scale, c) in injected.items()}
        )

    def forward(self, image: Tensor, injected: Mapping[str, Tensor]) -> list[Tensor]:
        """Features at full, half and quarter scale.

        Args:
            image: ``(N, 3, H, W)``.
            injected: Features of other pathways by name; those not asked for are left out.
        """
        features: list[Tensor] = []
        for scale, stage in enumerate(self.stages):
            x = self.downs[scale - 1](features[-1]) if features else self.stem(image)
            for name, conv1x1 in self.injections.items():
                if self.injection_scales[name] == scale:
                    x = x + conv1x1(injected[name])
            features.append(stage(x))
        return features


class Decoder(nn.Module):
    """Features at three scales to one at the full scale, coarse to fine.

    At each scale residual blocks, then Patch Norm where it is on (paper, Fig. framework; see
    :class:`~glsgn_plugins.archs.glsgn.GLSGN` for why it may be off); the encoder's feature of
    the same scale is added after up-sampling (our choice).

    Args:
        width: Channels at the full scale.
        blocks: Residual blocks at full, half and quarter scale.
        norm: ``"pooled"``, ``"per_patch"`` or ``"none"``.
    """

    def __init__(self, width: int, blocks: Sequence[int], norm: str) -> None:
        super().__init__()
        widths = [width * 2**s for s in range(SCALES)]
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w) for _ in range(n))) for w, n in zip(widths, blocks)
        )
        self.norms = nn.ModuleList(
            PatchNorm(w, pooled=norm == "pooled") for w in widths if norm != "none"
        )
        self.ups = nn.ModuleList(Up(w) for w in widths[:-1])

    def forward(self, features: Sequence[Tensor], patches: int = 1) -> tuple[Tensor, Tensor]:
        """``features``: full, half and quarter scale, each ``(N * patches, C, h, w)``.

        Returns the decoded feature at full scale, and the one at half scale that is passed on.
        """
        decoded: list[Tensor] = []
        for scale in reversed(range(SCALES)):
            x = features[scale]
            if decoded:
                x = self.ups[scale](decoded[-1]) + x
            x = self.stages[scale](x)
            if self.norms:
                x = self.norms[scale](x, patches)
            decoded.append(x)
        return decoded[-1], decoded[-2]


class GlobalPathway(nn.Module):
    """The whole image, scaled down: encoder, decoder, spatial attention, output convolution.

    Paper, Fig. framework. Its feature and its attention map go to every local pathway.
    """

    def __init__(self, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.encoder = Encoder(width, blocks)
        self.decoder = Decoder(width, blocks, norm="none")
        self.attention = SpatialAttention()
        self.head = near_zero_(conv(width, 3, 3))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``image``: I4, ``(N, 3, h, w)``.

        Returns B_g ``(N, 3, h, w)``, A_g ``(N, 1, h, w)`` and F_g ``(N, width, h, w)``.
        """
        feature, _ = self.decoder(self.encoder(image, {}))
        attention = self.attention(feature)
        return image + self.head(feature * attention), attention, feature


class LocalPathway(nn.Module):
    """The image at one resolution: encoder, attention (PAC), decoder.

    Paper, Fig. framework. With grids, in training, the encoder works on patches of ``grid``, which
    after the attention are joined to ``merged``, the grid of the next pathway, on which the decoder
    works. What is restored is never cut.

    Args:
        width: Channels at the full scale.
        blocks: Residual blocks at full, half and quarter scale.
        grid: Patches of the encoder in training.
        merged: Patches of the decoder in training.
        global_scale: The encoder's scale at which F_g has this pathway's resolution.
        global_width: Channels of F_g, or ``None`` where it isn't passed.
        previous_width: Channels of F_(i-1), or ``None`` where it isn't passed.
        guides: How much larger than E_i the attention maps are that PAC sees beside it (A_g,
            A_(i-1)), or ``None`` for no PAC at all.
        norm: See :class:`Decoder`.
    """

    def __init__(
        self,
        width: int,
        blocks: Sequence[int],
        grid: Grid = WHOLE,
        merged: Grid = WHOLE,
        *,
        global_scale: int = 0,
        global_width: int | None = None,
        previous_width: int | None = None,
        guides: Sequence[int] | None = None,
        norm: str = "none",
    ) -> None:
        super().__init__()
        self.grid, self.merged = grid, merged
        injected = {}
        if global_width is not None:
            injected["from_global"] = (global_scale, global_width)
        if previous_width is not None:
            injected["from_previous"] = (0, previous_width)
        self.encoder = Encoder(width, blocks, injected)
        self.guides = guides
        self.attention = SpatialAttention(len(guides)) if guides is not None else None
        self.decoder = Decoder(width, blocks, norm)
        self.head = near_zero_(conv(width, 3, 3))

    def forward(
        self, image: Tensor, injected: Mapping[str, Tensor], *guides: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Restore at this resolution.

        Args:
            image: I_i, ``(N, 3, H, W)``.
            injected: ``from_global``: F_g, at the encoder's scale where it fits; ``from_previous``:
                F_(i-1), in the size of I_i.
            *guides: A_g and, past the first pathway, A_(i-1).

        Returns:
            B_i ``(N, 3, H, W)``, F_i at half scale, and A_i ``(N, 1, H / 4, W / 4)`` or ``None``.
        """
        grid, merged = (self.grid, self.merged) if self.training else (WHOLE, WHOLE)
        *finer, coarsest = self.encoder(
            split_patches(image, grid), {k: split_patches(f, grid) for k, f in injected.items()}
        )
        attention: Tensor | None = None
        if self.attention is not None and self.guides is not None:
            sized = (shrink(guide, factor) for guide, factor in zip(guides, self.guides))
            attention = self.attention(coarsest, *(split_patches(g, grid) for g in sized))
            coarsest = coarsest * attention
            attention = merge_patches(attention, grid)
        joined = [merge_patches(feature, grid, merged) for feature in (*finer, coarsest)]
        # A list: torch 2.1's compiler can't unpack a generator.
        decoded, passed_on = [
            merge_patches(feature, merged)
            for feature in self.decoder(joined, merged[0] * merged[1])
        ]
        return image + self.head(decoded), passed_on, attention
