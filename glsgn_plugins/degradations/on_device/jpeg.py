"""Through a JPEG and back, on tensors: what libjpeg-turbo makes of a picture, as OpenCV calls it.

Chroma at half the rows and columns, the tables of the standard's annex K scaled by quality as
libjpeg does, and its triangular filter where chroma is brought back to size.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

# Annex K of ITU-T T.81, row by row.
LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *([99] * 32),
)


def quantisation(quality: int) -> NDArray[np.float32]:
    """Steps of luma and of chroma, ``(2, 8, 8)``.

    Args:
        quality: 1 to 100, as libjpeg has it.
    """
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = np.array([LUMA, CHROMA]).reshape(2, 8, 8)
    return np.clip((base * percent + 50) // 100, 1, 255).astype(np.float32)


def compressed(levels: Tensor, steps: Tensor) -> Tensor:
    """Pictures as their JPEG files show them.

    Args:
        levels: ``(N, 3, H, W)``, RGB, whole numbers from 0 to 255 in a type of floats.
        steps: ``(N, 2, 8, 8)``, as of :func:`quantisation`.

    Returns:
        As ``levels``.
    """
    height, width = levels.shape[2:]
    # Whole blocks of 16, by what is at the edge.
    whole = pad(levels, (0, -width % 16, 0, -height % 16), mode="replicate")
    red, green, blue = whole.unbind(1)
    bluish = (-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128).round()
    reddish = (0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128).round()
    luma = _blocks_and_back(luma_of(whole), steps[:, :1])[:, 0]
    chroma = _blocks_and_back(_halved(torch.stack([bluish, reddish], 1)), steps[:, 1:])
    bluish, reddish = (_doubled(chroma) - 128).unbind(1)
    red = luma + 1.402 * reddish
    green = luma - 0.344136286 * bluish - 0.714136286 * reddish
    blue = luma + 1.772 * bluish
    shown = torch.stack([red, green, blue], 1)
    return (shown + 0.5).floor_().clamp_(0, 255)[..., :height, :width]


def luma_of(levels: Tensor) -> Tensor:
    """BT.601's luma of ``(N, 3, H, W)``, rounded: ``(N, 1, H, W)``."""
    red, green, blue = levels.split(1, 1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).round()


def _blocks_and_back(levels: Tensor, steps: Tensor) -> Tensor:
    """Quantised in blocks of 8x8."""
    count, channels, height, width = levels.shape
    index = torch.arange(8, device=levels.device, dtype=levels.dtype)
    cosines = (math.pi / 16 * (2 * index + 1) * index[:, None]).cos()
    cosines = cosines * torch.where(index == 0, math.sqrt(1 / 8), 0.5)[:, None]
    steps = steps[:, :, None, :, None]
    blocks = (levels - 128).reshape(count, channels, height // 8, 8, width // 8, 8)
    found = torch.einsum("ky,ncayxz,lz->ncakxl", cosines, blocks, cosines)
    # To eighths, as libjpeg computes them, then halves of a step away from 0.
    found = (found * 8).round() / 8
    found = found.sign() * (found.abs() / steps + 0.5).floor() * steps
    back = torch.einsum("ky,ncakxl,lz->ncayxz", cosines, found, cosines)
    return (back.reshape(levels.shape) + 128.5).floor_().clamp_(0, 255)


def _halved(levels: Tensor) -> Tensor:
    """Means of 2x2, rounded down and up from column to column."""
    count, channels, height, width = levels.shape
    sums = levels.reshape(count, channels, height // 2, 2, width // 2, 2).sum((3, 5))
    turn = torch.arange(width // 2, device=levels.device) % 2 + 1
    return ((sums + turn) / 4).floor()


def _doubled(levels: Tensor) -> Tensor:
    """Twice the rows and columns, each from the nearest with a weight of 3 and the next of 1."""
    around = pad(levels, (1, 1, 1, 1), mode="replicate")
    near = 3 * around[:, :, 1:-1]
    tall = torch.stack([near + around[:, :, :-2], near + around[:, :, 2:]], 3).flatten(2, 3)
    near = 3 * tall[..., 1:-1]
    wide = torch.stack([near + tall[..., :-2] + 8, near + tall[..., 2:] + 7], 4).flatten(3, 4)
    return (wide / 16).floor()
