"""Restoring a copy beside an image, and taking from it what is coarse: for rain at 4K and beyond.

In a large photograph streaks and mist are larger than any crop that a network was trained on: mist
comes out in blotches, and wide streaks stay. In a copy they have the size that the network knows;
but a copy doesn't show what is fine. So each gives what it is good at (our choice; the paper joins
its own pathways by a pyramid in the same spirit).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.reduced import (
    area_means,
    enlarged,
    reduced_copy,
    reduced_size,
    strips,
)
from glsgn_plugins.inference.stream import Progress

CELL = 3
"""Side of the squares of the copy's pixels whose means come from the copy.

Measured at 3840x2160 with copies of 1280 pixels (docs/training.md): in the preset ``real`` 5 loses
0.2 dB and 8 half a decibel; what is finer than a copy's pixel it doesn't know.
"""

SHAPE = 9 / 16
"""Of a photograph, short side by long one. Pictures that are longer, as panoramas are, get a copy
as high as that of a photograph, since their streaks are as large: a panorama of 5120x720 loses 2
to 3 dB by a copy of 1280x180 (docs/training.md)."""

LARGEST = 1 / 3
"""Share of an image's pixels that a copy has at most; else the image is restored alone, which is
0.2 dB ahead at 1920 pixels and level at 2560 (docs/training.md)."""

Say = Callable[[str], None]


def coarse_size(height: int, width: int, coarse_side: int) -> tuple[int, int] | None:
    """Rows and columns of the copy that is restored beside an image.

    Args:
        height: Of the image, in pixels.
        width: Of the image.
        coarse_side: Long side, in pixels, of the copy of a photograph no longer than 16:9.

    Returns:
        Both; ``None`` for an image that is small enough to do without.

    Raises:
        InputError: The image has no pixels.
    """
    longer = max(height, width) / max(1, min(height, width)) * SHAPE
    size = reduced_size(height, width, coarse_side * max(1, longer))
    return size if size[0] * size[1] <= LARGEST * height * width else None


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
        size: Rows and columns of the copy, as of :func:`coarse_size`.
        run: Restores images, and keeps their size; float32. It is told whom to tell of its progress
            and of how it goes about it: first what it has picked, then what it did for want of
            memory.
        progress: Told which share of both is done.
        say: Told of both; what was picked for the copy isn't repeated.

    Returns:
        ``(N, C, H, W)``, float32, on the device of ``image``.

    Raises:
        InputError: As of ``run``.
    """
    height, width = image.shape[2:]
    of = f"copy of {size[0]}x{size[1]}"
    share = size[0] * size[1] / (height * width + size[0] * size[1])
    copied = reduced_copy(image, size)
    try:
        # Cloned: a network compiled for CUDA graphs writes what follows over it.
        copy = run(
            copied,
            lambda part: progress(share * part),
            _told(lambda picked: None, lambda message: say(f"the {of}: {message}")),
        ).clone()
    except InputError as error:
        raise InputError(f"the {of} beside an image of {height}x{width}: {error}") from None
    restored = run(
        image,
        lambda part: progress(share + (1 - share) * part),
        _told(lambda picked: say(f"{picked}; what is coarse, by a {of}"), say),
    )
    cells = (max(1, round(size[0] / CELL)), max(1, round(size[1] / CELL)))
    change = area_means(copy - reduced_copy(restored, size), cells)
    for rows in strips(height):
        restored[:, :, rows] += enlarged(change, rows, height, width)
    return restored


def _told(first: Say, then: Say) -> Say:
    """Whom to tell of the first message, and of those after it."""
    whom = iter([first])
    return lambda message: next(whom, then)(message)
