"""Restoring a copy that is scaled down, and carrying its change up: for haze, which is smooth.

What takes haze away is a gain and an offset that change slowly over a picture. They are fitted
where the network has restored a small copy, and applied to the picture itself, whose detail stays
its own (fast guided filter: He and Sun, arXiv 1505.00996; that slopes go to 1 where the copy is
even is our choice).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from glsgn_plugins.archs.glsgn import MIN_SIZE
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.tiled import as_float

RADIUS = 8
"""Of the windows that a gain and an offset are fitted in, in pixels of the copy."""

EVEN = 1e-3
"""Variance, of values in [0, 1], below which a window is rather even."""

ROWS = 256
"""Rows of the picture that are changed at once."""


def check_long_side(long_side: object, name: str = "long_side") -> None:
    """Refuse what is no size for a copy.

    Args:
        long_side: ``None`` for what the network says, 0 for the picture itself, or pixels that a
            network can be run on.
        name: What the user calls it.

    Raises:
        InputError: It is none of these.
    """
    if long_side is None:
        return
    number = None if isinstance(long_side, bool) else long_side
    if isinstance(number, int) and (number == 0 or number >= MIN_SIZE):
        return
    raise InputError(
        f"{name}: expected a number of pixels, {MIN_SIZE} or more, or 0 for the picture "
        f"itself; got {long_side!r}"
    )


def reduced_size(height: int, width: int, long_side: float) -> tuple[int, int]:
    """Rows and columns of the copy; the picture's own where it is no longer than ``long_side``."""
    if not height or not width:
        raise InputError(f"expected images with pixels; got {height}x{width}")
    scale = max(long_side / max(height, width), MIN_SIZE / min(height, width))
    if scale >= 1:
        return height, width
    return max(round(height * scale), MIN_SIZE), max(round(width * scale), MIN_SIZE)


@torch.no_grad()
def restore_reduced(
    image: Tensor, size: tuple[int, int], run: Callable[[Tensor], Tensor]
) -> Tensor:
    """``image * gain + offset``, as ``run`` has changed a copy of that size.

    Args:
        image: ``(N, C, H, W)``, in floating point, or uint8 up to 255.
        size: Rows and columns of the copy.
        run: Restores ``(N, C, *size)``, float32.

    Returns:
        ``(N, C, H, W)``, float32, on the device of ``image``.

    Raises:
        InputError: ``run`` changes the size.
    """
    copy = reduced_copy(image, size)
    restored = run(copy)
    if restored.shape != copy.shape:
        raise InputError(
            f"long_side: {tuple(copy.shape)} came back as {tuple(restored.shape)}; it is for "
            "networks that keep sizes"
        )
    gain, offset = _fitted(copy, restored)
    height, width = image.shape[2:]
    result = torch.empty(image.shape, dtype=torch.float32, device=image.device)
    for rows in strips(height):
        of, to = (enlarged(values, rows, height, width) for values in (gain, offset))
        result[:, :, rows] = as_float(image[:, :, rows]) * of + to
    return result


def reduced_copy(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Means over what each pixel of the copy shows, float32; see :func:`area_means`."""
    # A plane at a time: at 16K a copy of all in floating point has more than a gigabyte.
    planes = [area_means(as_float(image[:, c : c + 1]), size) for c in range(image.shape[1])]
    return torch.cat(planes, dim=1)


def area_means(values: Tensor, size: tuple[int, int]) -> Tensor:
    """``(N, C, H, W)`` in floating point to ``(N, C, *size)``, by the area that pixels cover.

    Pooling takes pixels whole where sizes don't divide: windows overlap, and a copy that is hardly
    smaller is blurred.
    """
    if values.shape[2] % size[0] == values.shape[3] % size[1] == 0:
        return F.adaptive_avg_pool2d(values, size)  # the same, four times as fast
    for dim, length in ((2, size[0]), (3, size[1])):
        values = _line_means(values, dim, length)
    return values


def _line_means(values: Tensor, dim: int, length: int) -> Tensor:
    step = values.shape[dim] / length
    edges = torch.arange(length + 1, dtype=torch.float64) * step  # on the CPU: MPS has no float64
    first = edges[:-1].floor()
    shape = [length if d == dim else 1 for d in range(values.ndim)]
    means = torch.zeros((), device=values.device)
    for k in range(math.ceil(step) + 1):
        at = first + k
        covered = torch.minimum(edges[1:], at + 1) - torch.maximum(edges[:-1], at)
        weight = (covered.clamp(min=0) / step).to(torch.float32).view(shape).to(values.device)
        taken = at.long().clamp(max=values.shape[dim] - 1).to(values.device)
        means = means + values.index_select(dim, taken) * weight
    return means


def strips(height: int) -> list[slice]:
    """The rows of a picture, :data:`ROWS` at a time."""
    return [slice(top, min(top + ROWS, height)) for top in range(0, height, ROWS)]


def _mean(values: Tensor) -> Tensor:
    """Over windows; what is beyond the border doesn't count."""
    return F.avg_pool2d(values, 2 * RADIUS + 1, 1, RADIUS, count_include_pad=False)


def _fitted(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset of each window of x that come nearest to y, averaged over windows."""
    mean_x, mean_y = _mean(x), _mean(y)
    variance = _mean(x * x) - mean_x * mean_x
    covariance = _mean(x * y) - mean_x * mean_y
    gain = (covariance + EVEN) / (variance + EVEN)
    return _mean(gain), _mean(mean_y - gain * mean_x)


def enlarged(values: Tensor, rows: slice, height: int, width: int) -> Tensor:
    """Those rows of ``values`` enlarged to ``height`` x ``width``, bilinear."""
    last = values.shape[2] - 1
    at = torch.arange(rows.start, rows.stop, dtype=torch.float64)  # on the CPU: MPS has no float64
    at = ((at + 0.5) * (values.shape[2] / height) - 0.5).clamp(0, last)
    share = (at - at.floor()).to(torch.float32).to(values)[:, None]
    above = at.long().to(values.device)
    strip = torch.lerp(values[:, :, above], values[:, :, (above + 1).clamp(max=last)], share)
    size = (strip.shape[2], width)
    return F.interpolate(strip, size, mode="bilinear", align_corners=False)
