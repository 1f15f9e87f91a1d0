"""How much of a restoration is wanted, and where: a blend of the change, in floating point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glsgn_plugins.errors import InputError, is_number
from glsgn_plugins.inference.tiled import as_float

STRONGEST = 1.5
"""The largest strength: beyond it, what the network did not get right is all that grows."""

LUMA = (0.299, 0.587, 0.114)

ROWS = 512
"""Rows that are blended at once: a copy of a whole image of 16K has more than a gigabyte."""


def check_strength(strength: object, name: str = "strength") -> float:
    """A strength as a number.

    Args:
        strength: From 0, which changes nothing, over 1, what the network gives, to 1.5.
        name: What the user calls it.

    Raises:
        InputError: It is none.
    """
    if isinstance(strength, np.floating):
        strength = float(strength)
    if not is_number(strength) or not 0 <= strength <= STRONGEST:
        raise InputError(
            f"{name}: expected a number from 0 (nothing changes) over 1 (as the network has it) to "
            f"{STRONGEST}, got {strength!r}"
        )
    return float(strength)


def check_mask(mask: Tensor | None, size: Sequence[int]) -> None:
    """Refuse a mask that doesn't fit an image.

    Args:
        mask: ``(H, W)`` in [0, 1].
        size: Rows and columns of the image.

    Raises:
        InputError: It is of another shape or type, or has values beyond [0, 1].
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor):
        raise InputError(
            f"mask: expected a tensor, got {type(mask).__name__}; restore_array takes arrays"
        )
    if mask.ndim != 2 or not mask.is_floating_point():
        raise InputError(
            "mask: expected (H, W) in floating point in [0, 1]; got "
            f"{mask.dtype} of shape {tuple(mask.shape)}"
        )
    if tuple(mask.shape) != tuple(size):
        raise InputError(
            f"mask: {mask.shape[1]}x{mask.shape[0]} pixels, but the image has {size[1]}x{size[0]}; "
            "give one of the image's size"
        )
    low, high = mask.aminmax() if mask.numel() else (0.0, 1.0)
    if not (low >= 0 and high <= 1):  # nor NaN
        raise InputError(f"mask: values from {float(low)} to {float(high)}; expected [0, 1]")


def check_region(region: Sequence[int]) -> None:
    """InputError unless it is a rectangle that an image may have, as of :func:`region_mask`."""
    whole = len(region) == 4 and all(isinstance(one, (int, np.integer)) for one in region)
    if not whole or min(region[:2]) < 0 or min(region[2:]) < 1:
        raise InputError(
            f"region {' '.join(map(str, region))}: expected X Y WIDTH HEIGHT in whole pixels, of "
            "which X and Y are 0 or more, and the others 1 or more"
        )


def region_mask(region: Sequence[int], size: Sequence[int]) -> Tensor:
    """1 in a rectangle, 0 elsewhere.

    Args:
        region: Its left column and top row, from 0, its width and its height.
        size: Rows and columns of the image.

    Returns:
        ``(H, W)``.

    Raises:
        InputError: The rectangle is empty or not inside of the image.
    """
    left, top, width, height = region
    check_region(region)
    shown = " ".join(map(str, region))
    if left + width > size[1] or top + height > size[0]:
        raise InputError(f"region {shown}: goes beyond the image of {size[1]}x{size[0]} pixels")
    mask = torch.zeros(*size)
    mask[top : top + height, left : left + width] = 1
    return mask


@torch.no_grad()
def blend(
    image: Tensor,
    restored: Tensor,
    strength: float,
    mask: Tensor | None,
    keep_colour: bool = False,
) -> Tensor:
    """``image + strength * mask * (restored - image)``, written over ``restored``.

    Where ``strength * mask`` is 0 or 1, that is exactly the one or the other.

    With ``keep_colour``, the change is that of the luma (BT.601), for each channel alike: the
    restored luma with the chroma of the image (our choice: of five ways, among them Lab's lightness
    and ratios of linear light, the best balance of PSNR and chroma on three sets of haze).

    Args:
        image: ``(N, C, H, W)``, in floating point, or uint8 up to 255.
        restored: Of the same shape, float32.
        strength: As of :func:`check_strength`.
        mask: ``(H, W)`` in [0, 1]; ``None`` for 1 everywhere.
        keep_colour: For ``C`` of 3, RGB.

    Raises:
        InputError: The network has changed the image's size.
    """
    if strength == 1 and mask is None and not keep_colour:
        return restored
    if restored.shape != image.shape:
        raise InputError(
            f"strength, mask and keep_colour: an image of {tuple(image.shape)} came back as "
            f"{tuple(restored.shape)}; they are for networks that keep sizes"
        )
    for top in range(0, restored.shape[2], ROWS):
        rows = slice(top, top + ROWS)
        weight = torch.tensor(strength, device=restored.device)
        if mask is not None:
            weight = mask[rows].to(restored) * weight
        before = as_float(image[:, :, rows])
        strip = restored[:, :, rows]
        if keep_colour:
            luma = torch.tensor(LUMA, device=strip.device)[:, None, None]
            change = ((strip - before) * luma).sum(dim=1, keepdim=True)
            strip.copy_(before + change)
        strip.copy_(torch.lerp(before, strip, weight.expand_as(strip)))
    return restored
