"""The parts that pathways are built from.

Source: "Global-Local Stepwise Generative Network for Ultra High-Resolution Image Restoration",
arXiv 2207.08808, Fig. framework. The figure names the blocks and draws how they follow each other;
kernel sizes, widths, activation, skip connections and resampling are our choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glsgn_plugins.patches import Grid, merge_patches, split_patches

SCALES = 3
"""Scales of every encoder and decoder: 1, 1/2 and 1/4 of the pathway's input (our choice)."""

MOMENTS_CHUNK = 2**16
"""Places whose squares are summed at once on a CPU: some megabytes, which caches hold."""

STRIP = 2**22
"""Values of a map that residual blocks work on at once on a CPU: 16 MiB, which allocators keep."""

_compiling = getattr(torch.compiler, "is_compiling", lambda: False)  # torch 2.3 and later

NEAR_ZERO = 2e-6
"""Standard deviation of the weights whose output must start near 0, yet pass a gradient on."""


def overwritable() -> bool:
    """Whether maps may be overwritten: neither gradients nor a compiler want them later."""
    return not (torch.is_grad_enabled() or _compiling())


def strips(x: Tensor, channels: int) -> Iterator[tuple[int, int, int]]:
    """Cut ``(N, C, H, W)`` on a CPU into samples and strips of rows; elsewhere into samples.

    A forward that makes new maps of a full image at each step spends half of its time in the
    kernel, which hands out and zeroes their pages.

    Args:
        x: What to cut.
        channels: Of the widest map that is made of a strip.

    Yields:
        Number of the sample, first row, and the row after the last.
    """
    n, _, height, width = x.shape
    rows = height if x.device.type != "cpu" else max(STRIP // (channels * width), 16)
    for sample in range(n):
        for top in range(0, height, rows):
            yield sample, top, min(top + rows, height)


def near_zero_(conv: nn.Conv2d, bias: float = 0.0) -> nn.Conv2d:
    """Initialise a convolution so that it puts out about ``bias`` whatever comes in."""
    nn.init.normal_(conv.weight, std=NEAR_ZERO)
    if conv.bias is not None:
        nn.init.constant_(conv.bias, bias)
    return conv


def run(block: nn.Module, *args: Tensor | None, checkpointing: bool) -> Tensor:
    """Run a block, and where asked for, recompute its activations in the backward pass."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(block, *args, use_reentrant=False)
    return block(*args)


def edged(x: Tensor, reach: int) -> Tensor:
    """``(N, C, H, W)`` with its outermost values repeated ``reach`` times on each side."""
    if x.device.type == "cpu":
        return F.pad(x, (reach,) * 4, mode="replicate")
    return joined_edges(x, reach)


def joined_edges(x: Tensor, reach: int) -> Tensor:
    """:func:`edged` for GPUs: F.pad has no bfloat16 there in torch 2.1, and its gradients vary."""
    for dim in (2, 3):
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
        x = torch.cat([*[first] * reach, x, *[last] * reach], dim=dim)
    return x


class Conv(nn.Conv2d):
    """A convolution that keeps the size of ``(N, C, H, W)``; borders are padded by :func:`edged`.

    Our choice, and not zeros: what zeros make of a border isn't what the network makes of the same
    surface elsewhere, so that it shows where patches meet. Crops to train on are cut into patches
    of some tens of pixels, of which a large share is near a border: a network builds on what zeros
    do there, and misses it in a 4K image (measured, docs/results.md).
    """

    def __init__(self, taken: int, given: int, kernel: int) -> None:
        super().__init__(taken, given, kernel)

    def forward(self, x: Tensor) -> Tensor:
        reach = self.kernel_size[0] // 2
        pieces = list(strips(x, self.in_channels)) if overwritable() else []
        if len(pieces) <= 2 * len(x):  # small, or a strip already, with the rows around it
            return super().forward(edged(x, reach))
        # A padded copy of a full image's map would take as much memory as the map.
        made: Tensor | None = None
        for sample, top, bottom in pieces:
            first = max(top - reach, 0)
            seen = x[sample : sample + 1, :, first : bottom + reach]
            y = super().forward(edged(seen, reach))[0, :, top - first : bottom - first]
            if made is None:
                last = torch.channels_last if y.stride(0) == 1 else torch.contiguous_format
                shape = (len(x), self.out_channels, *x.shape[2:])
                made = torch.empty(shape, dtype=y.dtype, device=y.device, memory_format=last)
            made[sample, :, top:bottom] = y
        assert made is not None
        return made


class ResidualBlock(nn.Module):
    """``x + conv3x3(LeakyReLU(conv3x3(x)))``, on ``(N, width, H, W)`` (our choice of layers)."""

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or width
        self.conv1 = Conv(width, hidden, 3)
        self.act = nn.LeakyReLU(0.2, inplace=True)
        self.conv2 = Conv(hidden, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)

    def change(self, x: Tensor) -> Tensor:
        """What is added to ``x``; each place sees two around it."""
        return self.conv2(self.act(self.conv1(x)))

    def overwrite(self, x: Tensor) -> Tensor:
        """:meth:`forward`; ``x`` is overwritten where that is possible."""
        if not overwritable():
            return self(x)
        last: tuple[Tensor, Tensor] | None = None
        for sample, top, bottom in strips(x, self.conv1.out_channels):
            first = max(top - 2, 0)
            change = self.change(x[sample : sample + 1, :, first : bottom + 2])
            if last is not None:  # only now: this strip sees the end of the last one as it was
                last[0].add_(last[1])
            last = x[sample, :, top:bottom], change[0, :, top - first : bottom - first]
        if last is not None:
            last[0].add_(last[1])
        return x


class Stage(nn.Sequential):
    """Residual blocks one after the other; ``x`` is overwritten where that is possible."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = cast(ResidualBlock, block).overwrite(x)
        return x


class Up(nn.Sequential):
    """A 1x1 convolution and PixelShuffle: ``(N, 2 * width, H, W)`` to ``(N, width, 2 H, 2 W)``."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(2 * width, 4 * width, 1), nn.PixelShuffle(2))

    def add(self, x: Tensor, finer: Tensor) -> Tensor:
        """``finer + up(x)``; ``finer`` is overwritten where that is possible."""
        if not overwritable():
            return self(x) + finer
        conv = cast(nn.Conv2d, self[0])
        c, width = finer.shape[1], finer.shape[3]
        # Channels in the order (row, column, channel): what a place of x becomes in each of both
        # rows then lies as it does in a channels_last map, so shuffling copies nothing.
        weight = conv.weight.reshape(c, 2, 2, 2 * c, 1, 1).permute(1, 2, 0, 3, 4, 5)
        assert conv.bias is not None
        bias = conv.bias.reshape(c, 2, 2).permute(1, 2, 0)
        for row in range(2):
            kernel = weight[row].reshape(2 * c, 2 * c, 1, 1)
            for sample, top, bottom in strips(x, 2 * c):
                y = F.conv2d(x[sample : sample + 1, :, top:bottom], kernel, bias[row].reshape(-1))
                y = y[0].permute(1, 2, 0).reshape(bottom - top, width, c).permute(2, 0, 1)
                finer[sample, :, 2 * top + row : 2 * bottom : 2].add_(y)
        return finer


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the places of ``(N, C, H, W)``: ``(N, C)`` each, float32."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or _compiling():
        var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0)
        return mean, var
    # torch.var_mean is about ten times slower than this on a CPU (one core, 16 channels in
    # channels_last), and batch_norm's statistics are off by 1 % at 4K.
    n, c, height, width = x.shape
    rows = max(MOMENTS_CHUNK // width, 1)
    counts = torch.tensor([min(rows, height - top) * width for top in range(0, height, rows)])
    weights = counts[:, None] / (height * width)
    mean = torch.empty(n, c)
    var = torch.empty(n, c)
    for i, sample in enumerate(x):
        means, variances = zip(*(_moments(chunk) for chunk in sample.split(rows, dim=1)))
        mean[i] = (torch.stack(means) * weights).sum(0)
        between = (torch.stack(means) - mean[i]).square_()
        var[i] = ((torch.stack(variances) + between) * weights).sum(0)
    return mean, var


def _moments(chunk: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``(C, h, w)``, over two dimensions of which torch sums fast; ``(C,)`` each."""
    last = chunk.stride(0) == 1
    flat = chunk.permute(1, 2, 0).flatten(0, 1) if last else chunk.flatten(1)
    places = 0 if last else 1
    mean = flat.sum(places, dtype=torch.float32) / flat.shape[places]
    var = (flat - mean.unsqueeze(places)).square_().sum(places) / flat.shape[places]
    return mean, var


def rescale(x: Tensor, scale: Tensor, shift: Tensor, out: Tensor | None = None) -> Tensor:
    """``x * scale + shift`` for ``(N, C, H, W)`` and ``(N, C)``, in the type of ``x``.

    ``out`` may be ``x``, which is then overwritten.
    """
    scale, shift = scale[:, :, None, None].to(x.dtype), shift[:, :, None, None].to(x.dtype)
    return torch.addcmul(shift, x, scale, out=out)


class PatchNorm(nn.Module):
    """Normalise each channel, with the statistics of all patches of an image in common.

    One mean and one variance per image and channel, then one learned scale and shift: so no patch
    is restored brighter or stronger than its neighbour (name and place: paper, Fig. framework;
    statistics: our choice). Statistics are computed in float32 also under autocast.

    Args:
        width: Channels.
        pooled: ``False`` takes the statistics of each patch apart (the ablation).
    """

    def __init__(self, width: int, pooled: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.pooled = pooled
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, patches: int) -> Tensor:
        """``x``: ``(N * patches, width, h, w)``, of which ``patches`` in a row are one image's.

        It is overwritten where that is possible.
        """
        mean, var = moments(x)
        if self.pooled and patches > 1:
            c = x.shape[1]
            means = mean.reshape(-1, patches, c)
            # Patches are of one size, so: total variance = mean of variances + variance of means.
            between, mean = torch.var_mean(means, dim=1, correction=0, keepdim=True)
            var = var.reshape(-1, patches, c).mean(dim=1, keepdim=True) + between
            mean = mean.expand(-1, patches, -1).reshape(-1, c)
            var = var.expand(-1, patches, -1).reshape(-1, c)
        return rescale(x, *self.affine(mean, var), out=x if overwritable() else None)

    def affine(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift, float32, for statistics ``(..., width)``."""
        scale = self.weight.float() * torch.rsqrt(var + self.eps)
        return scale, self.bias.float() - mean * scale

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, pooled={self.pooled}"


class SpatialAttention(nn.Module):
    """One weight in (0, 1) for each place, from the mean and maximum over channels.

    ``sigmoid(conv7x7([mean_c x, max_c x, *guides]))`` (place: paper, Fig. framework; layers: our
    choice).

    Args:
        guides: How many single-channel maps are seen beside the feature.
    """

    def __init__(self, guides: int = 0) -> None:
        super().__init__()
        self.conv = Conv(2 + guides, 1, 7)

    def forward(self, x: Tensor, *guides: Tensor) -> Tensor:
        """``x``: ``(N, C, H, W)``; ``guides``: ``(N, 1, H, W)``. Returns ``(N, 1, H, W)``."""
        pooled = [x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)]
        maps = [m.to(x.dtype) for m in (*pooled, *guides)]
        return torch.sigmoid(self.conv(torch.cat(maps, dim=1)))


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
        self.stem = Conv(3, width, 3)
        self.stages = nn.ModuleList(
            Stage(*(ResidualBlock(w) for _ in range(n))) for w, n in zip(widths, blocks)
        )
        # Kernel and stride of 2: no pixel of a neighbouring patch is ever wanted.
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.injection_scales = {name: scale for name, (scale, _) in injected.items()}
        self.injections = nn.ModuleDict(
            {name: nn.Conv2d(c, widths[scale], 1) for name, (scale, c) in injected.items()}
        )

    def forward(self, x: Tensor, injected: Mapping[str, Tensor]) -> list[Tensor]:
        """Features at full, half and quarter scale.

        Args:
            x: ``(N, 3, H, W)``.
            injected: Features of other pathways by name; those not asked for are left out.
        """
        features: list[Tensor] = []
        for scale in range(SCALES):
            x = self.step(scale, x, injected)
            features.append(x)
        return features

    def step(self, scale: int, x: Tensor, injected: Mapping[str, Tensor]) -> Tensor:
        """The feature at one scale, from that of the scale before, or from the image."""
        x = self.downs[scale - 1](x) if scale else self.stem(x)
        for name, conv in self.injections.items():
            if self.injection_scales[name] == scale:
                added = conv(injected[name])
                x = x.add_(added) if overwritable() else x + added
        return self.stages[scale](x)


class Decoder(nn.Module):
    """Features at three scales to one at the full scale, coarse to fine.

    At each scale residual blocks, then Patch Norm where it is on (paper, Fig. framework; see
    :class:`~glsgn_plugins.network.GLSGN` for why it may be off); the encoder's feature of
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
            Stage(*(ResidualBlock(w) for _ in range(n))) for w, n in zip(widths, blocks)
        )
        self.norms = nn.ModuleList(
            PatchNorm(w, pooled=norm == "pooled") for w in widths if norm != "none"
        )
        self.ups = nn.ModuleList(Up(w) for w in widths[:-1])

    def forward(self, features: list[Tensor], patches: int) -> tuple[Tensor, Tensor]:
        """``features``: full, half and quarter scale, each ``(N * patches, C, h, w)``.

        Returns the decoded feature at full scale, and the one at half scale that is passed on.
        """
        x: Tensor | None = None
        decoded: list[Tensor] = []
        for scale in reversed(range(SCALES)):
            x = self.step(scale, features[scale], x)
            if self.norms:
                x = self.norms[scale](x, patches)
            decoded.append(x)
        return decoded[-1], decoded[-2]

    def step(self, scale: int, feature: Tensor, coarser: Tensor | None) -> Tensor:
        """One scale up to its Patch Norm: the encoder's feature and what was decoded before.

        ``feature`` is overwritten where that is possible.
        """
        x = feature if coarser is None else cast(Up, self.ups[scale]).add(coarser, feature)
        return self.stages[scale](x)


class GlobalPathway(nn.Module):
    """The whole image, scaled down: encoder, decoder, spatial attention, output convolution.

    Paper, Fig. framework. Its feature and its attention map go to every local pathway.
    """

    def __init__(self, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.encoder = Encoder(width, blocks)
        self.decoder = Decoder(width, blocks, norm="none")
        self.attention = SpatialAttention()
        self.head = near_zero_(Conv(width, 3, 3))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``image``: I4, ``(N, 3, h, w)``.

        Returns B_g ``(N, 3, h, w)``, A_g ``(N, 1, h, w)`` and F_g ``(N, width, h, w)``.
        """
        feature, _ = self.decoder(self.encoder(image, {}), patches=1)
        attention = self.attention(feature)
        return image + self.head(feature * attention), attention, feature


class LocalPathway(nn.Module):
    """Patches of one resolution: encoder, attention (PAC), joining, decoder.

    Paper, Fig. framework. The encoder works on patches of ``grid``; after the attention they are
    joined to ``merged``, the grid of the next pathway, on which the decoder works.

    Args:
        width: Channels at the full scale.
        blocks: Residual blocks at full, half and quarter scale.
        grid: Patches of the encoder.
        merged: Patches of the decoder.
        global_scale: The encoder's scale at which F_g has this pathway's resolution.
        global_width: Channels of F_g, or ``None`` where it isn't passed.
        previous_width: Channels of F_(i-1), or ``None`` where it isn't passed.
        guides: Attention maps that PAC sees beside the feature (A_g, A_(i-1)), or ``None`` for no
            PAC at all.
        norm: See :class:`Decoder`.
    """

    def __init__(
        self,
        width: int,
        blocks: Sequence[int],
        grid: Grid,
        merged: Grid,
        *,
        global_scale: int,
        global_width: int | None,
        previous_width: int | None,
        guides: int | None,
        norm: str,
    ) -> None:
        super().__init__()
        self.grid, self.merged = grid, merged
        injected = {}
        if global_width is not None:
            injected["from_global"] = (global_scale, global_width)
        if previous_width is not None:
            injected["from_previous"] = (0, previous_width)
        self.encoder = Encoder(width, blocks, injected)
        self.attention = SpatialAttention(guides) if guides is not None else None
        self.decoder = Decoder(width, blocks, norm)
        self.head = near_zero_(Conv(width, 3, 3))

    def encode(
        self, image: Tensor, f_global: Tensor, f_previous: Tensor | None, *guides: Tensor
    ) -> tuple[list[Tensor], Tensor | None]:
        """Features at three scales, the coarsest attended, on ``merged``; and A_i, whole.

        Args:
            image: I_i, ``(N, 3, H, W)``.
            f_global: F_g, ``(N, C, H/s, W/s)`` at the scale where it fits.
            f_previous: F_(i-1) on this pathway's grid, at its full scale.
            *guides: A_g and, past the first pathway, A_(i-1): whole maps at least as large as E_i.
        """
        size = (image.shape[2] >> (SCALES - 1), image.shape[3] >> (SCALES - 1))
        features, attention = self.encode_patches(
            split_patches(image, self.grid),
            split_patches(f_global, self.grid),
            f_previous,
            *(split_patches(shrink(guide, size), self.grid) for guide in guides),
        )
        if attention is not None:
            attention = merge_patches(attention, self.grid)
        for scale, feature in enumerate(features):  # one by one: each is a copy
            features[scale] = merge_patches(feature, self.grid, self.merged)
            del feature
        return features, attention

    def encode_patches(
        self, image: Tensor, f_global: Tensor, f_previous: Tensor | None, *guides: Tensor
    ) -> tuple[list[Tensor], Tensor | None]:
        """:meth:`encode` on patches ``(patches, C, h, w)``; ``guides`` in the size of E_i."""
        injected = {"from_global": f_global}
        if f_previous is not None:
            injected["from_previous"] = f_previous
        features = self.encoder(image, injected)
        features[-1], attention = self.attend(features[-1], *guides)
        return features, attention

    def attend(self, feature: Tensor, *guides: Tensor) -> tuple[Tensor, Tensor | None]:
        """PAC: E_i attended, and A_i; ``feature`` is overwritten where that is possible."""
        if self.attention is None:
            return feature, None
        attention = self.attention(feature, *guides)
        attended = feature.mul_(attention) if overwritable() else feature * attention
        return attended, attention

    def decode(self, image: Tensor, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """B_i ``(N, 3, H, W)``, and F_i at half scale on ``merged``."""
        feature, passed_on = self.decoder(features, self.merged[0] * self.merged[1])
        return image + merge_patches(self.head(feature), self.merged), passed_on

    def forward(
        self, image: Tensor, f_global: Tensor, f_previous: Tensor | None, *guides: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """B_i, F_i on ``merged`` and A_i; arguments as in :meth:`encode`."""
        features, attention = self.encode(image, f_global, f_previous, *guides)
        return *self.decode(image, features), attention


def shrink(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average ``(N, C, H, W)`` over whole cells down to ``size``, which divides its own.

    The one way in which images and maps are made smaller here (our choice): it doesn't alias, and
    what shrinks to half twice is what shrinks to a quarter.
    """
    factor = x.shape[2] // size[0], x.shape[3] // size[1]
    return x if factor == (1, 1) else F.avg_pool2d(x, factor)
