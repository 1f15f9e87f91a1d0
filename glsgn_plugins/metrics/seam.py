"""How much patches show, in the form of BasicSR's metrics: two 8-bit images in, one number out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.metrics.image_order import Image, check_alike, to_hwc

SEAM_FIGURES = ("gradient", "residual")


def _borders(length: int, cells: int, multiple: int) -> list[int]:
    """Where patches begin, past the first, in an image that is padded to a multiple."""
    padded = length + -length % multiple
    return [k * padded // cells for k in range(1, cells) if 0 < k * padded // cells < length]


def _border_over_rest(image: Image, rows: list[int], cols: list[int]) -> float:
    """Mean step between pixels on two sides of a border, over that between any others."""
    on_border, elsewhere = [], []
    for axis, borders in ((0, rows), (1, cols)):
        steps = np.abs(np.diff(image, axis=axis)).mean(axis=(1 - axis, 2))
        crossing = np.zeros(len(steps), bool)
        crossing[[border - 1 for border in borders]] = True
        on_border.append(steps[crossing])
        elsewhere.append(steps[~crossing])
    return float(np.concatenate(on_border).mean() / (np.concatenate(elsewhere).mean() + 1e-12))


def calculate_seam(
    img: Image,
    img2: Image,
    crop_border: int = 0,
    input_order: str = "HWC",
    figure: str = "gradient",
    grid: tuple[int, int] = (4, 4),
    multiple: tuple[int, int] = (32, 16),
    **_: Any,
) -> float:
    """How much patches show that were restored apart (our choice of figures).

    Args:
        img: The restored image, ``(H, W, C)`` in [0, 255].
        img2: The truth.
        crop_border: Taken for other metrics' sake and not used, since it would move the borders.
        input_order: ``"HWC"`` or ``"CHW"``.
        figure: ``"gradient"``: mean step across patch borders over that elsewhere, of ``img``
            relative to ``img2``; 1 where there is no seam. ``"residual"``: mean residual per patch,
            absolute difference between neighbours, in units of ``img``; 0 where there is none.
        grid: Rows and columns of the finest patches.
        multiple: ``GLSGN.size_multiple`` of that network, to which it padded the image.

    Returns:
        The figure, lower is better.

    Raises:
        InputError: The shapes differ, there is no border, or no such figure.
    """
    if figure not in SEAM_FIGURES:
        raise unknown_name("calculate_seam figure", figure, SEAM_FIGURES)
    check_alike("calculate_seam", img, img2)
    for name, pair in (("grid", grid), ("multiple", multiple)):
        if not isinstance(pair, Sequence) or len(pair) != 2 or min(pair) < 1:
            raise InputError(f"calculate_seam {name}: expected two numbers from 1 up, got {pair}")
    restored, truth = (to_hwc(image, 0, input_order) for image in (img, img2))
    rows, cols = (
        _borders(length, cells, m) for length, cells, m in zip(restored.shape, grid, multiple)
    )
    between = restored.shape[0] + restored.shape[1] - 2
    if not 0 < len(rows) + len(cols) < between:
        raise InputError(
            f"calculate_seam: grid {tuple(grid)} has no border, or nothing else, in an image "
            f"of {restored.shape[1]}x{restored.shape[0]}; use another, or leave the metric out"
        )
    if figure == "gradient":
        seen = _border_over_rest(restored, rows, cols)
        return seen / (_border_over_rest(truth, rows, cols) + 1e-12)
    residual = restored - truth
    means = np.array(
        [
            [cell.mean(axis=(0, 1)) for cell in np.split(row, cols, axis=1)]
            for row in np.split(residual, rows, axis=0)
        ]
    )
    steps = [np.abs(np.diff(means, axis=axis)).ravel() for axis in (0, 1)]
    return float(np.concatenate(steps).mean())
