"""Streaks of many lengths, drawn fast: what the rain of the preset ``real`` is made of."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.place import Place, warped
from glsgn_plugins.degradations.rain import FWHM, RainLayer, blurred


def streaks(layer: RainLayer, shape: tuple[int, int], place: Place) -> NDArray[np.float32]:
    """How much of a layer's streaks there is at each pixel of a window.

    Other than :meth:`RainLayer.mask`, streaks are half to one and a half times as long as the layer
    says, each for itself, and broad ones are drawn at half the size or less.

    Args:
        layer: Its density, length, width and so on.
        shape: Rows and columns of the window.
        place: Where it lies in the photograph.

    Returns:
        Of ``shape``, from 0 up; its mean over a large area is as of ``RainLayer.mask``.
    """
    thickness = np.hypot(layer.width / FWHM, layer.defocus) * place.height
    shrink = 1 << max(0, int(np.log2(max(thickness, 1) / 1.2)))
    if shrink == 1:
        return _drawn(layer, shape, place)
    top, left = place.top // shrink - 1, place.left // shrink - 1
    rows = -(-(place.top + shape[0]) // shrink) + 1 - top
    cols = -(-(place.left + shape[1]) // shrink) + 1 - left
    height, width = (max(1, round(side / shrink)) for side in (place.height, place.width))
    small = _drawn(layer, (rows, cols), Place(height, width, top, left))
    large = cv2.resize(small, (cols * shrink, rows * shrink), interpolation=cv2.INTER_LINEAR)
    at_y, at_x = place.top - top * shrink, place.left - left * shrink
    return np.asarray(large[at_y : at_y + shape[0], at_x : at_x + shape[1]], np.float32)


def _drawn(layer: RainLayer, shape: tuple[int, int], place: Place) -> NDArray[np.float32]:
    height, width = place.height, place.width
    slope = float(np.tan(np.deg2rad(layer.angle)))
    upright = float(np.cos(np.deg2rad(layer.angle)))
    fall = layer.length * height * upright
    across = layer.width * height / FWHM / upright  # along a row
    sigma_y = layer.defocus * height
    sigma_x = float(np.hypot(across, sigma_y))

    # As in RainLayer.mask, streaks stand upright on a canvas that is then sheared.
    lean = slope * height
    first, last = -max(0.0, lean), width - min(0.0, lean)
    pad = 1.5 * layer.length + 3 * (layer.defocus + layer.width)
    span_x, span_y = (last - first) / height + 2 * pad, 1 + 2 * pad
    rng = np.random.default_rng(layer.seed)
    across_x, along_y, strength, longer = rng.random(
        (4, round(layer.density * span_x * span_y)), np.float32
    )
    rows, cols = shape
    margin_y, margin_x = int(3 * sigma_y) + 2, int(3 * sigma_x) + 2
    leans = (slope * place.top, slope * (place.top + rows))
    left = int(np.floor(place.left - max(leans))) - margin_x
    right = int(np.ceil(place.left + cols - min(leans))) + margin_x
    reach = int(np.ceil(1.5 * fall)) + 4
    top = place.top - margin_y - reach
    x = np.floor(across_x * (span_x * height) + (first - pad * height)).astype(np.int64) - left
    y = np.floor((along_y * span_y - pad) * height).astype(np.int64) - top
    canvas = np.zeros((rows + 2 * margin_y + reach, right - left), np.float32)
    inside = (x >= 0) & (x < canvas.shape[1]) & (y >= 0) & (y < canvas.shape[0])
    x, y, strength = x[inside], y[inside], strength[inside]
    own = fall * (0.5 + longer[inside])

    # A streak grows over an eighth of its length, stays, and fades over an eighth: its second
    # differences are four points, and two running sums draw them all.
    grown = np.maximum(np.round(own / 8), 1).astype(np.int64)
    steady = np.maximum(np.round(own * 7 / 8), 1).astype(np.int64)
    plateau = layer.opacity * (0.5 + strength) * across * np.sqrt(2 * np.pi)
    step = (plateau * own / (grown * steady)).astype(np.float32)
    for after, sign in ((0, 1), (grown, -1), (steady, -1), (grown + steady, 1)):
        at = y + after
        seen = at < canvas.shape[0]
        np.add.at(canvas, (at[seen], x[seen]), sign * step[seen])
    for _ in range(2):
        for row in range(1, canvas.shape[0]):
            canvas[row] += canvas[row - 1]
    canvas = blurred(canvas[reach:], sigma_x, sigma_y)
    shear = [[1, -slope, place.left - left - slope * place.top], [0.0, 1.0, margin_y]]
    return np.maximum(warped(canvas, shear, (rows, cols)), 0)
