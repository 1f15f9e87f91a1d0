"""Restoring a copy beside an image, and taking from it what is coarse: for rain at 4K and beyond.

In a large photograph streaks and mist are larger than any crop that a network was trained on: mist
comes out in blotches, and wide streaks stay. In a copy they have the size that the network knows;
but a copy doesn't show what is fine. So each gives what it is good at (our choice; the paper joins
its own pathways by a pyramid in the same spirit).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from glsgn_plugins.inference.reduced import enlarged, reduced_copy, strips
from glsgn_plugins.inference.stream import Progress

CELL = 3
"""Side of the squares of the copy's pixels whose means come from the copy.

Measured at 3840x2160 with copies of 1280 pixels (docs/training.md): in the preset ``real`` 5 loses
0.2 dB and 8 half a decibel; what is finer than a copy's pixel it doesn't know.
"""

Say = Callable[[str], None]


@torch.no_grad()
def restore_by_coarse(
    image: Tensor,
    size: tuple[int, int],
    run: Callable[[Tensor, Progress, Say], Tensor],
    progress: Progress,
    say: Say,
) -> Tensor:
    """What a network makes of images, with the means over small squares that it gives in a copy.

    Args:
        image: ``(N, C, H, W)``, in floating point, or uint8 up to 255.
        size: Rows and columns of the copy.
        run: Restores images, and keeps their size; float32. It is told whom to tell of its progress
            and of how it goes about it.
        progress: Told which share of both is done.
        say: Told of both as of one.

    Returns:
        ``(N, C, H, W)``, float32, on the device of ``image``.
    """
    height, width = image.shape[2:]
    share = height * width / (height * width + size[0] * size[1])
    beside = f"; what is coarse, by a copy of {size[0]}x{size[1]}"
    restored = run(
        image, lambda part: progress(share * part), lambda message: say(message + beside)
    )
    copy = run(
        reduced_copy(image, size),
        lambda part: progress(share + (1 - share) * part),
        lambda message: None,
    )
    cells = (max(1, round(size[0] / CELL)), max(1, round(size[1] / CELL)))
    change = F.adaptive_avg_pool2d(copy - reduced_copy(restored, size), cells)
    for rows in strips(height):
        restored[:, :, rows] += enlarged(change, rows, height, width)
    return restored
