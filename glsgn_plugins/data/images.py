"""Reading and encoding images: what isn't whole or isn't RGB is named.

OpenCV gives ``None`` for a file that it can't read, half a picture for one that is cut short, and
wrong colours for CMYK, all without a word.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from glsgn_plugins.errors import InputError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
END_MARKERS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
MODE_NAMES = {"L": "grey", "1": "black and white", "RGBA": "RGB with transparency"}
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""


@dataclass(frozen=True)
class Header:
    """What a file says of its image without the pixels being decoded.

    Attributes:
        height: In pixels, as shown: EXIF's orientation is regarded.
        width: Likewise.
        channels: ``"RGB"``, ``"CMYK"``, ``"grey"``, ``"RGB with transparency"`` or Pillow's mode.
        bits: Per channel.
        frames: More than 1 for an animation or several pages.
    """

    height: int
    width: int
    channels: str
    bits: int
    frames: int

    @property
    def size(self) -> str:
        """For messages."""
        return f"{self.width}x{self.height} pixels"


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        InputError: It is missing, empty or not readable.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check it") from None
    if not content:
        raise InputError(f"{path}: empty, 0 bytes; copy it again or remove it")
    return content


def read_header(path: Path) -> Header:
    """Look at an image without decoding it.

    Raises:
        InputError: The file is missing, no image, or cut short.
    """
    try:
        with _open(path) as image:
            mode, kind = image.mode, image.format
            width, height = image.size
            # Of a PNG, Pillow would decode the pixels to look for EXIF after them.
            known = kind != "PNG" or "exif" in image.info
            if known and image.getexif().get(0x0112) in SIDEWAYS:
                width, height = height, width
            tags = getattr(image, "tag_v2", {})
            frames = getattr(image, "n_frames", 1)
        with path.open("rb") as file:
            start = file.read(25)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))  # cameras and editors may append a little after the end
            end = file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnidentifiedImageError, OSError, SyntaxError, struct.error, ValueError) as error:
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path}: empty, 0 bytes; copy it again or remove it") from None
        raise InputError(f"{path}: not an image that can be read ({error}); remove it") from None
    _check_end(path, end, kind)
    # Pillow reads RGB of 16 bits as 8, so its mode doesn't tell.
    bits = 8
    if kind == "PNG":
        bits = start[24]
    elif kind == "TIFF":
        bits = int(max(tags.get(258, (1,))))
    channels = MODE_NAMES.get(mode, "grey" if mode.startswith("I") else mode)
    return Header(height, width, channels, bits, frames)


_opening = threading.Lock()


def _open(path: Path) -> Image.Image:
    """Pillow refuses images of 16K for fear of their decoding, which is not what we want of it."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_end(path: Path, end: bytes, kind: str | None) -> None:
    """A PNG or JPEG has its end marker near its end; other kinds aren't judged."""
    if END_MARKERS.get(kind or "", b"") not in end:
        raise InputError(f"{path}: cut short, its end is missing; copy it again or remove it")


def read_image(path: Path) -> NDArray[Any]:
    """Decode an image, turned as EXIF says.

    Returns:
        ``(H, W, 3)``, RGB, uint8 or uint16. Grey becomes RGB, transparency is left out.

    Raises:
        InputError: The file is missing, empty, cut short, no image, CMYK, animated, or of more
            than 16 bits.
    """
    content = read_bytes(path)
    kind = "PNG" if content[1:4] == b"PNG" else "JPEG" if content[:2] == b"\xff\xd8" else None
    _check_end(path, content[-4096:], kind)
    if kind == "JPEG":
        check_kind(path, "CMYK" if _jpeg_components(content) == 4 else "RGB", frames=1)
    else:
        check_kind(path, "RGB", _frames(content))
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV refuses it ({error.err}); is it too large?") from None
    if image is None:
        raise InputError(f"{path}: not an image that can be read; copy it again or remove it")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: {image.dtype} values; expected 8 or 16 bits, convert it")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _jpeg_components(content: bytes) -> int:
    """Colour components that a JPEG's frame header names; 0 where none is found."""
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return content[at + 9]
        at += 2 + length
    return 0


def check_kind(path: Path, channels: str, frames: int) -> None:
    """Refuse what isn't one picture in colours of its own; arguments as of :class:`Header`.

    Raises:
        InputError: It is CMYK or has several frames; the first one isn't what anyone means.
    """
    if channels == "CMYK":
        raise InputError(f"{path}: CMYK, whose colours depend on a printer; convert it to sRGB")
    if frames > 1:
        raise InputError(f"{path}: {frames} frames or pages; expected one image, extract it")


def _frames(content: bytes) -> int:
    # Only these kinds have several, and Pillow takes a while to count TIFF's pages.
    animated = b"acTL" in content[:4096] or b"ANIM" in content[:64] or content[:3] == b"GIF"
    if animated or content[:2] in (b"II", b"MM"):
        with Image.open(io.BytesIO(content)) as image:
            return getattr(image, "n_frames", 1)
    return 1


def png(image: NDArray[Any]) -> bytes:
    """``(H, W, 3)``, RGB, uint8 or uint16, as PNG: the same bytes for the same pixels."""
    # Level 1 with the filter that OpenCV chooses: 4K in half a second, a tenth larger than 9.
    done, content = cv2.imencode(
        ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not done:
        raise InputError("OpenCV could not encode a PNG; is there enough memory?")
    return bytes(content)


def image_files(root: Path) -> Iterator[Path]:
    """Image files under a folder, at any depth, sorted by their path; hidden ones are left out.

    Folders that are links are followed, each folder once, so that a link loop ends.
    """
    seen = set()
    found = []
    for folder, names, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(n for n in names if not n.startswith("."))
        found += [
            Path(folder, name)
            for name in files
            if Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")
        ]
    yield from sorted(found)
