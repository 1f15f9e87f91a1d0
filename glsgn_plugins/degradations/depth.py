"""Depth of a photograph without a depth map: made up, but after what the picture shows.

Far is where the ground rises to the horizon, where everything is bright and pale (the dark channel,
He et al. 2009), and regions of like colour lie at like depths. None of it is true of every
photograph; drawn in other shares for every sample, it teaches that haze follows the things in a
picture, whichever way.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.light import Image
from glsgn_plugins.degradations.place import Place, smooth_field, warped
from glsgn_plugins.errors import InputError

GRID = 216
"""Rows or columns of a map along the photograph's shorter side, at most."""

Map = NDArray[np.float32]


def grid_of(place: Place) -> tuple[int, int]:
    """Rows and columns of a map over a whole photograph."""
    scale = min(1.0, GRID / place.short)
    return max(1, round(place.height * scale)), max(1, round(place.width * scale))


def thumbnail(image: Image) -> NDArray[np.uint8]:
    """A small picture of a photograph, 8 bits: what depth is made of."""
    rows, cols = grid_of(Place.whole(image))
    small = np.asarray(cv2.resize(image, (cols, rows), interpolation=cv2.INTER_AREA))
    return (small if small.dtype == np.uint8 else small // 257).astype(np.uint8)


def overview(companion: NDArray[Any] | None, image: Image, place: Place | None) -> NDArray[Any]:
    """What depth is made of: a map or thumbnail that is given, else the image's thumbnail.

    Raises:
        InputError: Nothing is given, and the image is a part of its photograph only; or what is
            given is a photograph of 16 bits.
    """
    if companion is not None:
        if companion.ndim == 3 and companion.dtype != np.uint8:
            raise InputError(
                f"expected the photograph's thumbnail of 8 bits, or its depth map, got "
                f"{companion.dtype} of shape {companion.shape}"
            )
        return companion
    if place is not None and (place.height, place.width) != image.shape[:2]:
        raise InputError(
            "a window of a photograph needs the thumbnail of the whole as its companion, or its "
            "depth map"
        )
    return thumbnail(image)


def ground(rows: NDArray[np.float32], horizon: float) -> NDArray[np.float32]:
    """How far the ground is: 1 at the horizon and above it, then as 1 / height below it, to 0.2.

    Args:
        rows: Of the photograph's height, 0 (top) to 1, as is ``horizon``.
        horizon: Its row.
    """
    below = np.clip((rows - horizon) / max(1 - horizon, 1e-3), 0, 1)
    return np.asarray(0.25 / (0.25 + below))


def dark_channel(small: NDArray[np.uint8]) -> Map:
    """How bright and pale everything in a neighbourhood is, 0 to 1: ``(h, w)``."""
    side = max(1, round(min(small.shape[:2]) / 24))
    lowest = cv2.erode(small.min(axis=2), np.ones((side, side), np.uint8))
    dark = np.asarray(lowest, np.float32)
    low, high = np.percentile(dark, (1, 99))
    return np.clip((dark - low) / max(float(high - low), 8.0), 0, 1)


def by_colour(small: NDArray[np.uint8], seed: int) -> Map:
    """A depth for each colour, alike for like ones: ``(h, w)``, 0 to 1."""
    rng = np.random.default_rng(seed)
    colours = np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32) / 255
    waves = rng.normal(0, 5, (3, 4)).astype(np.float32)
    total = np.cos(colours @ waves + rng.uniform(0, 2 * np.pi, 4).astype(np.float32)).mean(axis=2)
    return stretched(total.astype(np.float32))


def stretched(values: Map) -> Map:
    """To the whole of 0 to 1."""
    values = values - values.min()
    return np.asarray(values / max(float(values.max()), 1e-6), np.float32)


def smoothed_along_edges(values: Map, small: NDArray[np.uint8]) -> Map:
    """A guided filter (He et al. 2010): smooth but at the picture's edges, after its brightness."""
    guide = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32) / 255
    side = max(3, round(min(small.shape[:2]) / 16))

    def mean(of: Map) -> Map:
        return np.asarray(cv2.blur(of, (side, side)), np.float32)

    about, level = mean(guide), mean(values)
    slope = (mean(guide * values) - about * level) / (mean(guide * guide) - about**2 + 1e-3)
    return mean(slope) * guide + mean(level - slope * about)


def picture_depth(
    small: NDArray[np.uint8],
    shares: tuple[float, float, float, float],
    horizon: float,
    seed: int,
) -> Map:
    """Depth over a whole photograph.

    Args:
        small: Its :func:`thumbnail`.
        shares: Of the ground, of fractal relief, of the dark channel and of colours; above 0 in
            all.
        horizon: Row of the horizon, of the height.
        seed: Of relief and colours.

    Returns:
        In the size of ``small``, 0 (near) to 1 (far).
    """
    grid = (small.shape[0], small.shape[1])
    rows = (np.arange(grid[0], dtype=np.float32) + 0.5) / grid[0]
    parts = (
        np.repeat(ground(rows, horizon)[:, None], grid[1], axis=1),
        smooth_field(seed, grid, Place(*grid)),
        dark_channel(small),
        by_colour(small, seed + 1),
    )
    mixed = sum(share * part for share, part in zip(shares, parts))
    return stretched(smoothed_along_edges(np.asarray(mixed, np.float32), small))


def given_depth(companion: NDArray[Any]) -> Map:
    """A depth map that came with the photograph as float32 in [0, 1].

    Args:
        companion: ``(H, W)`` of any size, float in [0, 1], or uint8 or uint16 over their range;
            larger is farther.

    Raises:
        InputError: It isn't ``(H, W)``, is of another type, or has values beyond 0 and 1.
    """
    if companion.ndim != 2:
        raise InputError(f"expected a depth map of shape (H, W), got {companion.shape}")
    depth = companion.astype(np.float32)
    if np.issubdtype(companion.dtype, np.integer):
        # Of wider ones nobody uses the range: all would be near, and no haze anywhere.
        if companion.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"expected depth in [0, 1], or uint8 or uint16, got {companion.dtype}; divide it "
                "by the farthest distance"
            )
        depth /= np.iinfo(companion.dtype).max
    if not 0 <= float(depth.min()) <= float(depth.max()) <= 1:
        raise InputError(
            f"expected depth in [0, 1], got {depth.min():g} to {depth.max():g}; divide it by "
            "the farthest distance"
        )
    return depth


def over_window(values: NDArray[np.float32], shape: tuple[int, int], place: Place) -> Any:
    """A map over the whole photograph, as seen in a window of it: ``(*shape, ...)``."""
    scale_y, scale_x = values.shape[0] / place.height, values.shape[1] / place.width
    # Pixel centres of the window, in the map.
    window = [
        [scale_x, 0, (place.left + 0.5) * scale_x - 0.5],
        [0, scale_y, (place.top + 0.5) * scale_y - 0.5],
    ]
    return warped(values, window, shape, cv2.BORDER_REPLICATE)
