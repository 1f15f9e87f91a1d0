"""Linear light: what a sensor counts, out of and back into sRGB images of 8 or 16 bits.

Streaks, reflections and haze add up as light does. Added to sRGB values they would be too weak in
the dark and too strong in the bright parts. The curve is that of IEC 61966-2-1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.errors import InputError

Image = NDArray[Any]
"""``(H, W, 3)``, RGB, uint8 or uint16, sRGB."""
Light = NDArray[np.float32]
"""Float32 in [0, 1], proportional to light."""

STRIP_ROWS = 64
"""Rows that are worked on at a time: at 4K they fit into a core's cache, the whole does not."""


def decode(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB in [0, 1] to linear light in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def encode(light: NDArray[Any]) -> NDArray[Any]:
    """Linear light in [0, 1] to sRGB in [0, 1]."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


@cache
def _to_light(levels: int) -> Light:
    """What each of the levels of an image is in linear light."""
    return decode(np.arange(levels) / (levels - 1)).astype(np.float32)


@cache
def _to_8_bits() -> NDArray[np.uint8]:
    """The 8-bit level of 65,536 steps of linear light: finer than its steps, even in the dark."""
    return np.round(255 * encode(np.arange(65536) / 65535)).astype(np.uint8)


@cache
def _to_display() -> Light:
    """The display value of 65,536 steps of linear light."""
    return encode(np.arange(65536) / 65535).astype(np.float32)


def to_display(light: Light, dtype: Any) -> Light:
    """Linear light to display values in [0, 1], clipped, as exact as images of a type need."""
    if dtype != np.uint8:
        return np.asarray(encode(np.clip(light, 0, 1)), np.float32)
    return np.take(_to_display(), (np.clip(light, 0, 1) * 65535 + 0.5).astype(np.uint16))


def to_light(image: Image) -> Light:
    """``(..., 3)`` of uint8 or uint16 to linear light."""
    if image.dtype == np.uint8:
        return np.asarray(cv2.LUT(image, _to_light(256)), dtype=np.float32)
    return _to_light(65536)[image]


def from_light(light: Light, dtype: Any) -> Image:
    """Linear light to uint8 or uint16, clipped at 0 and 1 as a sensor does.

    The inverse of :func:`to_light`, exact for every level.
    """
    light = np.clip(light, 0, 1)
    if dtype == np.uint8:
        return np.take(_to_8_bits(), (light * 65535 + 0.5).astype(np.uint16))
    return (encode(light) * 65535 + 0.5).astype(np.uint16)


def in_light(image: Image, change: Callable[[Light, slice], Light]) -> Image:
    """Change an image in linear light, strip by strip.

    Args:
        image: ``(H, W, 3)``.
        change: Takes the light of some rows, ``(h, W, 3)``, which it may overwrite, and which rows
            they are; returns their new light.

    Returns:
        The changed image, in the same type.
    """
    out = np.empty_like(image)
    for top in range(0, image.shape[0], STRIP_ROWS):
        rows = slice(top, min(top + STRIP_ROWS, image.shape[0]))
        out[rows] = from_light(change(to_light(image[rows]), rows), image.dtype)
    return out


def in_display(image: Image, change: Callable[[Light, slice], Light]) -> Image:
    """As :func:`in_light`, but in display values: levels over the highest, 0 to 1."""
    out = np.empty_like(image)
    top = np.float32(np.iinfo(image.dtype).max)
    for first in range(0, image.shape[0], STRIP_ROWS):
        rows = slice(first, min(first + STRIP_ROWS, image.shape[0]))
        values = change(image[rows].astype(np.float32) / top, rows)
        out[rows] = np.clip(values, 0, 1) * top + np.float32(0.5)
    return out


def to_bytes(image: Image) -> NDArray[np.uint8]:
    """A photograph of 8 or 16 bits with 8, rounded."""
    if image.dtype == np.uint8:
        return image
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def check_image(image: Image) -> None:
    """Raise ``InputError`` unless the image is ``(H, W, 3)`` of 8 or 16 bits."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        raise InputError(
            "expected an image of shape (H, W, 3), RGB, uint8 or uint16; got "
            f"{image.shape}, {image.dtype}"
        )
