"""``restore_photograph``: the pixels of an image file, in whatever colours these are."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from glsgn_plugins.inference.arrays import restore_array
from glsgn_plugins.inference.colour import Colours
from glsgn_plugins.inference.images import Photograph


def restore_photograph(
    net: nn.Module,
    photograph: Photograph,
    colours: Colours | None,
    tile: str | int = "auto",
    **options: Any,
) -> np.ndarray:
    """Restore what :func:`~glsgn_plugins.inference.images.read` gave.

    Args:
        net: As of :func:`restore`.
        photograph: Its pixels aren't changed.
        colours: What :func:`~glsgn_plugins.inference.colour.colours_of` says of it. The network
            sees sRGB, and what it changes there is changed here; what sRGB can't hold is kept.
        tile: As of :func:`restore`, and so are ``options``.

    Returns:
        Of the shape and type of ``photograph.pixels``, in the same colours.

    Raises:
        InputError: As of :func:`restore_array`.
    """
    if colours is None:
        return restore_array(net, photograph.pixels, tile, **options)
    shown = colours.to_srgb(photograph.pixels)
    restored = restore_array(net, shown, tile, **options)
    return colours.back(photograph.pixels, shown, restored)
