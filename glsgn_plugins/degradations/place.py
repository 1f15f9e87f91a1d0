"""Where an image lies in its photograph, and smooth random fields over the photograph.

Degradations are given relative to the photograph, so that the same parameters give the same rain
at 1080p and at 4K, and a crop of it looks like a crop of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.errors import InputError


@dataclass(frozen=True)
class Place:
    """The window of a photograph that an image shows.

    Attributes:
        height: Of the whole photograph, in pixels.
        width: Likewise.
        top: The image's first row in it.
        left: The image's first column in it.
    """

    height: int
    width: int
    top: int = 0
    left: int = 0

    @classmethod
    def whole(cls, image: NDArray[Any]) -> Place:
        """The image is the whole photograph."""
        return cls(*image.shape[:2])

    @property
    def short(self) -> int:
        """The photograph's shorter side, in pixels."""
        return min(self.height, self.width)


class TruthIsImage:
    """Mixed into parameters whose truth is the image that they are applied to."""

    def apply(self, image: Any, companion: Any = None, place: Place | None = None) -> Any:
        """The degraded image."""
        raise NotImplementedError

    def pair(
        self, image: NDArray[Any], companion: Any = None, place: Place | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The degraded image, and its truth: the image; arguments as of ``apply``."""
        return self.apply(image, companion, place), image


WARPED = 32766
"""Rows and columns up to which OpenCV warps."""


def warped(
    image: NDArray[Any],
    matrix: Sequence[Sequence[float]],
    shape: tuple[int, int],
    border: int = cv2.BORDER_CONSTANT,
) -> NDArray[Any]:
    """An image moved, scaled or sheared, by linear interpolation.

    OpenCV 4 takes positions to a 32nd of a pixel, OpenCV 5 as they are: so the two give other
    values, and with OpenCV 5 what windows share is equal to within rounding alone.

    Args:
        image: ``(H, W, ...)``.
        matrix: Two rows of three: column and row in ``image`` of what column and row of the result
            show.
        shape: Rows and columns of the result.
        border: OpenCV's mode for what lies beyond ``image``.

    Raises:
        InputError: Either is too large for OpenCV.
    """
    for high, wide in (shape, image.shape[:2]):
        if max(high, wide) > WARPED:
            raise InputError(
                f"{wide}x{high} pixels: weather is drawn on up to {WARPED} a side; "
                "scale the photograph down, or leave it out"
            )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size, inverse = (shape[1], shape[0]), np.array(matrix, np.float64)
    return np.asarray(cv2.warpAffine(image, inverse, size, flags=flags, borderMode=border))


def smooth_field(
    seed: int,
    shape: tuple[int, int],
    place: Place,
    cells: int = 3,
    octaves: int = 4,
    fading: float = 0.5,
) -> NDArray[np.float32]:
    """Fractal noise over a photograph: some broad shapes, and finer ones of less height each.

    Args:
        seed: Of the noise.
        shape: Rows and columns of the window to give.
        place: Where that window lies.
        cells: Broadest shapes along the shorter side.
        octaves: How many sizes of shapes, each half as large as the one before.
        fading: Weight of each size against the one before.

    Returns:
        Of ``shape``, in [0, 1] over the photograph; the same values wherever windows overlap.
    """
    rng = np.random.default_rng(seed)
    knots = cells * 2 ** (octaves - 1)
    rows = max(1, round(knots * place.height / place.short)) + 1
    cols = max(1, round(knots * place.width / place.short)) + 1
    total = np.zeros((rows, cols), np.float32)
    for octave in range(octaves):
        step = 2 ** (octaves - 1 - octave)
        coarse = rng.random(((rows - 1) // step + 2, (cols - 1) // step + 2), np.float32)
        at_rows, at_cols = (np.arange(n, dtype=np.float32) / step for n in (rows, cols))
        total += _interpolate(coarse, at_rows, at_cols) * np.float32(fading**octave)
    total -= total.min()
    total /= max(float(total.max()), 1e-6)
    y = (place.top + np.arange(shape[0], dtype=np.float32) + 0.5) * ((rows - 1) / place.height)
    x = (place.left + np.arange(shape[1], dtype=np.float32) + 0.5) * ((cols - 1) / place.width)
    return _interpolate(total, y, x)


def _interpolate(
    grid: NDArray[np.float32], y: NDArray[np.float32], x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """``grid`` at each of ``y`` x ``x``, in units of its knots, smoothly."""

    def between(positions: NDArray[np.float32], knots: int) -> tuple[Any, Any]:
        first = np.clip(positions.astype(np.int64), 0, knots - 2)
        share = np.clip(positions - first, 0, 1)
        return first, share * share * (3 - 2 * share)

    row, down = between(y, grid.shape[0])
    col, along = between(x, grid.shape[1])
    down = down[:, None]
    narrow = grid[row] + (grid[row + 1] - grid[row]) * down
    left = narrow[:, col]
    right = narrow[:, col + 1]
    right -= left
    right *= along
    right += left
    return np.asarray(right, dtype=np.float32)
