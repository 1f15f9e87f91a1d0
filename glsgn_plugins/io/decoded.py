"""What a decoder other than libvips gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Decoded(NamedTuple):
    """Pixels and metadata of a file.

    Attributes:
        data: ``(H, W)`` or ``(H, W, C)``, uint8 or uint16, upright.
        exif: As a block of bytes, or ``None``.
        icc: An ICC profile, or ``None``.
        xmp: As it stands in the file, or ``None``.
    """

    data: np.ndarray
    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
