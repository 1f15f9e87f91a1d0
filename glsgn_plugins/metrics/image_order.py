"""Images as BasicSR hands them to metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.errors import InputError, unknown_name

Image = NDArray[Any]


def check_alike(metric: str, image: Image, other: Image) -> None:
    """InputError, with the metric's name, unless both are images of one shape."""
    if image.ndim != 3 or image.shape != other.shape:
        raise InputError(
            f"{metric}: expected two images (H, W, C) of one shape, got {image.shape} and "
            f"{other.shape}"
        )


def to_hwc(image: Image, crop_border: int, input_order: str) -> Image:
    """``(H, W, C)`` in float64, without ``crop_border`` pixels at each edge.

    Raises:
        InputError: There is no such order, or nothing is left between the edges.
    """
    if input_order not in ("HWC", "CHW"):
        raise unknown_name("input_order", input_order, ("HWC", "CHW"))
    image = image.transpose(1, 2, 0) if input_order == "CHW" else image
    height, width = image.shape[:2]
    if crop_border < 0 or min(height, width) <= 2 * crop_border:
        raise InputError(
            f"crop_border: {crop_border} leaves nothing of an image of {width}x{height}; expected "
            "0 or a few pixels"
        )
    return image[crop_border : height - crop_border, crop_border : width - crop_border].astype(
        np.float64
    )
