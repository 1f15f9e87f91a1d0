"""Raw files of cameras, developed by LibRaw (rawpy): one picture of 16 bits, in sRGB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from glsgn_plugins.errors import InputError
from glsgn_plugins.io import exif
from glsgn_plugins.io.decoded import Decoded
from glsgn_plugins.io.headers import Header

SUFFIXES = (
    *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),
    *(".3fr", ".iiq", ".rwl", ".erf", ".mrw", ".kdc", ".dcr", ".x3f"),
)
"""Ends of names. Many of these files are TIFF to whom looks at their first bytes."""

GAMMA = (2.4, 12.92)
"""sRGB's curve, as LibRaw takes it."""

MISSING = "isn't read without rawpy: pip install 'glsgn-plugins[raw]'"


def header_of(path: Path) -> Header:
    """What a raw file says of its picture, which comes out upright.

    Raises:
        InputError: rawpy isn't there, or LibRaw refuses the file.
    """
    with _opened(path) as raw:
        height, width = raw.sizes.iheight, raw.sizes.iwidth
        if raw.sizes.flip & 4:
            height, width = width, height
    told = exif.of_tiff(path) is not None
    return Header("raw", height, width, "RGB", 16, left_out="" if told else "EXIF")


def develop(path: Path) -> Decoded:
    """A raw file's picture.

    The camera's white balance, sRGB, no brightening, highlights clipped where a channel is full:
    what a restoration is given should not depend on the rest of the picture (our choice).

    Raises:
        InputError: As of :func:`header_of`.
    """
    import rawpy

    with _opened(path) as raw:
        data = raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            output_bps=16,
            output_color=rawpy.ColorSpace.sRGB,
            gamma=GAMMA,
        )
    if data.ndim == 2 or data.shape[2] == 1:  # a sensor without colours
        data = np.repeat(data.reshape(*data.shape[:2], 1), 3, axis=2)
    return Decoded(data, exif.of_tiff(path))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import rawpy
    except ImportError:
        raise InputError(f"{path}: a raw file, which {MISSING}") from None
    try:
        with path.open("rb") as file, rawpy.imread(file) as raw:
            yield raw
    except rawpy.LibRawError as error:
        said = error.args[0] if error.args else error
        said = said.decode() if isinstance(said, bytes) else said
        raise InputError(f"{path}: no raw file that LibRaw reads, or damaged ({said})") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check it") from None
