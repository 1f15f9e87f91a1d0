"""Image files with all that they hold: 8 and 16 bits, alpha, ICC profile, EXIF and the rest.

Read and written by libvips, which keeps what Pillow (RGB of 16 bits) and OpenCV (metadata) drop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glsgn_plugins.errors import InputError
from glsgn_plugins.inference import exif
from glsgn_plugins.writing import not_written, written_whole

SAVERS: dict[str, dict[str, Any]] = {
    ".jpg": {"Q": 95, "subsample_mode": "off"},
    ".jpeg": {"Q": 95, "subsample_mode": "off"},
    ".png": {"compression": 6},
    ".tif": {"compression": "deflate", "predictor": "horizontal"},
    ".tiff": {"compression": "deflate", "predictor": "horizontal"},
    ".webp": {"Q": 95},
}
"""File names' ends, and how such files are written."""

TIFF = (".tif", ".tiff")
DEEP = (".png", *TIFF)
"""Those that hold 16 bits."""

CLASSIC = 2**32 - 2**28
"""Bytes of pixels from which a TIFF is written as BigTIFF, whose offsets go beyond 4 GiB."""

LAYOUT = frozenset(
    ("width", "height", "bands", "format", "coding", "interpretation", "filename", "vips-loader")
)
"""Fields of an image that are no metadata."""


def vips() -> Any:
    """pyvips; InputError where it is missing."""
    try:
        import pyvips
    except (ImportError, OSError):  # OSError: without libvips itself
        raise InputError(
            "reading and writing photographs needs pyvips: pip install 'glsgn-plugins[restore]'"
        ) from None
    return pyvips


def _reason(error: Exception) -> str:
    """What libvips says, in one line; it repeats itself."""
    return " ".join(dict.fromkeys(" ".join(line.split()) for line in str(error).splitlines()))


@dataclass(frozen=True)
class Photograph:
    """An image file that has been read.

    Attributes:
        pixels: ``(H, W, 3)``, RGB, uint8 or uint16, upright whatever the EXIF orientation.
        alpha: ``(H, W)`` of the same type, or ``None``.
        grey: The file had one channel for all three.
        exif: As a block of bytes, or ``None``.
        header: The file as libvips sees it.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    grey: bool
    exif: bytes | None
    header: Any


def size_of(path: Path) -> tuple[int, int]:
    """Width and height by the file's header.

    Raises:
        InputError: It isn't an image that can be read.
    """
    try:
        header = vips().Image.new_from_file(str(path))
    except vips().Error as error:
        raise InputError(f"{path}: not an image that can be read ({_reason(error)})") from None
    return header.width, header.height


def read(path: Path) -> Photograph:
    """Read a file by what it holds, whatever its name.

    Raises:
        InputError: It can't be read, is cut short, or isn't grey or RGB of 8 or 16 bits.
    """
    try:
        header = vips().Image.new_from_file(str(path), fail_on="truncated")
        known = {"uchar": np.uint8, "ushort": np.uint16}
        colours = ("srgb", "rgb", "rgb16", "b-w", "grey16")
        if header.format not in known or header.interpretation not in colours:
            raise InputError(
                f"{path}: {header.interpretation} of type {header.format}; convert it to grey or "
                "RGB of 8 or 16 bits"
            )
        if header.get_typeof("n-pages") and header.get("n-pages") > 1:
            raise InputError(f"{path}: holds {header.get('n-pages')} pages; split it into files")
        data = header.numpy()
    except vips().Error as error:
        raise InputError(f"{path}: damaged or no image ({_reason(error)}); copy it again") from None
    data = data.reshape(header.height, header.width, header.bands)
    alpha = data[..., -1] if header.hasalpha() else None
    colour = data[..., : header.bands - (alpha is not None)]
    grey = colour.shape[2] == 1
    if grey:
        colour = np.repeat(colour, 3, axis=2)
    block = header.get("exif-data") if header.get_typeof("exif-data") else None
    if header.get("vips-loader").startswith("tiff"):
        block = exif.of_tiff(path)
    return Photograph(_upright(colour, _orientation(header)), alpha, grey, block, header)


def write(path: Path, photograph: Photograph, pixels: np.ndarray) -> None:
    """Write ``pixels``, upright as :func:`read` gave them, with everything else as it was.

    The file appears whole or not at all.

    Args:
        path: Its end says the format.
        photograph: What was read.
        pixels: ``(H, W, 3)``, uint8 or uint16 as in ``photograph``.

    Raises:
        InputError: It can't be written there.
    """
    pyvips = vips()
    header = photograph.header
    if pixels.dtype == np.uint16 and path.suffix.lower() not in DEEP:
        raise InputError(f"{path}: the image has 16 bits, which {', '.join(DEEP)} hold")
    data = _stored(pixels, _orientation(header))
    if photograph.grey:
        data = np.rint(data.mean(axis=2, keepdims=True, dtype=np.float32)).astype(data.dtype)
    if photograph.alpha is not None:
        data = np.concatenate([data, photograph.alpha[..., None]], axis=2)
    image = pyvips.Image.new_from_array(np.ascontiguousarray(data))
    image = image.copy(interpretation=header.interpretation, xres=header.xres, yres=header.yres)
    for name in header.get_fields():
        if name not in LAYOUT:
            image.set_type(header.get_typeof(name), name, header.get(name))
    if photograph.exif is not None:
        image.set_type(pyvips.GValue.blob_type, "exif-data", photograph.exif)
    suffix = path.suffix.lower()
    more = {"bigtiff": data.nbytes > CLASSIC} if suffix in TIFF else {}
    try:
        with written_whole(path.parent) as scratch:
            image.write_to_file(str(scratch / path.name), **SAVERS[suffix], **more)
            if suffix in TIFF and photograph.exif is not None:
                exif.into_tiff(scratch / path.name, photograph.exif)
    except pyvips.Error as error:
        raise InputError(f"{path}: can't be written ({_reason(error)})") from None
    except OSError as error:
        raise not_written(path, error) from None


def _orientation(header: Any) -> int:
    return header.get("orientation") if header.get_typeof("orientation") else 1


def _upright(x: np.ndarray, orientation: int) -> np.ndarray:
    """Turn what is stored as EXIF says; rain falls and light comes from above in upright ones."""
    turned = {
        2: lambda: x[:, ::-1],
        3: lambda: x[::-1, ::-1],
        4: lambda: x[::-1],
        5: lambda: x.swapaxes(0, 1),
        6: lambda: np.rot90(x, -1),
        7: lambda: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(x),
    }
    return turned[orientation]() if orientation in turned else x


def _stored(x: np.ndarray, orientation: int) -> np.ndarray:
    """What :func:`_upright` turned, turned back; a quarter turn is undone by the other one."""
    return _upright(x, {6: 8, 8: 6}.get(orientation, orientation))


def compare(path: Path, before: np.ndarray, after: np.ndarray, width: int = 2400) -> None:
    """Write both beside each other, each made smaller to half of ``width`` pixels at most."""
    pyvips = vips()
    sides = []
    for pixels in (before, after):
        image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels))
        image = image.copy(interpretation="rgb16" if pixels.dtype == np.uint16 else "srgb")
        image = image.colourspace("srgb")
        sides.append(image.resize(min(1, width / 2 / image.width)))
    joined = sides[0].join(sides[1], "horizontal", shim=8, background=[255])
    try:
        with written_whole(path.parent) as scratch:
            joined.write_to_file(str(scratch / path.name), Q=92)
    except pyvips.Error as error:
        raise InputError(f"{path}: can't be written ({_reason(error)})") from None
    except OSError as error:
        raise not_written(path, error) from None
