"""Metrics in the form of BasicSR's: two 8-bit images in, one number out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glsgn_plugins.errors import unknown_name
from glsgn_plugins.losses.semantic import SemanticDistance

Image = NDArray[Any]

SEAM_FIGURES = ("gradient", "residual")


def _hwc(image: Image, crop_border: int, input_order: str) -> Image:
    """``(H, W, C)`` in float64, without its border."""
    if input_order not in ("HWC", "CHW"):
        raise unknown_name("input_order", input_order, ("HWC", "CHW"))
    image = image.transpose(1, 2, 0) if input_order == "CHW" else image
    height, width = image.shape[:2]
    return image[crop_border : height - crop_border, crop_border : width - crop_border].astype(
        np.float64
    )


@lru_cache(maxsize=2)
def _distance(backbone: str, weights: str, device: str) -> SemanticDistance:
    return SemanticDistance(backbone, weights=weights).to(device)


def calculate_lpips(
    img: Image,
    img2: Image,
    crop_border: int = 0,
    input_order: str = "HWC",
    net: str = "alex",
    weights: str = "cache",
    **_: Any,
) -> float:
    """LPIPS 0.1 of two images, on a GPU if there is one.

    Args:
        img: ``(H, W, 3)``, BGR in [0, 255], as BasicSR has them.
        img2: Likewise.
        crop_border: Pixels left out at each edge.
        input_order: ``"HWC"`` or ``"CHW"``.
        net: ``"alex"``, ``"vgg"`` or ``"squeeze"``.
        weights: Of the trunk, see :class:`~glsgn_plugins.losses.semantic.SemanticDistance`.

    Returns:
        The distance: 0 for equal images, lower is better.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensors = []
    for image in (img, img2):
        rgb = _hwc(image, crop_border, input_order)[..., ::-1] / 255
        planes = torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32))
        tensors.append(planes[None].to(device))
    with torch.no_grad():
        return float(_distance(f"lpips_{net}", weights, device)(*tensors).item())


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
    """
    if figure not in SEAM_FIGURES:
        raise unknown_name("calculate_seam figure", figure, SEAM_FIGURES)
    restored, truth = (_hwc(image, 0, input_order) for image in (img, img2))
    rows, cols = (
        _borders(length, cells, m) for length, cells, m in zip(restored.shape, grid, multiple)
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
