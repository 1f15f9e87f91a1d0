"""GLSGN region by region: what one forward gives, without its full-resolution feature maps.

Patch Norm needs the statistics of a layer over the whole image before the next layer can begin, so
each local pathway takes six passes over the image, region by region:

1. encode: full and half scale; keeps the latter;
2. quarter scale of the encoder, and attention (a pass of its own: it sees far around itself);
3. quarter scale of the decoder: its statistics, and its feature in place of the encoder's;
4. half scale likewise; what is kept now is F_i, which the next pathway's encoder reads;
5. full scale: its statistics;
6. the output B_i.

Pathways 2 and 3 keep their feature at full scale, in place of F_(i-1). In pathway 1 it would be the
largest map of all: it is computed from the image again in pass 5, and in pass 6 but for those rows
of pass 5 that the workspace had room for. Without any that costs about a fifth of the network's
multiply-adds; 8 % without Patch Norm, where pathway 1 has no pass 5. The image made smaller lies
where B_2 and B_3 come to be. The last passes fuse the pathways' outputs, one for each scale, in
place of B_1.

A region is worked out by the network's own layers on a window that is larger by what they see
around it, cut at the borders of its patch, where the whole forward repeats the last values as well.
So each value comes from the same numbers through the same layers as in the whole forward.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from glsgn_plugins.blocks import (
    SCALES,
    Decoder,
    GlobalPathway,
    LocalPathway,
    PatchNorm,
    ResidualBlock,
    moments,
    rescale,
    shrink,
)
from glsgn_plugins.fusion import LaplacianFusion, SumFusion
from glsgn_plugins.inference.kept import KeptMap, Workspace
from glsgn_plugins.inference.regions import Box, Region, patches_of, regions
from glsgn_plugins.inference.tiled import as_float
from glsgn_plugins.network import GLSGN, PATHWAY_SCALES, check_image, padded_size
from glsgn_plugins.patches import Grid

COARSEST = 2 ** (SCALES - 1)
"""Places of a pathway's full scale to one of its coarsest; regions are whole multiples of it."""

FUSION_HALO = 2 * PATHWAY_SCALES[-1]
"""Places that a step of the fusion sees around one, at the most: M_i two, and what is enlarged for
it, or a high band, two more; the sum enlarges a quarter, and sees four."""

PASSES = 2 + 3 * 6 + 3
"""Making the image smaller, the global pathway, six passes over each local one, the fusion."""

Progress = Callable[[float], None]
"""Told from time to time which share of the work is done, up to 1."""


@torch.no_grad()
def restore_streamed(
    net: GLSGN,
    image: Tensor,
    *,
    area: int,
    memory: int,
    device: torch.device,
    progress: Progress = lambda share: None,
) -> Tensor:
    """What ``net(image)`` gives, with memory that doesn't grow with the image.

    Args:
        net: In eval mode, on ``device``.
        image: ``(N, 3, H, W)``, RGB in [0, 1], or uint8, on any device; read region by region.
        area: Pixels that pathway 1 works on at once; the others take as much memory.
        memory: Bytes on ``device`` for maps that are kept between the passes; more go to unlinked
            temporary files.
        device: Where to compute.
        progress: See :data:`Progress`.

    Returns:
        The restored images, ``(N, 3, H, W)``, float32, on the device of ``image``.

    Raises:
        InputError: The shape is another, or there is no room for temporary files.
    """
    height, width = check_image(image)
    size = padded_size((height, width), net.size_multiple)
    margin = FUSION_HALO
    output = torch.empty(
        len(image), size[0] + margin, size[1] + margin, 3, device=image.device
    ).permute(0, 3, 1, 2)
    for k in range(len(image)):
        _Stream(
            net,
            _Image(image[k], size, device),
            output[k : k + 1],
            Workspace(memory, device),
            area,
            lambda share, k=k: progress((k + share) / len(image)),  # type: ignore[misc]
        ).run()
    return output[:, :, :height, :width]


class _Image:
    """One image ``(3, H, W)``, padded by reflection as the network pads it."""

    def __init__(self, image: Tensor, size: tuple[int, int], device: torch.device) -> None:
        self.image = image
        self.size = size
        self.device = device

    def read(self, box: Box) -> Tensor:
        """``(1, 3, h, w)``, channels_last."""
        part = self.image
        ends = ((1, box.top, box.bottom), (2, box.left, box.right))
        for dim, start, stop in ends:
            # What lies beyond the image is reflected to places just before its end.
            length = self.image.shape[dim]
            first = min(start, 2 * (length - 1) - (stop - 1))
            part = part.narrow(dim, first, min(stop, length) - first)
        for dim, start, stop in ends:
            length = self.image.shape[dim]
            if stop > length:
                index = torch.arange(start, stop, device=part.device)
                index = torch.where(index < length, index, 2 * (length - 1) - index)
                part = part.index_select(dim, index - (length - part.shape[dim]))
        return as_float(part[None].to(self.device)).contiguous(memory_format=torch.channels_last)


_Sums = tuple[int, Tensor, Tensor]
"""Count, mean and sum of squared deviations per channel, float64, on the CPU."""

_Affine = dict[int, tuple[Tensor, Tensor]]
"""Patch Norm by number of the patch: scale and shift, ``(1, C)``, float32."""


def _sums(x: Tensor) -> _Sums:
    """Of ``(1, C, h, w)``."""
    count = x.shape[2] * x.shape[3]
    mean, var = (m[0].cpu().double() for m in moments(x))
    return count, mean, var * count


def _joined(one: _Sums, two: _Sums) -> _Sums:
    """Of both together (Chan et al.)."""
    count = one[0] + two[0]
    delta = two[1] - one[1]
    deviation = one[2] + two[2] + delta**2 * (one[0] * two[0] / count)
    return count, one[1] + delta * (two[0] / count), deviation


def _affine(norm: PatchNorm, sums: dict[int, _Sums]) -> _Affine:
    """Of patches whose sums are known."""
    if norm.pooled:
        sums = dict.fromkeys(sums, functools.reduce(_joined, sums.values()))
    device = norm.weight.device
    found = {}
    for number, (count, mean, deviation) in sums.items():
        scale, shift = norm.affine(mean.float().to(device), (deviation / count).float().to(device))
        found[number] = scale[None], shift[None]
    return found


class _Decoded(NamedTuple):
    """A scale of a decoder: what was kept before its Patch Norm, and the norm (if any)."""

    kept: KeptMap | None
    affine: _Affine | None

    def normed(self, x: Tensor, number: int) -> Tensor:
        return rescale(x, *self.affine[number]) if self.affine else x

    def read(self, box: Box, number: int, device: torch.device) -> Tensor:
        """A box within that patch."""
        assert self.kept is not None
        return self.normed(self.kept.read(box, device), number)


def _up_to(reach: int, multiple: int) -> int:
    return -(-reach // multiple) * multiple


def _blocks(stage: nn.Module) -> int:
    """Residual blocks of a stage; each sees two places around it."""
    return len(list(stage.children()))


def _encoder_halo(
    pathway: LocalPathway | GlobalPathway, first: int = 0, last: int = SCALES - 1
) -> int:
    """What some scales of an encoder see around a place, in places of the pathway's full scale.

    PAC belongs to the last scale.
    """
    reach = 0 if first else 1  # the stem; then two of each residual block
    for scale in range(first, last + 1):
        reach = -(-reach // 2) if scale > first else reach
        reach += 2 * _blocks(pathway.encoder.stages[scale])
    pac = isinstance(pathway, LocalPathway) and pathway.attention is not None
    return _up_to((reach + 3 * (pac and last == SCALES - 1)) << last, COARSEST)


def _stage_halo(decoder: Decoder, scale: int, head: bool = False) -> int:
    """What one scale of the decoder sees, in places of the full scale."""
    reach = (2 * _blocks(decoder.stages[scale]) + head) << scale
    return _up_to(reach, min(2 << scale, COARSEST))


def _global_halo(pathway: GlobalPathway) -> int:
    """What the global pathway sees."""
    reach = _encoder_halo(pathway) // COARSEST
    for scale in reversed(range(SCALES)):
        reach = (reach if scale == SCALES - 1 else 2 * reach) + 2 * _blocks(
            pathway.decoder.stages[scale]
        )
    return _up_to(reach + 3 + 1, COARSEST)  # and its attention and head


def _mask_halo(fusion: LaplacianFusion) -> int:
    """What M3 sees, a high band included, in places of its own."""
    convs = sum(isinstance(m, nn.Conv2d) for m in fusion.mask3.modules())
    return _up_to(1 + convs, FUSION_HALO)


class _Stream:
    """The passes over one image, as the module describes them."""

    def __init__(
        self,
        net: GLSGN,
        image: _Image,
        output: Tensor,
        workspace: Workspace,
        area: int,
        progress: Progress,
    ) -> None:
        self.net = net
        self.locals = [cast(LocalPathway, pathway) for pathway in net.local_pathways]
        self.image = image
        self.workspace = workspace
        self.area = area
        self.width = self.locals[0].encoder.stem.out_channels
        self.device = image.device
        self.progress = progress
        self.sizes = [(image.size[0] // s, image.size[1] // s) for s in PATHWAY_SCALES]
        quarter = self.sizes[-1]
        self.a_global = KeptMap(workspace, quarter, 1)
        self.f_global = KeptMap(workspace, quarter, net.global_pathway.encoder.stem.out_channels)
        self.b = [KeptMap(workspace, size, 3) for size in self.sizes]
        self.b[0] = KeptMap(workspace, self.sizes[0], 3, margin=FUSION_HALO, data=output)
        self.done = 0.0

    def run(self) -> None:
        self._shrink()
        self._global()
        previous: _Decoded | None = None
        guide: KeptMap | None = None
        for i in range(len(self.locals)):
            f, guide = _LocalStream(self, i, previous, guide).run()
            passes_on = i + 1 < len(self.locals) and self.net.local_features
            previous = f if passes_on else None
            if not passes_on and f.kept is not None:
                f.kept.free()
        for kept in (self.f_global, self.a_global):
            kept.free()
        if isinstance(self.net.fusion, LaplacianFusion):
            self._fuse(self.net.fusion)
        else:
            self._sum(self.net.fusion)
        self.progress(1.0)

    def read_image(self, box: Box, i: int) -> Tensor:
        """A box of I_(i+1); of the smaller ones until B_(i+1) takes their place."""
        return self.b[i].read(box, self.device) if i else self.image.read(box)

    def regions(
        self,
        size: tuple[int, int],
        grid: Grid,
        halo: int,
        width: int,
        scale: int = 0,
    ) -> list[Region]:
        """Regions of a map, so that maps of ``width`` channels take as much as pathway 1's.

        At the scales of a pathway channels double as both sides are halved.
        """
        area = (self.area * self.width // width) << scale
        return regions(size, grid, halo=halo, area=area, align=COARSEST)

    def each(
        self, found: list[Region], step: Callable[[Box, Box, int], None], downwards: bool = True
    ) -> None:
        """Work out regions, row by row, and tell the progress."""
        for k, region in enumerate(found if downwards else reversed(found), 1):
            step(*region)
            self.progress((self.done + k / len(found)) / PASSES)
        self.done += 1

    def _shrink(self) -> None:
        """I_2 and I_3, where B_2 and B_3 will be."""

        def step(box: Box, window: Box, number: int) -> None:
            x = self.image.read(box)
            for kept in self.b[1:-1]:
                box = box.down(2)
                x = shrink(x, box.size)
                kept.write(box, x)

        self.each(self.regions(self.sizes[0], (1, 1), 0, self.width), step)

    def _global(self) -> None:
        size = self.sizes[-1]
        halo = _global_halo(self.net.global_pathway)

        def step(box: Box, window: Box, number: int) -> None:
            outputs = self.net.global_pathway(self.read_image(window, 2))
            for kept, value in zip((self.b[-1], self.a_global, self.f_global), outputs):
                kept.write(box, box.of(value, window))

        # Nothing much is kept as yet: with a fourth of the memory for each of its largest maps, few
        # of its places are halo, of which it has most.
        channels = self.f_global.channels
        spare = self.workspace.limit // 4 // (channels * 4)
        area = max(spare, self.area * self.width // channels)
        self.each(regions(size, (1, 1), halo=halo, area=area, align=COARSEST), step)

    def _fuse(self, fusion: LaplacianFusion) -> None:
        """Scale by scale, coarse to fine; each keeps its mask and what is fused up to there."""
        b1, b2, b3, bg = self.b
        coarse = self._kept_pair(-1)
        halo = _mask_halo(fusion)

        def coarsest(box: Box, window: Box, number: int) -> None:
            pair = fusion.coarsest(*(b.read(window, self.device) for b in (b3, bg)))
            coarse.write(box, box.of(torch.cat(pair, dim=1), window))

        self.each(self._fusion_regions(-1, halo), coarsest)
        for kept in (b3, bg):
            kept.free()
        fine = self._kept_pair(1)

        def finer(band: KeptMap, refine: ResidualBlock, below: KeptMap, window: Box) -> Any:
            pair = below.read(window.down(2), self.device).float()
            return fusion.finer(refine, band.read(window, self.device), pair[:, :3], pair[:, 3:])

        def half(box: Box, window: Box, number: int) -> None:
            pair = finer(b2, fusion.mask2, coarse, window)
            fine.write(box, box.of(torch.cat(pair, dim=1), window))

        self.each(self._fusion_regions(1, FUSION_HALO), half)
        for kept in (b2, coarse):
            kept.free()

        def full(box: Box, window: Box, number: int) -> None:
            b1.write(box, box.of(finer(b1, fusion.mask1, fine, window)[1], window))

        with b1.replaced(3) as downwards:
            self.each(self._fusion_regions(0, FUSION_HALO), full, downwards)
        fine.free()

    def _kept_pair(self, i: int) -> KeptMap:
        return KeptMap(self.workspace, self.sizes[i], 6)

    def _fusion_regions(self, i: int, halo: int) -> list[Region]:
        return self.regions(self.sizes[i], (1, 1), halo, self.width)

    def _sum(self, fusion: SumFusion) -> None:
        """In one pass; the smaller images are made again."""
        b1 = self.b[0]

        def step(box: Box, window: Box, number: int) -> None:
            images = [self.image.read(window)]
            for factor in (2, 4):
                at = window.down(factor)
                images.append(shrink(images[-1], at.size))
            outputs = [b.read(window.down(s), self.device) for b, s in zip(self.b, PATHWAY_SCALES)]
            b1.write(box, box.of(self.net.fuse(outputs, [*images, images[-1]]), window))

        with b1.replaced(3) as downwards:
            self.each(self._fusion_regions(0, FUSION_HALO), step, downwards)
        for kept in self.b[1:]:
            kept.free()


class _LocalStream:
    """The passes over one local pathway.

    Args:
        stream: What the pathways share.
        i: Which pathway, from 0.
        previous: F_(i-1), or ``None`` where it isn't passed on.
        guide: A_(i-1), or ``None``.
    """

    def __init__(
        self, stream: _Stream, i: int, previous: _Decoded | None, guide: KeptMap | None
    ) -> None:
        self.stream = stream
        self.i = i
        self.scale = PATHWAY_SCALES[i]
        self.size = stream.sizes[i]
        self.pathway = stream.locals[i]
        self.output = stream.b[i]
        self.previous = previous
        self.guide = guide
        self.width = width = self.pathway.encoder.stem.out_channels
        margins = [_stage_halo(self.pathway.decoder, s) >> s for s in range(SCALES)]
        half_width = 2 * width
        if i + 1 < len(stream.locals):
            # The next pathway keeps its feature at full scale in place of F_i.
            following = stream.locals[i + 1]
            half_width = max(half_width, following.encoder.stem.out_channels)
            margins[1] = max(
                margins[1], _encoder_halo(following, 0, 1), _stage_halo(following.decoder, 0)
            )
        self.full = None
        if i:
            self.full = previous.kept if previous else self._kept(0, width, margins[0])
        self.half = self._kept(1, half_width, margins[1])
        self.quarter = self._kept(2, 4 * width, margins[2])
        self.attention = self._kept(2, 1)

    def _kept(self, scale: int, channels: int, margin: int = 0) -> KeptMap:
        size = self.size[0] >> scale, self.size[1] >> scale
        return KeptMap(self.stream.workspace, size, channels, margin)

    def run(self) -> tuple[_Decoded, KeptMap]:
        """F_i and A_i; B_i is written."""
        self._encode()
        self._attend()
        if self.guide is not None:
            self.guide.free()
        quarter = self._decode(2, self.quarter, None)
        half = self._decode(1, self.half, quarter)
        self.quarter.free()
        full = self._decode(0, self.full, half)
        self._output(full, half)
        if full.kept is not None:
            full.kept.free()
        return half, self.attention

    def _injected(self, scale: int, window: Box, number: int) -> dict[str, Tensor]:
        """The other pathways' features that the encoder takes at a scale."""
        device = self.stream.device
        found = {}
        for name, wanted in self.pathway.encoder.injection_scales.items():
            if wanted != scale:
                continue
            if name == "from_global":
                at = window.up(self.scale).down(PATHWAY_SCALES[-1])
                found[name] = self.stream.f_global.read(at, device)
            else:
                assert self.previous is not None
                found[name] = self.previous.read(window, number, device)
        return found

    def _encode(self) -> None:
        """Full and half scale."""
        encoder, stream = self.pathway.encoder, self.stream

        def step(box: Box, window: Box, number: int) -> None:
            x = stream.read_image(window, self.i)
            for scale, kept in enumerate((self.full, self.half)):
                x = encoder.step(scale, x, self._injected(scale, window, number))
                if kept is not None:
                    at = box.down(1 << scale)
                    kept.write(at, at.of(x, window.down(1 << scale)))

        halo = _encoder_halo(self.pathway, 0, 1)
        found = stream.regions(self.size, self.pathway.grid, halo, self.width)
        with self._replaced(self.previous and self.full, 0) as downwards:
            stream.each(found, step, downwards)

    def _attend(self) -> None:
        """Quarter scale of the encoder, and PAC."""
        pathway, device = self.pathway, self.stream.device
        last = SCALES - 1

        def step(box: Box, window: Box, number: int) -> None:
            at = window.down(COARSEST)
            guides = []
            if pathway.attention is not None:
                finer = [(self.stream.a_global, self.scale)]
                if self.guide is not None:
                    finer.append((self.guide, 2))
                guides = [shrink(guide.read(at.up(s), device), at.size) for guide, s in finer]
            below = self.half.read(window.down(COARSEST // 2), device)
            x = pathway.encoder.step(last, below, self._injected(last, window, number))
            x, attention = pathway.attend(x, *guides)
            box = box.down(COARSEST)
            self.quarter.write(box, box.of(x, at))
            if attention is not None:
                self.attention.write(box, box.of(attention, at))

        halo = _encoder_halo(pathway, last)
        self.stream.each(self.stream.regions(self.size, pathway.grid, halo, self.width, last), step)

    def _replaced(self, kept: KeptMap | None, scale: int) -> AbstractContextManager[bool]:
        if kept is None:
            return nullcontext(True)
        return kept.replaced(self.width << scale)

    def _decode(self, scale: int, kept: KeptMap | None, coarser: _Decoded | None) -> _Decoded:
        """One scale, in place of the encoder's feature; its statistics alone if that isn't kept."""
        decoder = self.pathway.decoder
        norm = cast(PatchNorm, decoder.norms[scale]) if decoder.norms else None
        if kept is None and norm is None:
            return _Decoded(None, None)
        halo = _stage_halo(decoder, scale)
        found = self.stream.regions(self.size, self.pathway.merged, halo, self.width, scale)
        target = self._some_rows(found) if kept is None else kept
        sums: dict[int, _Sums] = {}

        def step(box: Box, window: Box, number: int) -> None:
            at = box.down(1 << scale)
            x = at.of(self._feature(scale, kept, coarser, window, number), window.down(1 << scale))
            if norm is not None:
                sums[number] = _joined(sums[number], _sums(x)) if number in sums else _sums(x)
            if target is not None and at.bottom <= target.size[0]:
                target.write(at, x)

        with self._replaced(kept, scale) as downwards:
            self.stream.each(found, step, downwards)
        return _Decoded(target, _affine(norm, sums) if norm is not None else None)

    def _some_rows(self, found: list[Region]) -> KeptMap | None:
        """For as many rows of regions of the full scale as the workspace has room for."""
        workspace, cols = self.stream.workspace, self.size[1]
        room = (workspace.limit - workspace.used) // (cols * self.width * 4)
        rows = max((box.bottom for box, _, _ in found if box.bottom <= room), default=0)
        return KeptMap(workspace, (rows, cols), self.width) if rows else None

    def _feature(
        self,
        scale: int,
        kept: KeptMap | None,
        coarser: _Decoded | None,
        window: Box,
        number: int,
    ) -> Tensor:
        """What a scale of the decoder makes of a window, up to its Patch Norm."""
        device = self.stream.device
        if kept is not None:
            feature = kept.read(window.down(1 << scale), device, own=True)
        else:
            feature = self._full_scale(window)
        below = coarser.read(window.down(2 << scale), number, device) if coarser else None
        return self.pathway.decoder.step(scale, feature, below)

    def _full_scale(self, window: Box) -> Tensor:
        """The encoder's feature at full scale, from the image; a window may touch some patches."""
        encoder = self.pathway.encoder
        halo = 1 + 2 * _blocks(encoder.stages[0])
        parts = []
        for patch in patches_of(self.size, self.pathway.grid):
            part = window.cut(patch)
            if min(part.size) > 0:
                seen = part.grown(halo, patch)
                image = self.stream.read_image(seen, self.i)
                parts.append((part, part.of(encoder.step(0, image, {}), seen)))
        if len(parts) == 1:
            return parts[0][1]
        shape = (1, parts[0][1].shape[1], *window.size)
        feature = parts[0][1].new_empty(shape).contiguous(memory_format=torch.channels_last)
        for part, value in parts:
            part.of(feature, window).copy_(value)
        return feature

    def _output(self, full: _Decoded, half: _Decoded) -> None:
        """B_i."""
        pathway, stream = self.pathway, self.stream
        rows = full.kept.size[0] if full.kept is not None else 0
        halo = 1 if rows == self.size[0] else _stage_halo(pathway.decoder, 0, head=True)

        def step(box: Box, window: Box, number: int) -> None:
            if window.bottom <= rows:
                x = full.read(window, number, stream.device)
            else:
                x = full.normed(self._feature(0, None, half, window, number), number)
            residual = box.of(pathway.head(x), window)
            self.output.write(box, stream.read_image(box, self.i) + residual)

        stream.each(stream.regions(self.size, pathway.merged, halo, self.width), step)
