"""``restore_array``: one image as numpy holds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.restoring import check_finite, restore

ROWS = 512
"""Rows that are converted at once."""


def restore_array(
    net: nn.Module,
    array: np.ndarray | Any,
    tile: str | int = "auto",
    *,
    mask: np.ndarray | None = None,
    **options: Any,
) -> Any:
    """Restore one image of numpy's.

    Args:
        net: As of :func:`restore`.
        array: ``(H, W, 3)``, RGB: uint8, uint16, or floating point in [0, 1]; or Pillow's image of
            that kind.
        tile: As of :func:`restore`, and so are ``options``.
        mask: ``(H, W)``, floating point in [0, 1] or bool: where the change is wanted.

    Returns:
        The restored image, an array of the same type and, unless the network enlarges, shape;
        whole numbers are rounded and clipped, floating point is neither.

    Raises:
        InputError: The array is another or has values that aren't finite, an option can't be used,
            or what the network gives for whole numbers is not finite.
    """
    if isinstance(array, Tensor):
        raise InputError("expected an array, got a tensor; restore takes these, (N, 3, H, W)")
    array = np.asarray(array)
    if array.ndim != 3 or array.shape[2] != 3:
        raise InputError(f"expected an array (H, W, 3), RGB; got shape {array.shape}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # as some readers give them
    image = _tensor(array)
    weight = None
    if mask is not None:
        mask = np.asarray(mask)
        weight = torch.from_numpy(np.array(mask, mask.dtype.newbyteorder("=")))
    restored = restore(net, image.permute(2, 0, 1)[None], tile, mask=weight, **options)
    restored = restored[0].permute(1, 2, 0)
    del image
    if np.issubdtype(array.dtype, np.floating):
        values = restored.numpy().astype(array.dtype)
        # What isn't to change has all the digits that it had.
        if options.get("strength", 1) == 0:
            return array.copy()
        return values if mask is None else np.where(mask[..., None] == 0, array, values)
    # A strip at a time: at 16K each copy in floating point has more than a gigabyte.
    result = np.empty(restored.shape, array.dtype)
    for top in range(0, len(result), ROWS):
        strip = restored[top : top + ROWS]
        check_finite(strip, net)
        strip = strip.clamp(0, 1) * float(np.iinfo(array.dtype).max)
        result[top : top + ROWS] = strip.round_().numpy()
    return result


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.uint8:
        return torch.from_numpy(_writeable(array))
    if array.dtype == np.uint16:
        return torch.from_numpy(array.astype(np.float32)).div_(65535)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():  # one such pixel would be carried over all of the image
            raise InputError(
                "the array has values that are not finite; replace them, by np.nan_to_num say"
            )
        return torch.from_numpy(_writeable(array.astype(np.float32, copy=False)))
    raise InputError(f"expected uint8, uint16 or floating point, got {array.dtype}")


def _writeable(array: np.ndarray) -> np.ndarray:
    """As torch wants it, which warns of arrays that are read only, as Pillow's are."""
    return np.require(array, requirements=("C", "W"))
