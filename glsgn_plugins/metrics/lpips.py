"""LPIPS in the form of BasicSR's metrics: two 8-bit images in, one number out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from glsgn_plugins.errors import unknown_name
from glsgn_plugins.losses.semantic import SemanticDistance
from glsgn_plugins.metrics.image_order import Image, check_alike, to_hwc

NETS = ("alex", "vgg", "squeeze")


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

    Raises:
        InputError: As of :class:`~glsgn_plugins.losses.semantic.SemanticDistance`; the shapes
            differ, or ``crop_border`` leaves nothing.
    """
    if net not in NETS:
        raise unknown_name("calculate_lpips net", net, NETS)
    check_alike("calculate_lpips", img, img2)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensors = []
    for image in (img, img2):
        rgb = to_hwc(image, crop_border, input_order)[..., ::-1] / 255
        planes = torch.from_numpy(rgb.transpose(2, 0, 1).copy()).float()
        tensors.append(planes[None].to(device))
    with torch.no_grad():
        return float(_distance(f"lpips_{net}", weights, device)(*tensors).item())
