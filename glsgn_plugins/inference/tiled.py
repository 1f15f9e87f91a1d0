"""Any network tile by tile: overlapping tiles, blended with weights that sum to one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from glsgn_plugins.errors import InputError


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin: they share at least ``overlap``, and the last ends at the end."""
    if length <= tile:
        return [0]
    last = length - tile
    count = -(-last // max(tile - overlap, 1))
    return [last * k // count for k in range(count + 1)]


def _join(canvas: Tensor, tile: Tensor, start: int, before: int, trust: int, dim: int) -> None:
    """Blend a tile into a canvas that is filled up to ``before`` along ``dim``.

    The outermost ``trust`` places of either have seen too little around them and aren't used; what
    lies between goes from the one to the other linearly. Where both are equal, so is the result.
    """
    first, last = start + trust, before - trust
    length = last - first
    if length > 0:
        ramp = torch.arange(1, length + 1, dtype=tile.dtype, device=tile.device) / (length + 1)
        ramp = ramp[:, None] if dim == 2 else ramp
        seam = canvas.narrow(dim, first, length)
        seam.copy_(torch.lerp(seam, tile.narrow(dim, trust, length), ramp))
    rest = max(last, first) - start
    end = start + tile.shape[dim]
    canvas.narrow(dim, start + rest, end - start - rest).copy_(
        tile.narrow(dim, rest, tile.shape[dim] - rest)
    )


def as_float(x: Tensor) -> Tensor:
    """Float32 in [0, 1], of that or of uint8."""
    return x / 255 if x.dtype == torch.uint8 else x.float()


def weights_dtype(net: nn.Module) -> torch.dtype:
    """The type of numbers that a network works in: its weights'."""
    return next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)


def run_network(net: nn.Module, image: Tensor, device: torch.device) -> Tensor:
    """One forward of any network.

    Args:
        net: On ``device``.
        image: ``(N, C, H, W)``, float or uint8, on any device. The network gets a copy, of its
            weights' type, as it may change it in place.
        device: Where to compute.

    Returns:
        What it gives, float32, on the device of ``image``.

    Raises:
        InputError: It gives something else than images.
    """
    if image.dtype == torch.uint8:
        given = as_float(image.to(device)).to(weights_dtype(net))
    else:
        given = image.to(device, weights_dtype(net), copy=True)
    restored = net(given.contiguous())
    if not isinstance(restored, Tensor) or restored.ndim != 4:
        given_back = f"a {type(restored).__name__}"
        if isinstance(restored, Tensor):
            given_back += f" of shape {tuple(restored.shape)}"
        raise InputError(
            f"{type(net).__name__} gives {given_back}, expected images (N, C, H, W); wrap it in a "
            "module that gives these alone"
        )
    return restored.to(image.device, torch.float32)


@torch.no_grad()
def restore_tiled(
    net: nn.Module,
    image: Tensor,
    *,
    tile: int,
    overlap: int,
    device: torch.device,
    progress: Callable[[float], None],
) -> Tensor:
    """Run a network on overlapping tiles, one at a time on ``device``.

    Args:
        net: In eval mode, on ``device``; takes ``(N, C, h, w)`` and gives ``(N, C', s h, s w)``
            with a whole number s.
        image: ``(N, C, H, W)``, float or uint8, on any device; only tiles of it are moved.
        tile: Rows and columns of a tile, or less where the image has less.
        overlap: Places that neighbouring tiles share at least, below ``tile``. A quarter at either
            side is left out, as it lacks surroundings; over the rest they are blended.
        device: Where to compute.
        progress: Told which share of the work is done.

    Returns:
        ``(N, C', s H, s W)``, float32, on the device of ``image``.

    Raises:
        InputError: ``tile`` and ``overlap`` don't fit, or a tile's output has no whole scale.
    """
    if not 0 <= overlap < tile:
        raise InputError(f"tile {tile}, overlap {overlap}: expected 0 <= overlap < tile")
    height, width = image.shape[2:]
    rows, cols = (_starts(length, tile, overlap) for length in (height, width))
    tile_size = min(tile, height), min(tile, width)
    output: Tensor | None = None
    strip: Tensor | None = None  # a row of tiles
    scale = 1
    for i, top in enumerate(rows):
        for j, left in enumerate(cols):
            part = image[:, :, top : top + tile_size[0], left : left + tile_size[1]]
            restored = run_network(net, part, device)
            if output is None or strip is None:
                scale = _scale(tile_size, restored)
                shape = *restored.shape[:2], height * scale, width * scale
                output = restored.new_empty(shape)
                strip = output.new_empty(*shape[:2], tile_size[0] * scale, width * scale)
            before = (cols[j - 1] + tile_size[1] if j else left) * scale
            trust = overlap // 4 * scale if j else 0
            _join(strip, restored, left * scale, before, trust, dim=3)
            progress((i * len(cols) + j + 1) / (len(rows) * len(cols)))
        assert output is not None
        assert strip is not None
        before = (rows[i - 1] + tile_size[0] if i else top) * scale
        _join(output, strip, top * scale, before, overlap // 4 * scale if i else 0, dim=2)
    assert output is not None
    return output


def _scale(size: tuple[int, int], restored: Tensor) -> int:
    scale = restored.shape[2] // size[0]
    if (size[0] * scale, size[1] * scale) != tuple(restored.shape[2:]) or not scale:
        raise InputError(
            f"a tile of {size[0]}x{size[1]} came back as {restored.shape[2]}x{restored.shape[3]}: "
            "the network changes sizes by no whole number, and can't be tiled"
        )
    return scale
